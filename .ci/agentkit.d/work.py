"""Work: what `run` is sent, and what the agents' reports mean for the task."""

from expect import ID, expect, until


def run_message(task, session, name, payload, context):
    """The whole message, with every name that the task may be looked for under."""
    return {
        "senderId": "opscore_system_id", "messageType": "workflow_task", "payload": payload, "sessionContext": context,
        "taskId": task, "task_name": name, "opscore_session_id": session, "opscore_task_id": task,
    }


def play(platform, opscore, server):
    agent = platform.register("worker-1", ["Summarize"])
    done_by_reports(platform, opscore, agent)
    failed_and_refused(platform, opscore, agent)
    taken_away(platform, opscore, agent)


def until_status(opscore, task, status):
    return until(f"task {task} is {status}", lambda: (shown := opscore.task(task)).get("status") == status and shown)


def done_by_reports(platform, opscore, agent):
    """BUSY, then IDLE with details: the task is done, and they are its output."""
    for answers_first, given, payload in [(False, '{"text": "words", "n": null}', {"text": "words", "n": None}),
                                          (True, "plain words", {"input": "plain words"})]:
        agent.answers_first = answers_first
        said = {"summary": "short", "n": [1.5, None], "answered first": answers_first}
        agent.endings.append(("IDLE", said))
        count = len(agent.runs) + 1
        task = opscore.submit(task_type="summarize", input=given)
        message = platform.given("worker-1", count)
        session = opscore.task(task).get("session_id")
        expect("the session of a task", ID, session)
        expect(f"POST /v1/agents/worker-1/run of a task with input {given}",
               run_message(task, session, "summarize", payload, {"sessionId": session, "taskId": task}), message)
        done = until_status(opscore, task, "completed")
        expect("its output is the details of the completing report", said, done["result"].get("output_data"))
        until("its agent's newest state is that report", lambda: opscore.state("worker-1").body.get("details") == said)
    agent.answers_first = False


def failed_and_refused(platform, opscore, agent):
    """503 costs nothing, ERROR costs an attempt, and an agent in error waits until it is well."""
    agent.refusals.append(503)
    agent.endings.append(("ERROR", {"error": "out of paper"}))
    count = len(agent.runs)
    task = opscore.submit(task_type="summarize", input="x", max_attempts=2)
    platform.given("worker-1", count + 2)
    attempts = f"/api/v1/tasks/{task}/history"
    failed = until("the attempt has failed", lambda: [attempt for attempt in opscore.get(attempts).body["attempts"]
                                                      if attempt.get("outcome") == "failed"])
    expect("the message of the failed attempt", "out of paper", failed[0].get("message"))
    until("it is in error", lambda: opscore.state("worker-1").body["state"] == "ERROR")
    platform.say("worker-1", "IDLE", None)
    agent.endings.append(("finished", {"opscore_task_id": task, "text": "now it is done"}))
    message = platform.given("worker-1", count + 3)
    expect("the task comes again under the same id", task, message["opscore_task_id"])
    done = until_status(opscore, task, "completed")
    expect("its output", {"opscore_task_id": task, "text": "now it is done"}, done["result"].get("output_data"))


def taken_away(platform, opscore, agent):
    """What an agent holds that leaves goes to another, and what it says later counts no more."""
    agent.gate.clear()
    count, finished = len(agent.runs), agent.finished
    task = opscore.submit(task_type="summarize", input="x")
    platform.given("worker-1", count + 1)
    until("worker-1 says that it is busy", lambda: opscore.state("worker-1").body["state"] == "BUSY")
    platform.deregister("worker-1")
    platform.register("worker-2", ["summarize"])
    expect("the task goes to worker-2", task, platform.given("worker-2", 1)["taskId"])
    done = until_status(opscore, task, "completed")
    agent.gate.set()
    until("worker-1 has reported all the same", lambda: agent.finished > finished)
    expect("the task is as it was", done, opscore.task(task))
