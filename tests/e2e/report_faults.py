#!/usr/bin/env python3
"""A report of a turn that meets a fault of the database is tried again: no invocation stays running, and none is lost,
for want of a write. The faults are triggers that refuse what the server writes."""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "crash"))
sys.dont_write_bytecode = True

from service import FINAL, PATIENCE, ROOT, Client, Server  # noqa: E402

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: 2
log: {level: info}
tasks:
  say: {kind: command, run: [sh, -c, 'echo x >>ran; echo said']}
  fail: {kind: command, run: [sh, -c, 'echo x >>ran; exit 3']}
"""
# name, task, what is refused, how long it is refused, how it ends then
ROWS = [
    ("a start is tried again and the body runs once", "say", "UPDATE ON invocations WHEN new.status IN (3, 5)", "1",
     "succeeded", None),
    ("a result is kept until it can be written", "say", "UPDATE ON invocations WHEN new.status = 5", "1",
     "succeeded", None),
    ("a failure is kept until it can be written", "fail", "INSERT ON errors", "1", "failed", "exit:3"),
    ("an end that cannot be written at all is a failure that says so", "say",
     "UPDATE ON invocations WHEN new.status = 5", "for ever", "failed", "internal"),
]  # fmt: skip


class Case:
    def __init__(self, folder):
        with open(os.path.join(folder, "errand.yaml"), "w") as file:
            file.write(CONFIG)
        self.folder = folder
        self.server = Server(folder)
        self.server.start()
        self.client = Client(self.server.port)

    def sql(self, text):
        with sqlite3.connect(os.path.join(self.folder, "errand.db"), timeout=PATIENCE) as database:
            database.execute(text)
        database.close()

    def log(self):
        with open(os.path.join(self.folder, "log")) as file:
            return file.read()

    def wait(self, what, good):
        until = time.monotonic() + PATIENCE
        while not good():
            if time.monotonic() > until:
                raise AssertionError("waited in vain: " + what)
            time.sleep(0.02)

    def invocation(self, id):
        return json.loads(self.client.get("/invocations/" + id))


def run(case, task, refused, how_long, status, error):
    case.sql("CREATE TRIGGER fault BEFORE %s BEGIN SELECT RAISE(ABORT, 'refused'); END" % refused)
    status_code, text = case.client.ask("POST", "/tasks", json.dumps({"task": task}))
    assert status_code == 201, text
    id = json.loads(text)["id"]
    case.wait("a line in the log", lambda: "a report of a turn was not written" in case.log())
    assert case.invocation(id)["status"] in ("queued", "running"), case.invocation(id)
    if how_long != "for ever":
        case.sql("DROP TRIGGER fault")
    case.wait("the end", lambda: case.invocation(id)["status"] in FINAL)
    row = case.invocation(id)
    assert row["status"] == status and (row["error"] or {}).get("type") == error, row
    assert row["attempt"] == 1, row
    with open(os.path.join(case.folder, "ran")) as file:
        assert file.read() == "x\n", "the body ran again"
    line = [line for line in case.log().splitlines() if "a report of a turn" in line][0]
    assert id in line and "task=" + task in line, line
    case.server.stop()


def main():
    passed = failed = 0
    for name, *row in ROWS:
        folder = tempfile.mkdtemp(prefix="faults-", dir=os.path.join(ROOT, "build"))
        case = None
        try:
            case = Case(folder)
            run(case, *row)
            passed += 1
        except AssertionError as fault:
            failed += 1
            print("%s: %s\n%s" % (name, fault, case.log()))
        finally:
            if case:
                case.server.clean_up()
            shutil.rmtree(folder)
    print("%d passed, %d failed" % (passed, failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
