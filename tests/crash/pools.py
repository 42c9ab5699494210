#!/usr/bin/env python3
"""Pools whose children are killed at random, reloaded, cancelled and suspended, at a server that is killed, too.

    tests/crash/pools.py [ROUNDS]        SEED=N repeats a run's choices (not its timing), KEEP=1 leaves the folder behind

Bodies (pool_worker.py) record steps, send messages, submit children and wait for them, suspend, fail and die by chance.
Beside them somebody sends signals to children, reads the configuration again with other sizes of the pools, cancels and
sends messages. Half of the rounds has a slow disk. A round ends by SIGKILL of the server, or by SIGTERM. See Audit for
what must hold. The exit status is 1 on any violation."""

import collections
import json
import os
import random
import re
import signal
import sys
import threading
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import FINAL, PATIENCE, ROOT, Broke, Client, Faults, Server, Violation  # noqa: E402

UNFINISHED = 16  # as many are kept going
ROUND_SECONDS = (0.5, 3.0)
CLEAN_STOPS = 0.3  # of the rounds
SLOW_ROUNDS = 0.5
SLOW_MS = (1, 60)
CANCELLED = 0.05  # of the invocations

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: 2
kill_grace: 300ms
shutdown_timeout: 3s
log: {level: info}
defaults: {max_retries: 1000, max_recoveries: 1000, backoff: {initial: 1ms, factor: 1}}
tasks:
  ledger_of: {kind: process, run: [python3, pool_worker.py], env: {SDK: %(sdk)s, CAPACITY: "4"}, capacity: 4, %(alone)s}
  shared: {kind: process, pool: common}
  leaf: {kind: process, pool: common, priority: 0}
  deaf: {kind: process, pool: common, timeout: 400ms, max_retries: 0, params: {seconds: number}}
pools:
  common: {run: [python3, pool_worker.py], env: {SDK: %(sdk)s, CAPACITY: "3"}, capacity: 3, %(common)s}
