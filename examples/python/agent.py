"""How do I write an agent in Python, with nothing but its standard library?

    EAP_URL=http://127.0.0.1:8080 python3 examples/python/agent.py

It registers, beats, asks for tasks by long-poll, counts words and reports; it outlives restarts of the server.
"""

import http.client, json, os, random, signal, sys, threading, time, urllib.parse, uuid

URL = urllib.parse.urlsplit(os.environ.get("EAP_URL", "http://127.0.0.1:8080"))
SECRET = {"X-Registration-Token": os.environ.get("EAP_REGISTRATION_SECRET", "")}
CARD = {"name": "AGENT-PYTHON-01", "instance_id": str(uuid.uuid4()), "capabilities": ["word_count"],
        "max_concurrent_tasks": 1, "features": ["pull.v1", "directives.v1"]}


def word_count(text):  # the agent's own work
    return {"words": len(text.split()), "language": "python"}


def post(path, body, headers, timeout=10):
    """One exchange: the status and the JSON that came. Without an answer the status is 0."""
    connection = getattr(http.client, URL.scheme.upper() + "Connection")(URL.netloc, timeout=timeout)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    except (OSError, http.client.HTTPException, ValueError):
        return 0, None
    finally:
        connection.close()


def until_definitive(exchange, longest=0.5):
    """Repeats until the answer will not change, with pauses that grow to half a minute, with full jitter."""
    while True:
        status, answer = exchange()
        if 200 <= status < 500 and status not in (401, 408, 425, 429):
            return status, answer
        print(f"no usable answer from {URL.geturl()} (status {status}), trying again", file=sys.stderr)
        time.sleep(random.uniform(0, longest))
        longest = min(30, longest * 2)


class Agent:
    def __init__(self):
        self.held, self.lock, self.me = {}, threading.Lock(), None
        self.register(None)

    def register(self, refused):
        """Joins, or comes back: the same name and instance keep their id. One thread does it for both."""
        with self.lock:
            if self.me is refused:
                path = URL.path.rstrip("/") + "/api/v1/agents/external/register"
                status, answer = until_definitive(lambda: post(path, CARD, SECRET))
                if status != 201:
                    sys.exit(f"not registered: {answer['detail']}")
                print("online as", answer["agent_id"], flush=True)
                self.me = answer

    def call(self, name, body, task="", timeout=10):
        me = self.me
        path = me["endpoints"][name].replace("{task_id}", task)
        status, answer = post(path, body, {"X-Agent-Token": me["auth_token"]}, timeout)
        if status == 401:  # the orchestrator does not know us, or not any more
            self.register(me)
        return status, answer

    def beat(self):
        while True:
            tasks = [{"task_id": task, "lease_id": lease} for task, lease in list(self.held.items())]
            self.call("heartbeat", {"status": "healthy", "tasks_in_progress": len(tasks), "tasks": tasks})
            time.sleep(self.me["lease_seconds"] / 3)

    def work(self):
        ask = {"request_id": str(uuid.uuid4()), "wait_seconds": 25}  # the same id gets a lost answer again
        status, answer = until_definitive(lambda: self.call("lease", ask, timeout=40))
        if status >= 300:
            sys.exit(f"no tasks: {answer['detail']}")
        for task in (answer or {}).get("tasks", []):
            result = {key: task[key] for key in ("task_id", "lease_id", "attempt")}
            self.held[task["task_id"]] = task["lease_id"]  # renewed by heartbeats until the result is answered
            try:
                result |= {"status": "completed", "output_data": word_count(task["input_data"])}
            except Exception as error:
                result |= {"status": "failed", "error_code": "HANDLER_ERROR", "error_message": repr(error)}
            until_definitive(lambda: self.call("result", result, task["task_id"]))
            del self.held[task["task_id"]]


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: sys.exit())
    agent = Agent()
    threading.Thread(target=agent.beat, daemon=True).start()
    try:
        while True:
            agent.work()
    finally:  # what is held goes back to the queue
        post(agent.me["endpoints"]["deregister"], {"reason": "stopped"}, {"X-Agent-Token": agent.me["auth_token"]})
