"""States: what Ops-Core's clients are answered when they tell of an agent and when they ask for it."""

import datetime
import time

from expect import TEXT, TIME, at, expect, instant
from kit import Webhook, details
from opscore import ACCEPTED, OpsCore, expect_answer, expect_problems, expect_refusal, now


def play(platform, opscore, server):
    url = server.url
    Webhook(platform.secret, "REGISTER", details("states", ["stating"])).send(url)
    health = OpsCore(url).get("/health")
    expect_answer("GET /health without a key", 200, {"status": "ok"}, health)
    told_and_shown(opscore)
    refusals(opscore, url)


def told_and_shown(opscore):
    """What is told is shown, newest by its own time."""
    unknown = {"agentId": "states", "state": "UNKNOWN", "details": None, "timestamp": TIME}
    expect_answer("GET a state before the first report", 200, unknown, opscore.state("states"))
    none = {"agentId": "states", "states": []}
    expect_answer("GET the history before the first report", 200, none, opscore.history("states"))
    start = now().replace(microsecond=0) - datetime.timedelta(seconds=100)

    def later(seconds):
        return start + datetime.timedelta(seconds=seconds)

    # Each is told with the time as another client would write it.
    reports = [
        (later(0), later(0).timestamp(), "initializing", None),
        (later(20), later(20).strftime("%Y-%m-%dT%H:%M:%SZ"), "BuSy", {"task_id": "t", "n": [1.5, None, {"ä": True}]}),
        (later(10), later(10).astimezone(datetime.timezone(datetime.timedelta(hours=2))).isoformat(), "of its own", {}),
        (later(30), int(later(30).timestamp() * 1000), "FINISHED", {"last_task_result": "fine"}),
    ]
    for then, spelled, state, said in reports:
        answer = opscore.report("states", state, said, spelled)
        expect_answer(f"POST state {state} at {spelled!r}", 202, ACCEPTED, answer)
    listed = [{"agentId": "states", "state": state, "details": said, "timestamp": at(then)}
              for then, _, state, said in sorted(reports, key=lambda report: report[0], reverse=True)]
    expect_answer("GET the newest state, as it was sent", 200, listed[0], opscore.state("states"))
    shown = opscore.history("states")
    expect_answer("GET the history, newest first", 200, {"agentId": "states", "states": listed}, shown)
    two = opscore.history("states", "?limit=2")
    expect_answer("GET the history, two of it", 200, {"agentId": "states", "states": listed[:2]}, two)
    before = now()
    answer = opscore.report("states", "idle", timestamp="yesterday")
    expect_answer("POST state idle at 'yesterday'", 202, ACCEPTED, answer)
    shown = opscore.state("states").body
    expect("its time is that of the server", True, before - datetime.timedelta(seconds=1)
           < instant(shown["timestamp"]) < now() + datetime.timedelta(seconds=1))
    expect("its word", "idle", shown["state"])


def refusals(opscore, url):
    """Each code that section 6 lists, and its body."""
    state = "/v1/opscore/agent/states/state"
    report = {"agentId": "states", "timestamp": time.time(), "state": "idle"}
    missing, wrong = OpsCore(url), OpsCore(url, "a key that nobody has made")
    basic = OpsCore(url, authorization="Basic dTpw")
    for what, client in [("POST", lambda who: who.post(state, report)), ("GET", lambda who: who.get(state)),
                         ("GET the history of", lambda who: who.get(f"{state}/history"))]:
        expect_refusal(f"{what} a state without a key", 401, "Authorization header missing", client(missing))
        expect_refusal(f"{what} a state with a wrong key", 401, "Invalid authentication credentials", client(wrong))
        expect_refusal(f"{what} a state with Basic", 401, "Invalid authentication credentials", client(basic))
    other = opscore.post(state, {**report, "agentId": "another"})
    expect_refusal("POST a state of another agent than in the path", 400,
                   "Agent ID in path does not match agent ID in payload", other)
    expect_refusal("POST the state of nobody", 404, "Agent x not found", opscore.report("x", "IDLE"))
    expect_refusal("GET the state of nobody", 404, "No state found for agent x", opscore.state("x"))
    expect_refusal("GET the history of nobody", 404, "No state found for agent x", opscore.history("x"))
    expect_problems("POST a state {}", [("missing", ["body", name]) for name in ("agentId", "timestamp", "state")],
                    opscore.post(state, {}))
    expect_problems("POST a state with details 5 and state 7",
                    [("type_error", ["body", "details"]), ("type_error", ["body", "state"])],
                    opscore.post(state, {**report, "details": 5, "state": 7}))
    expect_problems("POST a state that is no JSON", [("json_invalid", ["body"])], opscore.post(state, b"{"))
    for limit in ("0", "501", "x"):
        answer = opscore.history("states", f"?limit={limit}")
        expect(f"GET the history with limit={limit}", (422, [["query", "limit"]]),
               (answer.status, [problem.get("loc") for problem in answer.body["detail"]]))
    made = opscore.post("/api/v1/keys", {"name": "reader", "scopes": ["agents:read"]})
    reader = OpsCore(url, made.body["key"])
    expect("GET a state with a key of the scope agents:read", 200, reader.get(state).status)
    expect_refusal("POST a state with a key without agents:report", 403, TEXT, reader.post(state, report))
