"""A server that is killed and started again: what it was told is there, and the platform's list is compared."""

from expect import TIME, expect, until
from kit import Agent, Webhook, details, success
from opscore import expect_answer

UNCHANGED = {"added": [], "changed": [], "removed": [], "skipped": 0}


def view(agent, state, told):
    return {"agentId": agent, "state": state, "details": told, "timestamp": TIME}


def before(platform, opscore, server):
    """An agent that stays, one of which the platform knows nothing, and one whose webhook was lost."""
    platform.register("stays", ["staying"])
    opscore.report("stays", "BUSY", {"current_task": "t"})
    platform.agents["never-told"] = Agent(details("never-told", ["staying"]))
    forgotten = Webhook(platform.secret, "REGISTER", details("forgotten", ["staying"]))
    expect("REGISTER forgotten", 200, forgotten.send(server.url).status)
    return forgotten


def after(platform, opscore, server, forgotten):
    expect_answer("GET the state of one that stays, after kill -9", 200, view("stays", "BUSY", {"current_task": "t"}),
                  opscore.state("stays"))
    until("an agent whose webhook was lost is known", lambda: opscore.state("never-told").status == 200)
    expect_answer("GET its state", 200, view("never-told", "UNKNOWN", None), opscore.state("never-told"))
    until("one of which the platform knows nothing is gone", lambda: opscore.state("forgotten").status == 404)
    answer = success("Agent forgotten registered successfully.", duplicate=True)
    expect_answer("a webhook from before kill -9 once more", 200, answer, forgotten.send(server.url))
    expect("GET its state", 404, opscore.state("forgotten").status)
    platform.agents["also-lost"] = Agent(details("also-lost", ["staying"]))
    # The comparison of the start may still be under way.
    answers = []
    until("POST /api/v1/agentkit/reconcile finds nothing to change", lambda: answers.append(
        opscore.post("/api/v1/agentkit/reconcile")) or answers[-1][2:] == (UNCHANGED,))
    added = [agent for answer in answers for agent in answer.body.get("added", ["no list"])]
    expect("what POST /api/v1/agentkit/reconcile has added", ["also-lost"], added)
