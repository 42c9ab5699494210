#!/usr/bin/env python3
"""A database of an older server (databases/make_v1.py) is served by this one, and nothing of it is lost: what that
server said of each invocation (v1.json) is what this one says, and what it left behind goes on from there."""

import gzip
import json
import os
import re
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "crash"))
sys.dont_write_bytecode = True

from service import FINAL, PATIENCE, ROOT, Broke, Client, Faults, Server, Violation, list_all  # noqa: E402

RAN_ON = ("running_native", "running_command", "running_cancelled")
PAUSED = ("cancelled_and_retried", "queued", "queued_large")


def exactly(text):
    """Parsed, but for numbers, which stay the text that they are."""
    return json.loads(text, parse_int=str, parse_float=str)


class Old:
    """The old server's database in a folder, served by the new one."""

    def __init__(self, folder, version):
        with open(os.path.join(HERE, "databases", version + ".json")) as file:
            self.said = json.load(file)
        with open(os.path.join(HERE, "databases", version + ".yaml")) as file:
            config = file.read().replace("$NATIVE", os.path.join(ROOT, "build", "tests", "tasks.so"))
        with open(os.path.join(folder, "errand.yaml"), "w") as file:
            file.write(config)
        self.path = os.path.join(folder, "errand.db")
        with gzip.open(os.path.join(HERE, "databases", version + ".db.gz")) as packed, open(self.path, "wb") as file:
            file.write(packed.read())
        self.server = Server(folder)
        self.ids = {name: json.loads(said["invocation"])["id"] for name, said in self.said["invocations"].items()}
        self.faults = []

    def start(self):
        self.server.start()
        self.client = Client(self.server.port)

    def want(self, good, *words):
        if not good:
            self.faults.append(" ".join(map(str, words)))

    def ask(self, path):
        return exactly(self.client.get(path))

    def look(self, name):
        return self.ask("/invocations/" + self.ids[name])

    def attempts(self, name):
        return self.ask("/invocations/%s/attempts" % self.ids[name])["items"]

    def log(self, name):
        return self.client.get("/invocations/%s/log" % self.ids[name])

    def post(self, path, body=""):
        return self.client.ask("POST", path, body.encode() if body else None)

    def await_status(self, name, status):
        until = time.monotonic() + PATIENCE
        row = self.look(name)
        while row["status"] != status:
            if time.monotonic() > until:
                raise Violation("%s is not %s: %s" % (name, status, row))
            time.sleep(0.02)
            row = self.look(name)
        return row

    # --- the tests ---

    def same(self, name, what, now, then):
        """Members may be new; those that were there are as they were."""
        for member, value in then.items():
            self.want(member in now and now[member] == value,
                      name, what, member, "was", value, "and is", now.get(member, "gone"))  # fmt: skip

    def what_stood_still_is_as_it_was(self):
        for name, said in self.said["invocations"].items():
            if name in RAN_ON:
                continue
            self.same(name, "", self.look(name), exactly(said["invocation"]))
            attempts, then = self.attempts(name), exactly(said["attempts"])["items"]
            self.want(len(attempts) == len(then), name, "has", len(attempts), "attempts and had", len(then))
            for one, before in zip(attempts, then):
                self.same(name, "attempt " + before["attempt"], one, before)
            self.want(self.log(name) == said["log"], name, "has another log:", self.log(name))
            status, result = self.client.ask("GET", "/invocations/%s/result" % self.ids[name])
            now = [status, result if status == 200 else None]
            self.want(now == said["result"], name, "has another result:", now)

    def what_ran_runs_again(self):
        for name in ("running_native", "running_command"):
            said = self.said["invocations"][name]
            then = exactly(said["invocation"])
            row = self.await_status(name, "running")
            self.want(row["attempt"] == "2" and row["args"] == then["args"] and row["key"] == then["key"], name, row)
            first = self.attempts(name)[0]
            self.want(first["status"] == "failed" and first["error"]["type"] == "worker_crashed", name, first)
            self.want(first["started_at"] == then["started_at"] and first["worker"] == then["worker"], name, first)
        with open(os.path.join(self.server.folder, "go"), "w"):
            pass
        for name, result in (("running_native", "let go"), ("running_command", "done\n")):
            row = self.await_status(name, "succeeded")
            self.want(row["result"] == result and row["attempt"] == "2", name, row)
            before = self.said["invocations"][name]["log"]
            self.want(self.log(name) == before * 2, name, "has the log", repr(self.log(name)))
            self.want([one["attempt"] for one in self.attempts(name)] == ["1", "2"], name, self.attempts(name))

    def what_was_to_be_cancelled_is(self):
        then = exactly(self.said["invocations"]["running_cancelled"]["invocation"])
        row = self.await_status("running_cancelled", "cancelled")
        self.want(row["attempt"] == "1" and row["cancel_requested_at"] == then["cancel_requested_at"], row)

    def counters_are_right(self):
        faults = Faults(self.client)
        faults.check_counts()
        self.faults += faults.faults
        self.want(len(faults.rows) == len(self.ids), "it lists", len(faults.rows), "of", len(self.ids))
        counts = self.ask("/stats")["invocations"]
        then = self.said["stats"]
        now = dict(then, running=0, succeeded=then["succeeded"] + 2, cancelled=then["cancelled"] + 1)
        self.want(all(counts[status] == str(n) for status, n in now.items()), "/stats counts", counts, "not", now)
        by_label = self.ask("/invocations?label.colour=red&order=oldest")["items"]
        self.want([row["id"] for row in by_label] == [self.ids["small"], self.ids["queued"]], "red are", by_label)
        by_error = self.ask("/invocations?error=exit:7")["items"]
        self.want([row["id"] for row in by_error] == [self.ids["failed"]], "exit:7 are", by_error)

    def keys_are_known(self):
        for name, body in self.said["bodies"].items():
            status, text = self.post("/tasks", body)
            self.want(status == 200 and json.loads(text)["id"] == self.ids[name], "the key of", name, status, text)
            other = re.sub(r'"args":', '"args":[0,', body, count=1).replace(',"key"', '],"key"')
            status, text = self.post("/tasks", other)
            self.want(status == 422, "the key of", name, "took another body:", status, text)

    def ids_go_on(self):
        deleted = self.said["deleted"]
        status, text = self.client.ask("GET", "/invocations/" + deleted)
        self.want(status == 404, deleted, "was deleted:", status, text)
        status, text = self.post("/tasks", '{"task":"echo","args":"new"}')
        self.want(status == 201 and json.loads(text)["id"] > deleted, "a new one:", status, text)
        self.ids["new"] = json.loads(text)["id"]
        self.await_status("new", "succeeded")

    def what_was_paused_waits_and_then_runs(self):
        self.want(self.ask("/tasks/paused")["paused"], "the task is not paused any more")
        for name in PAUSED:
            self.want(self.look(name)["status"] == "queued", name, self.look(name))
        self.want(self.post("/tasks/paused/resume")[0] == 200, "it is not resumed")
        for name in PAUSED:
            row = self.await_status(name, "succeeded")
            self.want(row["result"] == row["args"] and row["attempt"] == "1", name, row)

    def what_failed_or_was_cancelled_can_be_retried(self):
        ends = (("expired", "succeeded", "1"), ("cancelled", "succeeded", "1"), ("failed_twice", "failed", "3"),
                ("cancelled_running", "succeeded", "2"))  # fmt: skip
        with open(os.path.join(self.server.folder, "never"), "w"):
            pass
        for name, status, attempt in ends:
            code, text = self.post("/invocations/%s/retry" % self.ids[name])
            self.want(code == 200, "the retry of", name, code, text)
            until = time.monotonic() + PATIENCE
            while (row := self.look(name))["status"] not in FINAL and time.monotonic() < until:
                time.sleep(0.02)
            self.want((row["status"], row["attempt"]) == (status, attempt), name, row)

    def what_is_scheduled_stays_and_can_be_called_up(self):
        for name, attempt in (("scheduled", "1"), ("between_attempts", "2")):
            self.want(self.look(name)["status"] == "scheduled", name, self.look(name))
            status, text = self.client.ask("PATCH", "/invocations/" + self.ids[name], b'{"run_at":null}')
            self.want(status == 200, name, status, text)
            self.want(self.await_status(name, "succeeded")["attempt"] == attempt, name, self.look(name))

    def everything(self):
        """What is said of each invocation, as it comes."""
        said = []
        for row, text in list_all(self.client):
            said.append((text, self.client.get("/invocations/%s/attempts" % row["id"]),
                         self.client.get("/invocations/%s/log" % row["id"])))  # fmt: skip
        return said

    def it_opens_once_more(self):
        before = self.everything()
        self.server.stop()
        self.start()
        after = self.everything()
        for one, other in zip(before, after):
            self.want(one == other, "was", one, "and is", other)
        self.want(len(before) == len(after), len(before), "became", len(after))

    def the_file_is_sound(self):
        faults = Faults(self.client)
        faults.check_counts()
        self.server.stop()
        faults.check_file(self.path)
        self.faults += faults.faults


