"""Webhooks: how they may be signed, and what each is answered."""

import base64
import hashlib
import hmac
import math
import time

from expect import TEXT, TIME, expect
from kit import NOTIFY, Webhook, details, headers, success
from opscore import call, expect_answer, expect_problems, expect_refusal, now

ANOTHER_SECRET = "a word that only one of them knows"
# Nobody asks for it: agents that come only to show a webhook get no work.
CAPABILITY = ["signing"]


def play(platform, opscore, server, older_secret):
    url = server.url
    good_signatures(platform, opscore, url, older_secret)
    bad_signatures(platform, opscore, url)
    events(platform, opscore, url)
    eap_agents(platform, opscore, url)


def good_signatures(platform, opscore, url, older_secret):
    """Each way of signing that section 6 has."""
    times = {
        "seconds": str(int(time.time())),
        "rfc3339-offset": now().isoformat(),
        "rfc3339-z": now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "almost-too-old": str(math.ceil(time.time()) - 295),
        "almost-too-new": str(math.floor(time.time()) + 300),
    }
    for name, timestamp in times.items():
        answer = Webhook(platform.secret, "REGISTER", details(name, CAPABILITY), timestamp).send(url)
        registered = success(f"Agent {name} registered successfully.")
        expect_answer(f"REGISTER {name}, signed at {timestamp}", 200, registered, answer)
        expect(f"GET the state of {name}", 200, opscore.state(name).status)
    upper = Webhook(platform.secret, "register", details("upper", CAPABILITY))
    upper.headers["X-AgentKit-Signature"] = upper.headers["X-AgentKit-Signature"].upper()
    expect("register, in lower case, with the hex in capital letters", 200, upper.send(url).status)
    older = Webhook(older_secret, "REGISTER", details("older-secret", CAPABILITY))
    expect("REGISTER under the second of the live secrets", 200, older.send(url).status)
    standard = Webhook(platform.secret, "REGISTER", details("standard", CAPABILITY))
    timestamp = str(int(time.time()))
    mac = hmac.new(platform.secret.encode(), f"msg-1.{timestamp}.".encode() + standard.body, hashlib.sha256)
    standard.headers = {"webhook-id": "msg-1", "webhook-timestamp": timestamp,
                        "webhook-signature": "v1," + base64.b64encode(mac.digest()).decode()}
    expect_answer("REGISTER standard, by the headers of Standard Webhooks", 200,
                  success("Agent standard registered successfully."), standard.send(url))


def bad_signatures(platform, opscore, url):
    """What is no webhook of the platform: 401, and nobody is registered."""
    def refused(asked, change=lambda webhook: None, secret=platform.secret, timestamp=None):
        webhook = Webhook(secret, "REGISTER", details("stranger", CAPABILITY), timestamp)
        change(webhook)
        expect_refusal(f"REGISTER stranger {asked}", 401, TEXT, webhook.send(url))

    refused("under a wrong secret", secret=ANOTHER_SECRET)
    refused("301 s ago", timestamp=str(math.floor(time.time()) - 301))
    refused("in 301 s", timestamp=str(math.ceil(time.time()) + 301))
    refused("with a time that is none", timestamp="yesterday")
    refused("without the headers", lambda webhook: webhook.headers.clear())
    refused("without the timestamp", lambda webhook: webhook.headers.pop("X-AgentKit-Timestamp"))
    refused("without the signature", lambda webhook: webhook.headers.pop("X-AgentKit-Signature"))
    refused("with an empty signature", lambda webhook: webhook.headers.update({"X-AgentKit-Signature": ""}))
    refused("with another body than was signed", lambda webhook: setattr(webhook, "body", webhook.body + b" "))
    refused("with another time than was signed",
            lambda webhook: webhook.headers.update({"X-AgentKit-Timestamp": str(int(time.time()))}))
    keyed = call(url, "POST", NOTIFY, {"event_type": "FOO"}, opscore.headers)
    expect_refusal("a webhook with the operator key in place of a signature", 401, TEXT, keyed)
    expect_refusal("GET the state of stranger", 404, "No state found for agent stranger", opscore.state("stranger"))


