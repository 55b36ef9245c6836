"""Workflows: a chain of two steps over two agents of the platform, and its session from the start to the end."""

import uuid

from expect import ID, Like, TEXT, TIME, expect, instant, need, until
from opscore import OpsCore, expect_answer, expect_problems, expect_refusal
from work import run_message

DEFINITION = {
    "id": "wf-1",
    "name": "Summarize and check",
    "version": "1.0",
    "tasks": [
        {"taskId": "t1", "name": "summarize it", "agentCapability": "condense", "parameters": {"unused": 1},
         "nextTaskId": "t2", "maxRetries": 3},
        {"taskId": "t2", "name": "check it", "agentCapability": "verify",
         "parameters": {"strict": True, "previous": "loses"}, "nextTaskId": None},
    ],
}


def play(platform, opscore, server, start_again):
    first, second = platform.register("flow-1", ["condense"]), platform.register("flow-2", ["verify"])
    session = two_steps(platform, opscore, first, second)
    a_step_that_fails(platform, opscore, first)
    a_stored_one(opscore, first, second)
    refusals(opscore, server.url, session)
    opscore = over_a_kill(platform, opscore, first, second, start_again)
    gone(platform, opscore, session)


def triggered(opscore, **body):
    """The id of a session that was started for flow-1."""
    answer = opscore.trigger("flow-1", body)
    need(f"POST a workflow by {list(body)} for flow-1",
         (202, {"sessionId": ID, "workflowId": DEFINITION["id"], "message": TEXT}), (answer.status, answer.body))
    return answer.body["sessionId"]


def ended(opscore, session, status):
    """The session, once it has come to its end."""
    path = f"the session {session} is {status}"
    return until(path, lambda: (shown := opscore.session(session).body).get("status") == status and shown)


def view(session, status, steps, **members):
    """A session with every member, null where there is nothing."""
    return {"sessionId": session, "workflowId": "wf-1", "agentId": "flow-1", "status": status, "startTime": TIME,
            "endTime": None, "result": None, "error": None, "steps": steps, **members}


def step(place, status, attempts, **members):
    told = DEFINITION["tasks"][place]
    return {"taskId": told["taskId"], "name": told["name"], "status": status, "attempts": attempts, **members}


def two_steps(platform, opscore, first, second):
    """The second step goes to the agent that has its capability, with what came out of the first."""
    for agent in (first, second):
        agent.gate.clear()
    summary, verdict = {"summary": "short", "n": [1.5, None]}, {"verdict": "fine"}
    first.endings.append(("IDLE", summary))
    second.endings.append(("FINISHED", verdict))
    session = triggered(opscore, workflowDefinition=DEFINITION, initialPayload={"text": "some words"})

    def context(name):
        return {"workflowId": "wf-1", "sessionId": session, "taskId": name}

    message = platform.given("flow-1", 1)
    t1 = message.get("opscore_task_id")
    expect("POST /v1/agents/flow-1/run of the first step",
           run_message(ID, session, "summarize it", {"text": "some words"}, context("t1")), message)
    until("flow-1 says that it is busy", lambda: opscore.state("flow-1").body["state"] == "BUSY")
    running = {"eapTaskId": t1, "agentId": "flow-1", "startTime": TIME}
    steps = [step(0, "running", 1, **running), step(1, "pending", 0)]
    expect_answer("GET the session while the first step runs", 200, view(session, "running", steps),
                  opscore.session(session))
    first.gate.set()
    message = platform.given("flow-2", 1)
    t2 = message.get("opscore_task_id")
    expect("POST /v1/agents/flow-2/run of the second step",
           run_message(ID, session, "check it", {"strict": True, "previous": summary}, context("t2")), message)
    until("flow-2 says that it is busy", lambda: opscore.state("flow-2").body["state"] == "BUSY")
    done = step(0, "completed", 1, **running, endTime=TIME, result=summary)
    running = {"eapTaskId": t2, "agentId": "flow-2", "startTime": TIME}
    expect_answer("GET the session while the second step runs", 200,
                  view(session, "running", [done, step(1, "running", 1, **running)]), opscore.session(session))
    second.gate.set()
    shown = ended(opscore, session, "completed")
    steps = [done, step(1, "completed", 1, **running, endTime=TIME, result=verdict)]
    completed = view(session, "completed", steps, endTime=TIME, result=verdict)
    if expect("GET the session once it is completed", completed, shown):
        order = [shown["startTime"]] + [part[name] for part in shown["steps"] for name in ("startTime", "endTime")]
        times = [instant(time) for time in order + [shown["endTime"]]]
        expect("its times are in order", sorted(times), times)
    task = opscore.task(t2)
    known = {"status": "completed", "task_type": "verify", "session_id": session, "max_attempts": 4}
    expect("the task of the second step", known, {name: task.get(name) for name in known})
    return session


def a_step_that_fails(platform, opscore, agent):
    """One attempt more than maxRetries, then the session has failed."""
    count = len(agent.runs)
    steps = [{**DEFINITION["tasks"][0], "maxRetries": 1}, DEFINITION["tasks"][1]]
    agent.endings += [("ERROR", {"error": "out of paper"}), ("ERROR", {"message": "still out of paper"})]
    session = triggered(opscore, workflowDefinition={**DEFINITION, "tasks": steps})
    message = platform.given("flow-1", count + 1)
    expect("without initialPayload the first step gets its parameters", {"unused": 1}, message.get("payload"))
    until("flow-1 is in error", lambda: opscore.state("flow-1").body["state"] == "ERROR")
    platform.say("flow-1", "IDLE", None)
    again = platform.given("flow-1", count + 2)
    expect("the step is tried again as the same task", message.get("opscore_task_id"), again.get("opscore_task_id"))
    shown = ended(opscore, session, "failed")
    reason = Like("a text with the reason", lambda told: "still out of paper" in str(told))
    failed = step(0, "failed", 2, eapTaskId=again.get("opscore_task_id"), agentId="flow-1", startTime=TIME,
                  endTime=TIME, error=reason)
    expect("GET the session once it has failed", view(session, "failed", [failed, step(1, "pending", 0)], endTime=TIME,
                                                      error="step t1 failed: still out of paper"), shown)
    until("flow-1 is in error", lambda: opscore.state("flow-1").body["state"] == "ERROR")
    platform.say("flow-1", "IDLE", None)


