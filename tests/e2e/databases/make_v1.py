#!/usr/bin/env python3
"""Made v1.db.gz and v1.json with the last server before the turn's lease: every kind of row, and what that server said
of each. It died by SIGKILL while three bodies ran. Kept so that one can see what is in the file; run again (ERRAND_BIN
is the old binary) it makes another such file, and a schema that is gone cannot be made again."""

import gzip
import json
import os
import sqlite3
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "crash"))
sys.dont_write_bytecode = True

from service import FINAL, PATIENCE, ROOT, Client, Server  # noqa: E402

EXACT = '{"exact": [1.10, 9007199254740993, 1e400, "\\u00e9 é \\"\\\\"], "z": 1, "a": {"b": null}}'


class Maker:
    def __init__(self, client):
        self.client = client
        self.ids = {}
        self.bodies = {}  # of what has a key, by name

    def post(self, path, body=None, wanted=200):
        status, text = self.client.ask("POST", path, body.encode() if body else None)
        assert status == wanted, (path, body, status, text)
        return json.loads(text)

    def submit(self, name, task, args="null", more=""):
        body = '{"task":"%s","args":%s%s}' % (task, args, more)
        self.ids[name] = self.post("/tasks", body, 201)["id"]
        if '"key"' in more:
            self.bodies[name] = body

    def await_(self, name, status, done=lambda row: True):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            row = json.loads(self.client.get("/invocations/" + self.ids[name]))
            if row["status"] == status and done(row):
                return
            assert row["status"] == status or row["status"] not in FINAL, row
            time.sleep(0.02)
        raise SystemExit("%s does not become %s" % (name, status))

    def alter(self, name, what):
        self.post("/invocations/%s/%s" % (self.ids[name], what))

    def make_finals(self):
        self.submit("small", "echo", EXACT, ',"key":"k-small","priority":3,"labels":{"colour":"red","größe":"m"}')
        self.submit("large", "echo", '{"text":"%s"}' % ("large " * 800), ',"key":"k-large"')
        self.submit("text", "text", EXACT)
        self.submit("retried", "fail_until", "3")
        self.submit("failed", "broken", "null", ',"labels":{"colour":"blue"}')
        self.submit("failed_twice", "fail", "[1]")
        for name in ("small", "large", "text", "retried"):
            self.await_(name, "succeeded")
        for name in ("failed", "failed_twice"):
            self.await_(name, "failed")
        self.alter("failed_twice", "retry")
        self.await_("failed_twice", "failed", lambda row: row["attempt"] == 2)
        self.submit("cancelled_running", "chatter", '"never"')
        self.await_("cancelled_running", "running", self.has_spoken("cancelled_running"))
        self.alter("cancelled_running", "cancel")
        self.await_("cancelled_running", "cancelled")

    def make_paused(self):
        self.post("/tasks/paused/pause")
        self.submit("cancelled", "paused", "1")
        self.alter("cancelled", "cancel")
        self.submit("cancelled_and_retried", "paused", "2")
        self.alter("cancelled_and_retried", "cancel")
        self.alter("cancelled_and_retried", "retry")
        self.submit("expired", "paused", "3", ',"expires_in":"20ms"')
        self.await_("expired", "failed")
        self.submit("queued", "paused", EXACT, ',"key":"k-queued","expires_in":"36500d","labels":{"colour":"red"}')
        self.submit("queued_large", "paused", '{"text":"%s"}' % ("queued " * 600), ',"priority":0')
        self.submit("scheduled", "echo", EXACT, ',"key":"k-scheduled","run_at":"2999-01-01T00:00:00Z","priority":7,'
                    '"timeout":"1h","max_retries":9,"labels":{"colour":"green"}')  # fmt: skip
        self.submit("between_attempts", "patient", "2")
        self.await_("between_attempts", "scheduled", lambda row: row["attempt"] == 1)
        self.client.ask("PATCH", "/invocations/" + self.ids["between_attempts"], b'{"run_at":"2999-01-01T00:00:00Z"}')

    def make_running(self):
        self.submit("running_native", "chatter", '"go"')
        self.submit("running_command", "waits", '{"a": 1.10}', ',"key":"k-running"')
        self.submit("running_cancelled", "deaf", '"never"')
        self.await_("running_cancelled", "running")
        self.alter("running_cancelled", "cancel")
        self.await_("running_native", "running", self.has_spoken("running_native"))
        self.await_("running_command", "running", lambda row: "begun" in self.log("running_command"))

    def make_deleted(self):
        self.submit("deleted", "echo")
        self.await_("deleted", "succeeded")
        status, _ = self.client.ask("DELETE", "/invocations/" + self.ids["deleted"])
        assert status == 204, status
        return self.ids.pop("deleted")

    def log(self, name):
        return self.client.get("/invocations/%s/log" % self.ids[name])

    def has_spoken(self, name):
        return lambda row: row["progress"] and "two\nholding\n" in self.log(name)

    def snapshot(self, name):
        at = "/invocations/" + self.ids[name]
        status, result = self.client.ask("GET", at + "/result")
        return {"invocation": self.client.get(at), "attempts": self.client.get(at + "/attempts"),
                "log": self.log(name), "result": [status, result if status == 200 else None]}  # fmt: skip


def main():
    with tempfile.TemporaryDirectory(prefix="errand-v1-") as folder:
        with open(os.path.join(HERE, "v1.yaml")) as file:
            config = file.read().replace("$NATIVE", os.path.join(ROOT, "build", "tests", "tasks.so"))
        with open(os.path.join(folder, "errand.yaml"), "w") as file:
            file.write(config)
        server = Server(folder)
        server.start()
        maker = Maker(Client(server.port))
        maker.make_finals()
        maker.make_paused()
        maker.make_running()
        deleted = maker.make_deleted()
        said = {
            "made_by": json.loads(maker.client.get("/version")),
            "invocations": {name: maker.snapshot(name) for name in maker.ids},
            "bodies": maker.bodies,
            "deleted": deleted,
            "stats": json.loads(maker.client.get("/stats"))["invocations"],
        }
        server.kill()
        server.clean_up()
        path = os.path.join(folder, "errand.db")
        database = sqlite3.connect(path)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        with open(path, "rb") as file:
            packed = gzip.compress(file.read(), mtime=0)
    with open(os.path.join(HERE, "v1.db.gz"), "wb") as file:
        file.write(packed)
    with open(os.path.join(HERE, "v1.json"), "w") as file:
        json.dump(said, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
