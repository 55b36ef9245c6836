"""An AgentKit and an Ops-Core client, in Python without a package, at the real server: `play.py EAP FOLDER`."""

import signal
import sys

import restart
import states
import webhooks
import work
import workflows
from expect import all_held, expect, scene
from kit import Platform
from opscore import OpsCore
from server import Server

EAP, FOLDER = sys.argv[1:3]
KEY = "an operator key of the check in Python"
SECRET, OLDER_SECRET = "the word that the platform signs with", "the word that it signed with before"


def main():
    # A step that takes too long is ended by this signal: what was started is then stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("agentkit: told to stop"))
    platform = Platform(SECRET)
    servers = []

    def start():
        server = Server(EAP, FOLDER, platform.own_url, KEY, [SECRET, OLDER_SECRET])
        servers.append(server)
        opscore = OpsCore(server.url, KEY)
        # Its agents report with a key that can do that and nothing else.
        made = opscore.post("/api/v1/keys", {"name": "agentkit", "scopes": ["agents:report"]})
        expect("make a key with the scope agents:report", 201, made.status)
        platform.notices(server.url, OpsCore(server.url, made.body["key"]))
        return opscore, server

    def start_again():
        servers[-1].end(signal.SIGKILL)
        at[:] = start()
        return at

    def kill_and_start():
        forgotten = restart.before(platform, *at)
        restart.after(platform, *start_again(), forgotten)

    try:
        at = list(start())
        scene(webhooks.play, platform, *at, OLDER_SECRET)
        scene(states.play, platform, *at)
        scene(work.play, platform, *at)
        scene(kill_and_start)
        scene(workflows.play, platform, *at, start_again)
        expect("calls of the server that AgentKit does not serve", [], platform.wrong_calls)
        expect("exit code of the server after SIGTERM", 0, servers[-1].end())
    finally:
        for server in servers:
            server.end()
    held = all_held("agentkit")
    if not held:
        print("the server's last words:", *servers[-1].log[-20:], sep="\n", file=sys.stderr)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
