#!/usr/bin/env python3
"""Native bodies that record steps and send messages, at a server that is killed again and again. In half of the rounds
they run in children of it (`isolate`).

    tests/crash/steps.py [KILLS]        SEED=N repeats a run's choices (not its timing), KEEP=1 leaves the folder behind

Each body writes a line before it works at a step (`work`), one when the step was recorded (`done`), and one when its
message was sent (`sent`), each with the value; no two values are alike. A kill between the work and its record may
repeat the work; what is `done` may never be worked again, and its value is the result's. See Audit. The exit status is 1
on any violation."""

import collections
import json
import os
import random
import re
import sqlite3
import sys
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import Client, Faults, Server, Violation  # noqa: E402

UNFINISHED = 24  # as many are kept going
ROUND_SECONDS = (0.05, 1.2)
CLEAN_STOPS = 0.15  # of the rounds
ISOLATED = 0.5
KILLED_AT_START = 0.1

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: 6
log: {level: error}
defaults: {max_retries: 1000, max_recoveries: 1000, backoff: {initial: 1ms, factor: 1}}
tasks:
  ledger: {kind: native, module: steps.so}
"""


class Run:
    def __init__(self, folder, seed):
        self.server, self.rng = Server(folder), random.Random(seed)
        self.over = False
        self.isolated = 0  # rounds
        self.promised = {}  # how many steps, by id
        self.errors = []

    def submit(self, client):
        steps = self.rng.randint(1, 12)
        args = {"steps": steps, "us": self.rng.choice([0, 0, 1000, 5000, 20000]), "chance": self.rng.choice([0, 0, 5, 20])}
        status, text = client.ask("POST", "/tasks", json.dumps({"task": "ledger", "args": args}))
        if status != 201:
            raise Violation("POST /tasks: %d %s" % (status, text))
        self.promised[json.loads(text)["id"]] = steps

    def feed(self, client, until):
        """Keeps the bodies going until then, or until the connection breaks."""
        while time.monotonic() < until:
            for _ in range(UNFINISHED - client.unfinished()):
                self.submit(client)
            time.sleep(0.005)

    def configure(self):
        isolate = self.rng.random() < ISOLATED
        self.isolated += isolate
        self.server.configure(CONFIG, isolate)

    def round(self):
        self.configure()
        self.server.start()
        self.server.check_orphans()
        length = self.rng.uniform(*ROUND_SECONDS)
        stop = self.rng.random() < CLEAN_STOPS
        service.run_for(self.server, length, stop, self.feed)

    def killed_at_start(self):
        self.configure()
        self.server.spawn()
        time.sleep(self.rng.uniform(0, 0.1))
        self.server.kill()

    def drain(self):
        """All of them end, whatever it takes, as long as it gets on."""
        self.server.start()
        client = Client(self.server.port)
        service.await_ends(client)
        return client


class Audit(Faults):
    """Holds what the bodies noted against what the server says of them, and against the database."""

    def __init__(self, run, client):
        super().__init__(client)
        self.run = run
        self.results = {}
        self.done = {}  # value by (id, step)
        self.sent = collections.defaultdict(list)
        self.repeated = 0

    def check(self):
        rows = {row["id"]: row for row, _ in self.rows}
        for id, steps in self.run.promised.items():
            if id not in rows:
                self.fault(id, "was acknowledged and is not there")
            elif rows[id]["status"] == "succeeded" and len(rows[id]["result"]) != steps:
                self.fault(id, "has not", steps, "steps:", rows[id]["result"])
        for row in rows.values():
            if row["status"] != "succeeded":
                self.fault(row["id"], "is", row["status"], row["error"])
            else:
                self.results[row["id"]] = row["result"]
        with open(os.path.join(self.run.server.folder, "ledger")) as file:
            worked = set()
            for line in file:
                self.check_line(line, worked)

    def check_line(self, line, worked):
        found = re.match(r"(work|done|sent) (\w{13}) (\d+) (\d+)\n$", line)
        if not found:
            self.fault("the ledger has the line", repr(line))
            return
        what, id, step, value = found.group(1), found.group(2), int(found.group(3)), int(found.group(4))
        if what == "work":
            self.repeated += (id, step) in worked
            worked.add((id, step))
            if (id, step) in self.done:
                self.fault(id, "worked at step", step, "which was recorded as", self.done[id, step])
        elif what == "done":
            if (id, step) in self.done:
                self.fault(id, "recorded step", step, "twice")
            self.done[id, step] = value
            if id in self.results and self.results[id][step] != value:
                self.fault(id, "recorded step", step, "as", value, "and has", self.results[id])
        else:
            self.sent[id].append({"step": step, "value": value})

    def check_database(self, path):
        """After a clean stop."""
        database = sqlite3.connect(path)
        steps, messages = collections.defaultdict(list), collections.defaultdict(list)
        by_number = database.execute("SELECT id, name, value FROM steps ORDER BY id, number").fetchall()
        for id, name, value in by_number:
            if name != "step %d" % len(steps[id]):
                self.fault("the steps of", id, "are not in order:", name)
            steps[id].append(int(value))
        if sorted(steps.values()) != sorted(self.results.values()):
            self.fault("the recorded steps are not those of the results")
        for id, number, body in database.execute("SELECT id, number, body FROM messages ORDER BY id, seq").fetchall():
            if number != len(messages[id]) + 1:
                self.fault("message", number, "of", id, "is its", len(messages[id]) + 1)
            messages[id].append(json.loads(body))
        database.close()
        self.check_messages(list(messages.values()))

    def check_messages(self, outboxes):
        """Whose it is says the value: the sender is a row by its number, and a name to the bodies."""
        by_value = {outbox[0]["value"]: outbox for outbox in outboxes}
        for id, sent in self.sent.items():
            outbox = by_value.get(self.results.get(id, [None])[0], [])
            rest = iter(outbox)
            if not all(message in rest for message in sent):
                self.fault(id, "was told that it had sent", sent, "and sent", outbox)


def check(run, kills):
    client = run.drain()
    audit = Audit(run, client)
    audit.check()
    audit.check_counts()
    run.server.stop()
    path = os.path.join(run.server.folder, "errand.db")
    audit.check_database(path)
    audit.check_file(path)
    print("%d kills, %d rounds in children, %d invocations, %d steps recorded, %d worked again, %d messages heard of"
          % (kills, run.isolated, len(audit.rows), sum(map(len, audit.results.values())), audit.repeated,
             sum(map(len, audit.sent.values()))))  # fmt: skip
    audit.report()
    return not audit.faults


def main():
    folder = service.prepare("steps", os.path.join("..", "e2e", "native", "steps.c"), {"errand.yaml": CONFIG})
    return service.kill_and_check(folder, Run, check, KILLED_AT_START)


if __name__ == "__main__":
    sys.exit(main())
