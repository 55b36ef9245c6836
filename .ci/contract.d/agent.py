"""Does an agent's work with the generated client alone: agent.py URL. The task must come back as the agent reported it."""

import sys

from eap_generated import AuthenticatedClient
from eap_generated.api.agent_side import heartbeat, lease_tasks, register_agent, report_result
from eap_generated.api.tasks import get_task, submit_task
from eap_generated.models import (
    Heartbeat,
    HealthStatus,
    LeaseRequest,
    ProblemBody,
    Registration,
    ResultStatus,
    SubmitTask,
    TaskResult,
    TaskStatus,
)


def expect(response, status):
    assert response.status_code == status, (response.status_code, response.content)
    return response.parsed


def main(url):
    options = {"base_url": url, "timeout": 20.0, "raise_on_unexpected_status": True, "httpx_args": {"trust_env": False}}
    # A server on loopback that has no key asks for none; what is sent is looked at by nobody.
    operator = AuthenticatedClient(token="none-is-configured", **options)
    registration = Registration(name="AGENT-GENERATED", capabilities=["word_count"])
    agent = expect(register_agent.sync_detailed(client=operator, body=registration), 201)
    assert agent.status == "registered", agent
    agent_client = AuthenticatedClient(token=agent.auth_token, prefix="", auth_header_name="X-Agent-Token", **options)

    submitted = expect(submit_task.sync_detailed(client=operator, body=SubmitTask(task_type="word_count", input_="a b c")), 201)
    assert submitted.status == TaskStatus.QUEUED, submitted

    beat = Heartbeat(status=HealthStatus.HEALTHY)
    expect(heartbeat.sync_detailed(agent.agent_id, client=agent_client, body=beat), 204)
    ask = LeaseRequest(request_id="first", max_tasks=1, wait_seconds=5)
    leased = expect(lease_tasks.sync_detailed(agent.agent_id, client=agent_client, body=ask), 200)
    (task,) = leased.tasks
    assert (task.task_id, task.input_data) == (submitted.task_id, "a b c"), task

    words = len(task.input_data.split())
    result = TaskResult.from_dict({
        "task_id": str(task.task_id),
        "status": ResultStatus.COMPLETED.value,
        "output_data": {"words": words},
        "lease_id": str(task.lease_id),
        "attempt": task.attempt,
    })
    accepted = expect(report_result.sync_detailed(agent.agent_id, task.task_id, client=agent_client, body=result), 200)
    assert not accepted.duplicate, accepted
    again = expect(report_result.sync_detailed(agent.agent_id, task.task_id, client=agent_client, body=result), 200)
    assert again.duplicate, "a repeat is told from the first"

    done = expect(get_task.sync_detailed(task.task_id, client=operator), 200)
    assert done.status == TaskStatus.COMPLETED, done
    assert done.result.output_data.to_dict() == {"words": 3}, done.result

    stranger = AuthenticatedClient(token="eap_no_token", prefix="", auth_header_name="X-Agent-Token", **options)
    problem = expect(lease_tasks.sync_detailed(agent.agent_id, client=stranger, body=ask), 401)
    assert isinstance(problem, ProblemBody) and problem.code.value == "INVALID_TOKEN", problem
    print(f"the generated client registered, leased, reported and read back task {task.task_id}")


if __name__ == "__main__":
    main(sys.argv[1])
