"""OpenCode's two sides against ours: an agent of its own at our server, and an orchestrator of its own with our agent."""

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

from models import Artifact, Assignment, Heartbeat, Registered, Registration, Result

EAP = os.path.abspath(sys.argv[1])
BASE = "/api/v1/agents/external"


def call(url, model=None, headers=None, method="POST"):
    """The status and the body's text of a call."""
    body = None if model is None else model.model_dump_json(exclude_none=True).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(what, look, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.02)
    sys.exit(f"not within {seconds} s: {what}")


def eap(*arguments, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EAP_")}
    return subprocess.Popen([EAP, *arguments], env={**environment, "EAP_LOG": "error"}, text=True, **options)


def stop(process):
    process.send_signal(signal.SIGTERM)
    if process.wait(30) != 0:
        sys.exit(f"{process.args[1]} ended with {process.returncode}")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers calls with what its server's `answers` make of the path and the body."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.do_POST()

    def do_DELETE(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, answer = self.server.answers(self.path, self.headers, body)
        text = b"" if answer is None else answer.encode()
        self.send_response(status)
        if text:
            self.send_header("content-type", "application/json")
        if status != 204:
            self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def listen(answers):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers = answers
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def its_agent_at_our_server():
    """OpenCode's agent registers, beats, and does a task that our server posts to it with its own token."""
    token, assigned = [], []

    def answers(path, headers, body):
        if path == "/health":
            return 200, '{"status": "healthy"}'
        if headers.get("X-Agent-Token") not in token:
            return 401, '{"detail": "not our orchestrator"}'
        assignment = Assignment.model_validate_json(body)
        assigned.append(assignment)
        result = Result(task_id=assignment.task_id, status="completed", tokens_used=450, execution_time_ms=1500.0,
                        artifacts=[Artifact(path="router.py", content="router = APIRouter()\n")],
                        output_data={"length": len(assignment.input)})
        return 200, result.model_dump_json()

    agent, endpoint = listen(answers)
    server = eap("serve", "--listen", "127.0.0.1:0", "--database", "memory:", stderr=subprocess.PIPE)
    try:
        line = server.stderr.readline()
        url = re.search(r"http://[\d.]+:\d+", line)
        if url is None:
            sys.exit(f"the server does not say where it is: {line}")
        url = url.group()
        card = Registration(name="AGENT-EXT-PYTHON-01", version="1.2.0", capabilities=["code_generation"],
                            endpoint_url=endpoint, metadata={"maintainer": "OpenCode Team", "runtime": "python"})
        status, body = call(f"{url}{BASE}/register", card)
        assert status in (200, 201), (status, body)
        registered = Registered.model_validate_json(body)
        token.append(registered.auth_token)
        beat = Heartbeat(status="healthy", current_load=0.5, metrics={"memory_usage": 128, "uptime_seconds": 3600})
        status, body = call(f"{url}{BASE}/{registered.agent_id}/heartbeat", beat,
                            {"X-Agent-Token": registered.auth_token})
        assert status in (200, 204), (status, body)
        submitted = eap("task", "submit", "--url", url, "--capability", "code_generation", "--input",
                        "Write a FastAPI router", "--wait", "--json", stdout=subprocess.PIPE)
        out, _ = submitted.communicate(timeout=30)
        assert submitted.returncode == 0, out
        task = json.loads(out)
        # What watchers are shown is the result that the models know.
        result = Result.model_validate_json(json.dumps(task["result"]))
        assert result.artifacts[0].content == "router = APIRouter()\n" and result.tokens_used == 450, result
        assert result.output_data == {"length": len("Write a FastAPI router")}, result
        assert [str(one.task_id) for one in assigned] == [task["task_id"]], assigned
    finally:
        stop(server)
        agent.shutdown()


def our_agent_at_its_orchestrator():
    """OpenCode's orchestrator takes our agent in, hears its beats, and posts it a task with the agent's own token."""
    token, beats, cards = "a-token-that-opencode-made", [], []

    def answers(path, headers, body):
        if path == f"{BASE}/register":
            cards.append(Registration.model_validate_json(body))
            answer = Registered(agent_id=str(uuid.uuid4()), status="registered", auth_token=token,
                                heartbeat_interval_seconds=1)
            return 201, answer.model_dump_json()
        if headers.get("X-Agent-Token") != token:
            return 401, '{"detail": "Invalid token"}'
        if path.endswith("/heartbeat"):
            beats.append(Heartbeat.model_validate_json(body))
            return 204, None
        return 404, '{"detail": "Not Found"}'

    orchestrator, url = listen(answers)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    agent = eap("agent", "run", "--name", "AGENT-WC-01", "--capability", "word_count", "--url", url, "--transport",
                "push", "--listen", address.removeprefix("http://"), "--", "wc", "-w", stderr=subprocess.DEVNULL)
    try:
        until("our agent beats twice", lambda: len(beats) >= 2)
        assert cards[0].name == "AGENT-WC-01" and cards[0].endpoint_url == address, cards
        assignment = Assignment(task_id=uuid.uuid4(), task_type="word_count", input="one two three")
        status, body = call(f"{cards[0].endpoint_url}/task", assignment, {"X-Agent-Token": token})
        assert status == 200, (status, body)
        result = Result.model_validate_json(body)
        assert result.task_id == assignment.task_id and result.status == "completed", result
        assert result.output_data["output"].strip() == "3", result
        failing = Assignment(task_id=uuid.uuid4(), task_type="word_count", input="x")
        status, body = call(f"{cards[0].endpoint_url}/task", failing, {"X-Agent-Token": "another"})
        assert status == 401, (status, body)
    finally:
        stop(agent)
        orchestrator.shutdown()


if __name__ == "__main__":
    its_agent_at_our_server()
    our_agent_at_its_orchestrator()
    print("opencode: its agent did a task of our server, and our agent one of its orchestrator")
