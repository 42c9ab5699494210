#!/usr/bin/env python3
"""Loops whose iterations count on, in sets and without, at a server that is killed again and again. A third of the rounds
has a slow disk.

    tests/crash/loops.py [KILLS]        SEED=N repeats a run's choices (not its timing), KEEP=1 leaves the folder behind

Meanwhile loops are paused and resumed, resumed after a failure, and sent messages, each a number of its own. At last each
has counted to its end: no iteration is missing or there twice, each has the result of the one before it as its arguments,
or those of one that failed; every message that was accepted is in the sum, once; a set never had more loops with a slot
than it has slots. The exit status is 1 on any violation."""

import json
import os
import random
import sqlite3
import sys
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import PATIENCE, Broke, Client, Faults, Server, Violation  # noqa: E402

LOOPS = 20  # as many are kept going
ROUND_SECONDS = (0.05, 1.0)
CLEAN_STOPS = 0.15  # of the rounds
SLOW = 0.33
KILLED_AT_START = 0.1
SETS = {"none": None, "few": {"name": "few", "slots": 2}, "turns": {"name": "turns", "slots": 2, "slot": "turn"}}
FINAL = ("succeeded", "stopped", "failed", "cancelled")

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: 6
log: {level: error}
defaults: {max_recoveries: 1000}
tasks:
  counts: {kind: native, module: loops.so}