def a_stored_one(opscore, first, second):
    """One that is kept is started by its id."""
    expect("POST /api/v1/workflows", 201, opscore.post("/api/v1/workflows", DEFINITION).status)
    first.endings.append(("IDLE", {"summary": "of a stored one"}))
    second.endings.append(("IDLE", {"verdict": None}))
    shown = ended(opscore, triggered(opscore, workflowDefinitionId=DEFINITION["id"]), "completed")
    expect("the results of its steps", [{"summary": "of a stored one"}, {"verdict": None}],
           [part.get("result") for part in shown["steps"]])


def refusals(opscore, url, session):
    path = "/v1/opscore/agent/flow-1/workflow"
    stored = {"workflowDefinitionId": "never-stored"}
    missing, wrong = OpsCore(url), OpsCore(url, "a key that nobody has made")
    for what, ask in [("POST a workflow", lambda who: who.post(path, stored)),
                      ("GET a session", lambda who: who.session(session))]:
        expect_refusal(f"{what} without a key", 401, "Authorization header missing", ask(missing))
        expect_refusal(f"{what} with a wrong key", 401, "Invalid authentication credentials", ask(wrong))
    expect_refusal("POST a workflow that was never stored", 404, TEXT, opscore.post(path, stored))
    answer = opscore.trigger("nobody-here", {"workflowDefinition": DEFINITION})
    expect_refusal("POST a workflow for an agent that nobody knows", 404, TEXT, answer)
    problems = Like("a list of problems", lambda detail: isinstance(detail, list) and detail and all(
        isinstance(problem, dict) and problem.keys() == {"type", "loc", "msg"} for problem in detail))
    for what, body in [("neither an id nor a definition", {"initialPayload": {}}),
                       ("both an id and a definition", {**stored, "workflowDefinition": DEFINITION})]:
        expect_answer(f"POST a workflow with {what}", 422, {"detail": problems}, opscore.post(path, body))
    expect_problems("POST a workflow that is no JSON", [("json_invalid", ["body"])], opscore.post(path, b"{"))
    steps = [{key: value for key, value in DEFINITION["tasks"][0].items() if key != "name"}]
    answer = opscore.trigger("flow-1", {"workflowDefinition": {**DEFINITION, "version": 1, "tasks": steps}})
    expect_problems("POST a workflow with a version that is no text and a step without a name",
                    [("type_error", ["body", "workflowDefinition", "version"]),
                     ("missing", ["body", "workflowDefinition", "tasks", 0, "name"])], answer)
    for what, change in [("a circle", {"nextTaskId": "t1"}), ("a next step that is not there", {"nextTaskId": "t9"}),
                         ("a taskId that comes twice", {"taskId": "t1"}),
                         ("a capability that no agent has", {"agentCapability": "levitate"})]:
        steps = [DEFINITION["tasks"][0], {**DEFINITION["tasks"][1], **change}]
        answer = opscore.trigger("flow-1", {"workflowDefinition": {**DEFINITION, "tasks": steps}})
        expect_answer(f"POST a workflow with {what}", 422, {"detail": problems}, answer)
    for unknown in (str(uuid.uuid4()), "no-session"):
        expect_refusal(f"GET the session {unknown}", 404, TEXT, opscore.session(unknown))


def over_a_kill(platform, opscore, first, second, start_again):
    """A session whose server is killed goes on, and nothing is given twice."""
    first.gate.clear()
    counts = len(first.runs) + 1, len(second.runs) + 1
    first.endings.append(("IDLE", {"summary": "from before"}))
    second.endings.append(("IDLE", {"verdict": "from after"}))
    session = triggered(opscore, workflowDefinition=DEFINITION)
    platform.given("flow-1", counts[0])
    until("flow-1 says that it is busy", lambda: opscore.state("flow-1").body["state"] == "BUSY")
    before = opscore.session(session)
    opscore, _ = start_again()
    expect("GET the session after kill -9", before, opscore.session(session))
    first.gate.set()
    shown = ended(opscore, session, "completed")
    expect("its result", {"verdict": "from after"}, shown["result"])
    expect("the second step's payload over kill -9", {"strict": True, "previous": {"summary": "from before"}},
           second.runs[-1].get("payload"))
    expect("how often the steps were given to the platform", counts, (len(first.runs), len(second.runs)))
    return opscore


def gone(platform, opscore, session):
    """Agents that left have no state; what they did is still there."""
    for agent in ("flow-1", "flow-2"):
        platform.deregister(agent)
        shown, told = opscore.state(agent), opscore.report(agent, "IDLE")
        expect_refusal(f"GET the state of {agent} after DEREGISTER", 404, f"No state found for agent {agent}", shown)
        expect_refusal(f"POST the state of {agent} after DEREGISTER", 404, f"Agent {agent} not found", told)
    expect("GET the session whose agents left", "completed", opscore.session(session).body.get("status"))
