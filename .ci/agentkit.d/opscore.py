"""A client of Ops-Core, as those who report and those who watch would write it (docs/protocol.md, section 6)."""

import datetime
import http.client
import json
import typing
import urllib.parse

from expect import Like, TEXT, expect


class Answer(typing.NamedTuple):
    """What a call was answered with."""

    status: int
    kind: str
    body: object


def call(base, method, path, body=None, headers=None):
    """Makes one call; `body` is JSON, or the bytes themselves."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {} if data is None else {"content-type": "application/json"}
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=30)
    try:
        connection.request(method, path, data, {**sent, **(headers or {})})
        answer = connection.getresponse()
        text, kind = answer.read(), answer.getheader("content-type")
    finally:
        connection.close()
    try:
        return Answer(answer.status, kind, json.loads(text) if text else None)
    except ValueError:
        return Answer(answer.status, kind, text.decode(errors="replace"))


def now():
    """As Python's users write the time."""
    return datetime.datetime.now(datetime.timezone.utc)


class OpsCore:
    """Calls with one key; without one, calls carry none."""

    def __init__(self, url, key=None, authorization=None):
        self.url = url
        self.headers = {"authorization": authorization or f"Bearer {key}"} if key or authorization else {}

    def get(self, path):
        return call(self.url, "GET", path, headers=self.headers)

    def post(self, path, body=None):
        return call(self.url, "POST", path, body, self.headers)

    def report(self, agent, state, details=None, timestamp=None):
        body = {"agentId": agent, "timestamp": timestamp or now().isoformat(), "state": state}
        return self.post(f"/v1/opscore/agent/{agent}/state", body if details is None else {**body, "details": details})

    def state(self, agent):
        return self.get(f"/v1/opscore/agent/{agent}/state")

    def history(self, agent, query=""):
        return self.get(f"/v1/opscore/agent/{agent}/state/history{query}")

    def trigger(self, agent, body):
        return self.post(f"/v1/opscore/agent/{agent}/workflow", body)

    def session(self, session):
        return self.get(f"/v1/opscore/session/{session}")

    def submit(self, **members):
        """A task by the operators' own API; its id."""
        answer = self.post("/api/v1/tasks", members)
        expect(f"submit a task {members}", 201, answer.status)
        return answer.body["task_id"]

    def task(self, task):
        return self.get(f"/api/v1/tasks/{task}").body


ACCEPTED = {"status": "success", "message": "State update accepted"}


def expect_answer(asked, status, body, answer):
    """Status and body, which is JSON."""
    return expect(asked, (status, "application/json", body), tuple(answer))


def expect_refusal(asked, status, detail, answer):
    """A refusal of this face: one sentence."""
    return expect_answer(asked, status, {"detail": detail}, answer)


def expect_problems(asked, problems, answer):
    """A refusal that lists these problems, each by its type and its place, in any order."""
    def order(listed):
        return sorted(listed, key=lambda problem: (str(problem.get("loc")), str(problem.get("type"))))

    listed = [{"type": kind, "loc": loc, "msg": TEXT} for kind, loc in problems]
    same = Like(order(listed), lambda detail: isinstance(detail, list) and order(listed) == order(detail))
    return expect_answer(asked, 422, {"detail": same}, answer)