STEPS = (
    Old.start,
    Old.what_stood_still_is_as_it_was,
    Old.what_ran_runs_again,
    Old.what_was_to_be_cancelled_is,
    Old.counters_are_right,
    Old.keys_are_known,
    Old.it_opens_once_more,
    Old.what_stood_still_is_as_it_was,
    Old.ids_go_on,
    Old.what_was_paused_waits_and_then_runs,
    Old.what_failed_or_was_cancelled_can_be_retried,
    Old.what_is_scheduled_stays_and_can_be_called_up,
    Old.it_opens_once_more,
    Old.the_file_is_sound,
)


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="errand-e2e-") as folder:
        old = Old(folder, "v1")
        try:
            for step in STEPS:
                try:
                    step(old)
                except (Violation, Broke) as error:
                    old.faults.append("%s %s" % (type(error).__name__, error))
                for fault in old.faults:
                    print("%s: %s" % (step.__name__, fault))
                passed, failed = passed + (not old.faults), failed + bool(old.faults)
                old.faults = []
                if not old.server.child or old.server.child.poll() is not None:
                    break
        finally:
            old.server.clean_up()
        if passed + failed < len(STEPS) or failed:
            print(open(os.path.join(folder, "log")).read())
    print("%d passed, %d failed" % (passed, max(failed, 1) if passed + failed < len(STEPS) else failed))
    return 1 if failed or passed < len(STEPS) else 0


if __name__ == "__main__":
    sys.exit(main())
