"""The orchestrator under test: the binary, with the face of the platform and a database on disk."""

import os
import signal
import subprocess
import sys
import threading


class Server:
    """One process of `eap serve`; the folder outlives it."""

    def __init__(self, eap, folder, platform_url, key, secrets):
        self.log = []
        for name, text in [("operator.key", key), ("agentkit.secret", "\n".join(secrets))]:
            with open(os.path.join(folder, name), "w") as file:
                file.write(text + "\n")
        command = [eap, "serve", "--listen", "127.0.0.1:0", "--database", f"sqlite:{os.path.join(folder, 'eap.db')}",
                   "--operator-key-file", os.path.join(folder, "operator.key"),
                   "--agentkit-url", platform_url, "--agentkit-secret-file", os.path.join(folder, "agentkit.secret")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EAP_")}
        self.process = subprocess.Popen(command, env={**environment, "EAP_LOG": "warn"}, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        try:
            self.url = self.said_address()
        except BaseException:
            self.process.kill()
            raise
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def said_address(self):
        """Where it serves, as it says once it does."""
        for line in self.process.stderr:
            if "serving on " in line:
                return line.split("serving on ")[1].split(" ")[0]
            self.log.append(line)
        sys.exit(f"agentkit: the server did not start: {''.join(self.log)}")

    def end(self, how=signal.SIGTERM):
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