"""


def configuration(rng):
    def size():
        words = [rng.choice(("workers: 1", "workers: 2", "workers: {min: 0, max: 3, idle: 200ms}"))]
        words += rng.choice(([], [], ["max_invocations: %d" % rng.randint(1, 9)]))
        words += rng.choice(([], ["start: eager"]))
        return ", ".join(words)

    return CONFIG % {"sdk": os.path.join(ROOT, "workers", "sdk"), "alone": size(), "common": size()}


class Storm(threading.Thread):
    """What befalls the children and their work while a round lasts."""

    def __init__(self, run, seed):
        super().__init__(daemon=True)
        self.run_of, self.rng, self.over = run, random.Random(seed), threading.Event()
        self.client = Client(run.server.port)

    def run(self):
        acts = (self.kill, self.kill, self.kill, self.cancel, self.speak, self.reload, self.look)
        try:
            while not self.over.wait(self.rng.uniform(0, 0.2)):
                self.rng.choice(acts)()
        except Broke:
            pass
        except (Violation, ValueError) as error:
            self.run_of.errors.append(str(error))

    def kill(self):
        workers = [one for one in json.loads(self.client.get("/workers"))["items"] if one["kind"] == "process" and one["pid"]]
        if not workers:
            return
        pid = self.rng.choice(workers)["pid"]
        try:
            with open("/proc/%d/environ" % pid, "rb") as file:
                if self.run_of.server.marks.encode() in file.read():
                    os.kill(pid, self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)))
                    self.run_of.killed += 1
            threading.Timer(0.3, lambda: self.go_on(pid)).start()
        except OSError:
            pass

    def go_on(self, pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except OSError:
            pass

    def one(self):
        return self.rng.choice(list(self.run_of.promised)[-UNFINISHED:] or [None])

    def cancel(self):
        id = self.one()
        if id and self.rng.random() < CANCELLED * 10:
            self.run_of.cancelled.add(id)
            self.client.ask("POST", "/invocations/%s/cancel" % id)

    def speak(self):
        id = self.one()
        if id:
            self.client.ask("POST", "/invocations/%s/inbox" % id, '"hello"')

    def reload(self):
        self.run_of.configure()
        self.run_of.server.child.send_signal(signal.SIGHUP)
        self.run_of.reloads += 1

    def look(self):
        for path in ("/readyz", "/stats", "/tasks", "/workers"):
            self.client.get(path)


class Run:
    def __init__(self, folder, seed):
        self.server, self.rng = Server(folder), random.Random(seed)
        self.promised = {}  # task and steps, by id
        self.cancelled = set()
        self.killed = self.reloads = 0
        self.errors = []

    def configure(self):
        path = os.path.join(self.server.folder, "errand.yaml")
        with open(path + ".new", "w") as file:
            file.write(configuration(self.rng))
        os.rename(path + ".new", path)

    def submit(self, client):
        name = self.rng.choice(("ledger_of", "ledger_of", "shared", "shared", "shared", "leaf", "deaf"))
        steps = self.rng.randint(1, 8)
        args = {"leaf": [1], "deaf": [self.rng.choice((0.1, 5))]}.get(name, [steps, self.rng.random() < 0.3])
        status, text = client.ask("POST", "/tasks", json.dumps({"task": name, "args": args}))
        if status != 201:
            raise Violation("POST /tasks: %d %s" % (status, text))
        self.promised[json.loads(text)["id"]] = (name, steps)

    def feed(self, client, until):
        while time.monotonic() < until:
            for _ in range(UNFINISHED - client.unfinished()):
                self.submit(client)
            time.sleep(0.01)

    def slowly(self):
        slow = self.rng.random() < SLOW_ROUNDS
        self.server.variables = service.slow_commits(*SLOW_MS, self.rng.getrandbits(30)) if slow else {}

    def round(self):
        self.slowly()
        self.configure()
        self.server.start()
        self.server.check_orphans()
        length, stop = self.rng.uniform(*ROUND_SECONDS), self.rng.random() < CLEAN_STOPS
        storm = Storm(self, self.rng.getrandbits(30))
        storm.start()

        def feed(client, until):
            try:
                self.feed(client, until)
            finally:
                storm.over.set()

        service.run_for(self.server, length, stop, feed)
        if stop:
            self.expect_nobody()
        storm.join()

    def expect_nobody(self):
        left = self.server.family()
        if left:
            raise Violation("a clean stop has left processes: %s" % left)

    def zombies(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as file:
                    fields = file.read().rpartition(") ")[2].split()
                if fields[0] == "Z" and int(fields[1]) == self.server.child.pid:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def drain(self):
        """All of them end, whatever it takes, as long as it gets on; and then nothing is left of the dead."""
        self.server.variables = {}
        self.server.start()
        client = Client(self.server.port)
        left, since = client.unfinished(), time.monotonic()
        while left:
            time.sleep(0.05)
            now = client.unfinished()
            if now < left:
                left, since = now, time.monotonic()
            if time.monotonic() > since + PATIENCE:
                raise Violation("%d do not end: %s" % (now, client.get("/invocations?status=running&status=queued&status=waiting")))
        if self.zombies():
            raise Violation("zombies: %s" % self.zombies())
        return client


class Audit(Faults):
    """Holds what the bodies noted against what the server says of them, and against the database."""

    def __init__(self, run, client):
        super().__init__(client)
        self.run = run
        self.done = {}  # value by (id, step)
        self.ends = collections.Counter()
        self.results = {}
        self.repeated = 0

    def check(self):
        rows = {row["id"]: row for row, _ in self.rows}
        for id in self.run.promised:
            if id not in rows:
                self.fault(id, "was acknowledged and is not there")
        for row in rows.values():
            self.check_row(row)
        with open(os.path.join(self.run.server.folder, "ledger")) as file:
            worked = set()
            for line in file:
                self.check_line(line, worked)
        for id in self.results:
            if not self.ends[id]:
                self.fault(id, "has a result, and no body came to its end")

    def check_row(self, row):
        id, status = row["id"], row["status"]
        if status not in FINAL:
            self.fault(id, "is", status)
        elif status == "cancelled" and id not in self.run.cancelled and row["parent"] not in self.run.cancelled:
            self.fault(id, "was cancelled by nobody")
        elif status == "failed" and (row["task"] != "deaf" or row["error"]["type"] != "timeout"):
            self.fault(id, "failed:", row["error"])
        elif status == "succeeded" and row["task"] in ("ledger_of", "shared"):
            self.results[id] = row["result"]
            if id in self.run.promised and len(row["result"]) != self.run.promised[id][1]:
                self.fault(id, "has not", self.run.promised[id][1], "steps:", row["result"])
        attempts = json.loads(self.client.get("/invocations/%s/attempts" % id))["items"]
        if [one["attempt"] for one in attempts] != list(range(1, row["attempt"] + 1)):
            self.fault(id, "is at attempt", row["attempt"], "and has", [one["attempt"] for one in attempts])
        if sum(one["status"] == "succeeded" for one in attempts) != (status == "succeeded"):
            self.fault(id, "is", status, "and its attempts are", [one["status"] for one in attempts])

    def check_line(self, line, worked):
        found = re.match(r"(work|done) (\w{13}) (\S+) (\d+)\n$", line)
        if found:
            self.check_step(found.group(1), (found.group(2), found.group(3)), int(found.group(4)), worked)
            return
        found = re.match(r"(begin|end) (\w{13}) \d+\n$", line)
        if not found:
            self.fault("the ledger has the line", repr(line))
        elif found.group(1) == "end":
            self.ends[found.group(2)] += 1

    def check_step(self, what, step, value, worked):
        if what == "work":
            self.repeated += step in worked
            worked.add(step)
            if step in self.done:
                self.fault(step, "was worked at, and is recorded as", self.done[step])
        elif self.done.setdefault(step, value) != value:
            self.fault(step, "was recorded as", self.done[step], "and as", value)
        if what == "done" and step[0] in self.results:
            number = int(step[1].partition("-")[2])
            if self.results[step[0]][number] != value:
                self.fault(step, "is", value, "and the result has", self.results[step[0]])


def check(run, rounds):
    client = run.drain()
    audit = Audit(run, client)
    audit.check()
    audit.check_counts()
    run.server.stop()
    run.expect_nobody()
    audit.check_file(os.path.join(run.server.folder, "errand.db"))
    audit.faults += run.errors
    print("%d rounds, %d invocations, %d steps, %d worked again, %d signals to children, %d reloads, %d cancelled"
          % (rounds, len(audit.rows), len(audit.done), audit.repeated, run.killed, run.reloads, len(run.cancelled)))  # fmt: skip
    audit.report()
    return not audit.faults


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    with open(os.path.join(service.HERE, "pool_worker.py")) as file:
        folder = service.prepare("pools", "crash_tasks.c", {"pool_worker.py": file.read(), "ledger": ""})
    run, good = Run(folder, seed), False
    print("seed %d" % seed, flush=True)
    try:
        for _ in range(rounds):
            run.round()
        good = check(run, rounds)
    except Violation as violation:
        print("VIOLATION:", violation)
    finally:
        run.server.clean_up()
        service.leave(folder, good)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