"""


class Loop:
    def __init__(self, name, body):
        self.name, self.body = name, body
        self.sent, self.unsure = 0, []  # the sum of what was accepted; what may have been
        self.count = 0
        self.made = False


class Run:
    def __init__(self, folder, seed):
        self.server, self.rng = Server(folder), random.Random(seed)
        self.loops = []
        self.number = 0
        self.most_held = {}

    def make(self, client, loop):
        status, text = client.ask("PUT", "/loops/" + loop.name, json.dumps(loop.body))
        if status not in (200, 201):
            raise Violation("PUT /loops/%s: %d %s" % (loop.name, status, text))
        loop.made = True

    def add(self, client):
        rng = self.rng
        args = {"n": 0, "max": rng.randint(1, 60), "us": rng.choice([0, 0, 500, 3000, 20000]),
                "chance": rng.choice([0, 0, 10, 30]), "pad": rng.choice([0, 0, 900, 5000])}  # fmt: skip
        body = {"task": "counts", "args": args, "next": "output", "on_failure": rng.choice(["stop", "continue"]),
                "delay": rng.choice([None, None, "1ms", "20ms"]), "set": SETS[rng.choice(list(SETS))],
                "max_retries": rng.choice([0, 0, 1])}  # fmt: skip
        loop = Loop("loop-%d" % len(self.loops), {k: v for k, v in body.items() if v is not None})
        self.loops.append(loop)
        self.make(client, loop)

    def send(self, client, loop):
        """A number that no other message has; one whose answer was not heard is sent again by its key."""
        self.number += 1
        loop.unsure.append(self.number)
        self.settle(client, loop)

    def settle(self, client, loop):
        while loop.unsure:
            number = loop.unsure[0]
            status, text = client.ask("POST", "/loops/%s/inbox" % loop.name, str(number), {"Idempotency-Key": str(number)})
            if status not in (200, 201, 409):
                raise Violation("a message: %d %s" % (status, text))
            loop.unsure.pop(0)
            if status != 409:
                loop.sent += number
                loop.count += 1

    def meddle(self, client):
        loop = self.rng.choice(self.loops[-2 * LOOPS :])
        which = self.rng.random()
        if not loop.made:
            self.make(client, loop)
        elif which < 0.4:
            self.send(client, loop)
        elif which < 0.5:
            client.ask("POST", "/loops/%s/pause" % loop.name)
        elif which < 0.53:
            client.ask("POST", "/sets/few/" + self.rng.choice(["pause", "resume"]))
        elif which < 0.8:
            client.ask("POST", "/loops/%s/resume" % loop.name)
        else:
            self.look_at_sets(client)

    def look_at_sets(self, client):
        for view in json.loads(client.ask("GET", "/sets")[1])["items"]:
            held = max(self.most_held.get(view["name"], 0), view["held"])
            self.most_held[view["name"]] = held
            if held > view["slots"]:
                raise Violation("a set has %s" % view)

    def unfinished(self, client):
        query = "&".join("status=" + s for s in ("queued", "running", "paused", "stopping"))
        return json.loads(client.ask("GET", "/loops?limit=1000&" + query)[1])["items"]

    def feed(self, client, until):
        while time.monotonic() < until:
            for _ in range(LOOPS - len(self.unfinished(client))):
                self.add(client)
            for _ in range(20):
                self.meddle(client)

    def start(self):
        slow = self.rng.random() < SLOW
        self.server.variables = service.slow_commits(0, 20, self.rng.randrange(1 << 30)) if slow else {}
        self.server.configure(CONFIG)

    def round(self):
        self.start()
        self.server.start()
        length = self.rng.uniform(*ROUND_SECONDS)
        if self.rng.random() < CLEAN_STOPS:
            try:
                self.feed(Client(self.server.port), time.monotonic() + length)
            except Broke:
                pass
            self.server.stop()
        else:
            service.run_for(self.server, length, False, self.feed)

    def killed_at_start(self):
        self.start()
        self.server.spawn()
        time.sleep(self.rng.uniform(0, 0.1))
        self.server.kill()

    def drain(self):
        """All of them count to their ends, as long as they get on."""
        self.server.variables = {}
        self.server.configure(CONFIG)
        self.server.start()
        client = Client(self.server.port)
        for loop in self.loops:
            self.make(client, loop)
            self.settle(client, loop)
        client.ask("POST", "/sets/few/resume")
        before, since = None, time.monotonic()
        while True:
            left = self.unfinished(client)
            failed = json.loads(client.get("/loops?limit=1000&status=failed"))["items"]
            for view in [v for v in left if v["status"] == "paused"] + failed:
                client.ask("POST", "/loops/%s/resume" % view["name"])
            if not left and not failed:
                return client
            now = sum(view["iteration"] for view in left), len(left)
            before, since = now, since if now == before else time.monotonic()
            if time.monotonic() > since + PATIENCE:
                raise Violation("%d do not end: %s" % (len(left), left[:3]))
            time.sleep(0.02)


class Audit(Faults):
    def __init__(self, run, client):
        super().__init__(client)
        self.run = run
        self.iterations = 0
        self.by_loop = {}
        for row, _ in self.rows:
            self.by_loop.setdefault(row["loop"], []).append(row)

    def check(self):
        for loop in self.run.loops:
            view = json.loads(self.client.get("/loops/" + loop.name))
            self.check_loop(loop, view, self.by_loop.pop(view["id"], []))
        if self.by_loop:
            self.fault("iterations of no loop:", list(self.by_loop)[:3])

    def check_loop(self, loop, view, rows):
        rows = [row for row in rows if row["status"] != "cancelled"]  # taken back by a pause before they began
        self.iterations += len(rows)
        result, args = view["result"], loop.body["args"]
        if view["status"] != "succeeded" or result["n"] != args["max"]:
            self.fault(loop.name, "is", view["status"], "and has counted to", result and result["n"])
            return
        if [row["iteration"] for row in rows] != list(range(1, view["iteration"] + 1)):
            self.fault(loop.name, "has", view["iteration"], "iterations:", [row["iteration"] for row in rows])
        for row in rows:
            if row["args"] != args:
                self.fault(loop.name, "began iteration", row["iteration"], "with", row["args"], "instead of", args)
            args = row["result"] if row["status"] == "succeeded" else args
        if args != result:
            self.fault(loop.name, "ends with", result, "instead of", args)
        late = self.unread(view)
        if (result["sum"] + sum(late), result["heard"] + len(late)) != (loop.sent, loop.count):
            self.fault(loop.name, "was sent", loop.count, "messages, in all", loop.sent, "and heard", result["heard"],
                       "in all", result["sum"], "unread are", late)  # fmt: skip

    def unread(self, view):
        """What came after the last turn had looked."""
        database = sqlite3.connect("file:%s?mode=ro" % os.path.join(self.run.server.folder, "errand.db"), uri=True)
        (id,) = database.execute("SELECT id FROM loops WHERE name = ?", (view["name"],)).fetchone()
        rows = database.execute("SELECT body FROM messages WHERE id = ?1 AND seq > "
                                "(SELECT COALESCE(inbox_read, 0) FROM loops WHERE id = ?1)", (id,)).fetchall()  # fmt: skip
        database.close()
        return [int(body) for (body,) in rows]

    def check_sets(self, path):
        """After a clean stop: who holds a slot is counted."""
        database = sqlite3.connect(path)
        for name, used, waiting in database.execute("SELECT name, used, waiting FROM sets").fetchall():
            if used or waiting:
                self.fault("the set", name, "has", used, "that hold a slot and", waiting, "that wait")
        (held,) = database.execute("SELECT COUNT(*) FROM loops WHERE slot IS NOT NULL OR ticket IS NOT NULL "
                                   "OR due_at IS NOT NULL OR invocation IS NOT NULL").fetchone()  # fmt: skip
        if held:
            self.fault(held, "ended loops still have a place")
        database.close()


def check(run, kills):
    client = run.drain()
    audit = Audit(run, client)
    audit.check()
    audit.check_counts()
    run.server.stop()
    path = os.path.join(run.server.folder, "errand.db")
    audit.check_sets(path)
    audit.check_file(path)
    print("%d kills, %d loops, %d iterations, %d messages, slots held at most: %s"
          % (kills, len(run.loops), audit.iterations, sum(loop.count for loop in run.loops), run.most_held))  # fmt: skip
    audit.report()
    return not audit.faults


def main():
    folder = service.prepare("loops", os.path.join("..", "e2e", "native", "loops.c"), {"errand.yaml": CONFIG})
    return service.kill_and_check(folder, Run, check, KILLED_AT_START)


if __name__ == "__main__":
    sys.exit(main())