def events(platform, opscore, url):
    """What a webhook that is signed well is answered."""
    def told(event, agent_details, timestamp=None):
        return Webhook(platform.secret, event, agent_details, timestamp)

    came = told("REGISTER", details("events", CAPABILITY))
    registered = success("Agent events registered successfully.")
    expect_answer("REGISTER", 200, registered, came.send(url))
    expect_answer("the same bytes again", 200, {**registered, "duplicate": True}, came.send(url))
    again = told("REGISTER", details("events", CAPABILITY, version="2.0.0"))
    expect_answer("REGISTER again, with another version", 200, registered, again.send(url))
    shown = opscore.get("/api/v1/agents/events").body
    expect("GET /api/v1/agents/events", ("2.0.0", CAPABILITY, 1),
           tuple(shown.get(name) for name in ("version", "capabilities", "max_concurrent_tasks")))
    foo = told("FOO", {}).send(url)
    expect_refusal("event FOO, whatever else is wrong", 400, "Unknown event type: FOO", foo)
    for agent_details in ({"agentName": "no id"}, {"agentId": ""}):
        answer = told("REGISTER", agent_details).send(url)
        expect_refusal(f"REGISTER {agent_details}", 400, "Missing agentId in agent_details for REGISTER event.", answer)
    nameless = {name: value for name, value in details("nameless").items() if name != "agentName"}
    answer = told("REGISTER", {**nameless, "contactEndpoint": "ftp://x"}).send(url)
    expect_problems("REGISTER without agentName and with contactEndpoint ftp://x",
                    [("missing", ["body", "agent_details", "agentName"]),
                     ("value_error", ["body", "agent_details", "contactEndpoint"])], answer)
    garbage = told("REGISTER", {})
    garbage.body = b"{"
    garbage.headers = headers(platform.secret, now().isoformat(), garbage.body)
    expect_problems("a signed body that is no JSON", [("json_invalid", ["body"])], garbage.send(url))
    gone = success("Agent events deregistered successfully.")
    expect_answer("deregister, of the id alone", 200, gone, told("deregister", {"agentId": "events"}).send(url))
    expect_refusal("GET the state of one that left", 404, "No state found for agent events", opscore.state("events"))
    late = told("REGISTER", details("events", CAPABILITY), str(int(time.time()) - 60))
    expect_answer("a REGISTER sent before it left, and late", 200, {**registered, "ignored": "stale"}, late.send(url))
    expect_answer("that late one once more", 200, {**registered, "duplicate": True}, late.send(url))
    expect("GET its state", 404, opscore.state("events").status)
    unknown = told("DEREGISTER", {"agentId": "nobody"}).send(url)
    expect_answer("DEREGISTER of one that never was", 200, success("Agent nobody deregistered successfully."), unknown)
    back = told("REGISTER", details("events", CAPABILITY)).send(url)
    expect_answer("REGISTER of one that left", 200, registered, back)
    expect_answer("GET its state", 200, {"agentId": "events", "state": "UNKNOWN", "details": None, "timestamp": TIME},
                  opscore.state("events"))


def eap_agents(platform, opscore, url):
    """An agent of our own is out of the platform's reach."""
    card = {"name": "AGENT-OWN-01", "version": "1.0.0", "capabilities": CAPABILITY}
    answer = call(url, "POST", "/api/v1/agents/external/register", card)
    own = answer.body.get("agent_id", "") if answer.status == 201 else ""
    expect("an EAP agent registers", 201, answer.status)
    for event in ("REGISTER", "DEREGISTER"):
        webhook = Webhook(platform.secret, event, details(own, CAPABILITY))
        expect_refusal(f"{event} with the id of an EAP agent", 403, TEXT, webhook.send(url))
    expect_refusal("POST the state of an EAP agent", 404, f"Agent {own} not found", opscore.report(own, "IDLE"))
