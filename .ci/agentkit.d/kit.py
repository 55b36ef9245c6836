"""An AgentKit: it signs webhooks, lists its agents and plays them when they get work (docs/protocol.md, section 6)."""

import hashlib
import hmac
import http.server
import json
import threading

from expect import expect, until
from opscore import ACCEPTED, call, expect_answer, expect_refusal, now

NOTIFY = "/v1/opscore/internal/agent/notify"


def headers(secret, timestamp, body):
    """The two headers that say whose a webhook is."""
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return {"X-AgentKit-Timestamp": timestamp, "X-AgentKit-Signature": mac.hexdigest()}


def details(agent, capabilities=("summarize",), **members):
    """What AgentKit tells of an agent."""
    return {"agentId": agent, "agentName": f"Agent {agent}", "version": "1.0.0", "capabilities": list(capabilities),
            "contactEndpoint": "http://127.0.0.1:9000", "metadata": {}, **members}


class Webhook:
    """A webhook, signed once: each time it is sent, the same bytes go out."""

    def __init__(self, secret, event, agent_details, timestamp=None):
        self.body = json.dumps({"event_type": event, "agent_details": agent_details}).encode()
        self.headers = headers(secret, timestamp or now().isoformat(), self.body)

    def send(self, url):
        return call(url, "POST", NOTIFY, self.body, self.headers)


def success(message, **members):
    return {"status": "success", "message": message, **members}


class Agent:
    """An agent that this platform plays."""

    def __init__(self, told):
        self.told = told
        self.runs = []
        # What the work ends in: a state and its details, one for each task; then IDLE with what it was given.
        self.endings = []
        # What `run` answers in place of doing the work, one for each call.
        self.refusals = []
        # The mock answers after the reports, the real one before them.
        self.answers_first = False
        # How many it has worked on to the end.
        self.finished = 0
        # Closed, the work goes on until it is opened.
        self.gate = threading.Event()
        self.gate.set()


class Platform:
    """The platform, which serves on a port of its own."""

    def __init__(self, secret):
        self.secret, self.agents, self.wrong_calls = secret, {}, []
        self.leaving = set()
        self.url, self.opscore = None, None
        handler = type("Handler", (Handler,), {"platform": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.own_url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def notices(self, url, opscore):
        """Where webhooks go, and the client that its agents report with."""
        self.url, self.opscore = url, opscore

    def register(self, agent, capabilities):
        self.agents[agent] = Agent(details(agent, capabilities))
        answer = Webhook(self.secret, "REGISTER", self.agents[agent].told).send(self.url)
        expect_answer(f"REGISTER {agent}", 200, success(f"Agent {agent} registered successfully."), answer)
        return self.agents[agent]

    def deregister(self, agent):
        self.leaving.add(agent)
        del self.agents[agent]
        answer = Webhook(self.secret, "DEREGISTER", {"agentId": agent}).send(self.url)
        self.leaving.discard(agent)
        expect_answer(f"DEREGISTER {agent}", 200, success(f"Agent {agent} deregistered successfully."), answer)

    def given(self, agent, count):
        """The newest message of so many that an agent was given."""
        runs = self.agents[agent].runs
        until(f"{agent} is given {count} tasks by POST /v1/agents/{agent}/run", lambda: len(runs) >= count)
        return runs[count - 1]

    def work(self, name, agent, message):
        """An agent does what it was given, and says so."""
        task = message.get("opscore_task_id")
        self.say(name, "BUSY", {"current_task": task})
        if not agent.gate.wait(60):
            expect(f"the gate of {name} opens", "within a minute", "not within a minute")
        state, said = agent.endings.pop(0) if agent.endings else ("IDLE", {"last_task_result": message.get("payload")})
        self.say(name, state, said)
        agent.finished += 1

    def say(self, agent, state, said):
        was_there, was_leaving = agent in self.agents, agent in self.leaving
        answer = self.opscore.report(agent, state, said)
        if was_there and agent in self.agents:
            expect_answer(f"{agent} reports {state} {said}", 202, ACCEPTED, answer)
        elif was_there or was_leaving:
            # It left meanwhile: the server heard of one of the two first.
            expect(f"{agent}, which is leaving, reports {state} {said}", True, answer.status in (202, 404))
        else:
            expect_refusal(f"{agent}, which left, reports {state} {said}", 404, f"Agent {agent} not found", answer)


class Handler(http.server.BaseHTTPRequestHandler):
    """What AgentKit serves."""

    protocol_version = "HTTP/1.1"
    platform = None

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"status": "healthy"})
        elif self.path == "/v1/agents":
            agents = list(self.platform.agents.values())
            self.answer(200, success("Agents listed.", data=[agent.told for agent in agents]))
        else:
            self.is_wrong("no such path")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = self.path.split("/")
        agent = self.platform.agents.get(parts[3]) if len(parts) == 5 else None
        if agent is None or parts[:3] + parts[4:] != ["", "v1", "agents", "run"]:
            return self.is_wrong("no such agent")
        if self.headers.get("content-type") != "application/json":
            return self.is_wrong(f"content-type {self.headers.get('content-type')}")
        message = json.loads(body)
        refusal = agent.refusals.pop(0) if agent.refusals else None
        agent.runs.append(message)
        if refusal:
            return self.answer(refusal, {"detail": "not now"})
        if agent.answers_first:
            self.answer(202, success("Message accepted.", data={"agentId": parts[3], "dispatch_status": "scheduled"}))
        self.platform.work(parts[3], agent, message)
        if not agent.answers_first:
            self.answer(200, success("Task received."))

    def is_wrong(self, why):
        self.platform.wrong_calls.append(f"{self.command} {self.path}: {why}")
        self.answer(404, {"detail": "Not Found"})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        try:
            self.end_headers()
            self.wfile.write(text)
            self.wfile.flush()
        except ConnectionError:
            # The server that asked was killed.
            self.close_connection = True

    def log_message(self, *_):
        pass
