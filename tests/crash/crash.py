#!/usr/bin/env python3
"""Kills the server under load, again and again, and checks what it had promised.

    tests/crash/crash.py [ROUNDS]          SEED=N repeats a run's choices, KEEP=1 leaves the folder behind

Each round starts the server in the same folder, loads it with clients of several kinds, and sends SIGKILL at a random
moment (some rounds also while it starts). A client notes what it was told; what it was not told, because the
connection broke, it asks again next round with the same idempotency key. At the end everything must be as promised:
see check() and the functions that it calls. Ends with a line of counts; the exit status is 1 on any violation."""

import collections
import json
import os
import random
import sys
import threading
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import FINAL, PATIENCE, Broke, Client, Server, Violation  # noqa: E402

MAX_RECOVERIES = 3
ROUND_SECONDS = (0.05, 0.8)

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: 8
kill_grace: 1s
log: {level: warn}
tasks:
  noop: {kind: native, module: crash_tasks.so}
  echo: {kind: native, module: crash_tasks.so}
  unsteady: {kind: native, module: crash_tasks.so, max_retries: 10, backoff: {initial: 20ms, factor: 1}}
  script: {kind: command, run: [sh, script.sh], result: json}
  sleeper: {kind: command, run: [sh, sleeper.sh]}
"""
MARK = 'echo "$ERRAND_ID $ERRAND_ATTEMPT" >>"$CRASH_MARKS"\n'
SCRIPTS = {"script.sh": MARK + "exec cat\n", "sleeper.sh": MARK + "sleep 1000 &\nsleep 1000\n"}


class Promise:
    """What one acknowledged submission obliges the server to."""

    def __init__(self, task, args, key, ends, runs):
        self.task, self.args, self.key = task, args, key
        self.ends = ends  # the statuses that it may end with
        self.runs = runs  # True: it must have run; False: it must not; None: either
        self.id = None
        self.seen = None  # (status, result, finished_at) once a client was shown it as final

    def saw(self, row):
        if row["status"] in FINAL:
            if row["status"] not in self.ends:
                raise Violation("%s (%s) ended as %s: %s" % (self.id, self.task, row["status"], row["error"]))
            self.seen = row["status"], row["result"], row["finished_at"]


class Run:
    """All rounds: what was promised, what is not known, and the clients that add to both."""

    def __init__(self, folder, rng):
        self.server = Server(folder)
        self.rng = rng
        self.lock = threading.Lock()  # guards what follows
        self.promises = {}  # by id
        self.unknown = []  # (body, promise): keyed, to be asked again
        self.maybe = 0  # submissions without a key whose fate is not known
        self.cancels = []  # promises whose cancellation is not acknowledged yet
        self.recent = collections.deque(maxlen=200)
        self.highest = ""  # id of all
        self.floor = ""  # the highest id of the rounds before
        self.serial = 0
        self.errors = []

    # --- submissions ---

    def number(self):
        with self.lock:
            self.serial += 1
            return self.serial

    def make(self, task, rng, key, extra="", fails=0, ends=("succeeded",), runs=True):
        """A body and the promise that its acknowledgement is."""
        n = self.number()
        more = ',"text":"%s"' % ("x" * 3000) if rng.random() < 0.03 else ""  # above 1 kB it stands elsewhere
        args = '{"n":%d,"fails":%d, "exact": [1.10,9007199254740993,1e400,"\\u00e9 é \\"\\\\"] %s}' % (n, fails, more)
        promise = Promise(task, args, "key-%d" % n if key else None, ends, runs)
        field = ',"key":"%s"' % promise.key if key else ""
        return '{"task":"%s","args":%s%s%s}' % (task, args, field, extra), promise

    def acknowledged(self, promise, invocation_id, fresh=True):
        with self.lock:
            known = self.promises.setdefault(invocation_id, promise)
            if known is not promise:
                raise Violation("the id %s was given twice" % invocation_id)
            promise.id = invocation_id
            self.recent.append(promise)
            if fresh and invocation_id <= self.floor:
                raise Violation("the id %s is not above %s, which is of a round before" % (invocation_id, self.floor))
            self.highest = max(self.highest, invocation_id)

    def submit(self, client, body, promise, headers=None):
        try:
            status, text = client.ask("POST", "/tasks", body.encode(), headers)
        except Broke:
            with self.lock:
                if promise.key:
                    self.unknown.append((body, promise))
                else:
                    self.maybe += 1
            raise
        if status not in (200, 201) or (status == 200 and not promise.key):
            raise Violation("POST /tasks: %d %s" % (status, text[:300]))
        row = json.loads(text)
        if '"args":' + promise.args not in text:
            raise Violation("the answer has other arguments: %s" % text[:300])
        self.acknowledged(promise, row["id"], status == 201)
        promise.saw(row)

    # --- the kinds of client; each ends when its connection breaks ---

    def submit_singles(self, client, rng):
        slept = False
        while True:
            key, extra, headers, task, fails = rng.random() < 0.7, "", None, "echo", 0
            dice = rng.random()
            ends, runs = ("succeeded",), True
            if dice < 0.15:
                task = "noop"
            elif dice < 0.25:
                task, fails = "unsteady", rng.randint(1, 3)
            elif dice < 0.30:
                task = "script"
            elif dice < 0.35:
                extra = ',"delay":"%dms"' % rng.randint(1, 1500)
            elif dice < 0.45:
                headers = {"Prefer": "wait=5"}
            elif dice < 0.55:
                extra = ',"labels":{"colour":"red"},"priority":%d' % rng.randint(0, 3)
            elif not slept:
                task, ends, runs, slept, key = "sleeper", ("cancelled",), None, True, True
                extra = ',"priority":0'
            body, promise = self.make(task, rng, key, extra, fails, ends, runs)
            self.submit(client, body, promise, headers)
            if task == "sleeper":
                with self.lock:
                    self.cancels.append(promise)

    def submit_bulk(self, client, rng):
        while True:
            made = [self.make("echo", rng, True) for _ in range(rng.randint(1, 200))]
            lines, broke = client.lines("".join(body + "\n" for body, _ in made).encode())
            for line, (_, promise) in zip(lines, made):
                if line["status"] not in (200, 201):
                    raise Violation("an NDJSON line: %s" % line)
                self.acknowledged(promise, line["id"], line["status"] == 201)
            with self.lock:
                self.unknown += made[len(lines):]
            if broke:
                raise Broke
            if len(lines) != len(made):
                raise Violation("%d lines were answered by %d" % (len(made), len(lines)))
            time.sleep(rng.random() * 0.02)

    def submit_and_cancel(self, client, rng):
        while True:
            later = rng.random() < 0.7
            if later:
                body, promise = self.make("echo", rng, True, ',"delay":"1h"', 0, ("cancelled",), False)
            else:
                body, promise = self.make("echo", rng, True, "", 0, ("cancelled", "succeeded"), None)
            self.submit(client, body, promise)
            with self.lock:
                self.cancels.append(promise)
            self.cancel(client, promise)

    def cancel(self, client, promise):
        status, text = client.ask("POST", "/invocations/%s/cancel" % promise.id)
        if status != 200:
            raise Violation("cancel: %d %s" % (status, text[:300]))
        promise.saw(json.loads(text))
        with self.lock:
            if promise in self.cancels:
                self.cancels.remove(promise)

    def read(self, client, rng):
        while True:
            items = json.loads(client.get("/invocations?limit=50"))["items"]
            ids = [item["id"] for item in items]
            if any(newer <= older for newer, older in zip(ids, ids[1:])):
                raise Violation("a page is not newest first: %s" % ids)
            with self.lock:
                sample = rng.sample(list(self.recent), min(5, len(self.recent)))
            for promise in sample:
                self.look_at(client, promise)
            time.sleep(0.01)

    def look_at(self, client, promise):
        seen = promise.seen  # by another client meanwhile: that would be newer than our answer
        status, text = client.ask("GET", "/invocations/" + promise.id)
        if status != 200:
            raise Violation("%s was acknowledged and is answered with %d" % (promise.id, status))
        if '"args":' + promise.args not in text:
            raise Violation("%s has other arguments: %s" % (promise.id, text[:300]))
        self.same_end(promise, seen, json.loads(text))
        promise.saw(json.loads(text))

    @staticmethod
    def same_end(promise, seen, row):
        now = row["status"], row["result"], row["finished_at"]
        if seen and repr(now) != repr(seen):
            raise Violation("%s was seen as %s and is now %s" % (promise.id, seen, now))

    # --- rounds ---

    def settle(self, client):
        """Asks again what is not known, cancels what sleeps, looks for what was promised last."""
        self.server.check_orphans()
        with self.lock:
            self.floor = self.highest
            sample, cancels = list(self.recent)[-20:], list(self.cancels)
            unknown, self.unknown = self.unknown, []
        for promise in sample:
            self.look_at(client, promise)
        for _ in range(2):  # the second time it is surely a replay
            if unknown:
                self.replay(client, unknown)
        for _, promise in unknown:
            if promise.ends != ("succeeded",):
                cancels.append(promise)
        for promise in cancels:
            self.cancel(client, promise)

    def replay(self, client, unknown):
        lines, broke = client.lines("".join(body + "\n" for body, _ in unknown).encode())
        if broke or len(lines) != len(unknown):
            raise Violation("the submissions that were not known could not be repeated")
        for line, (_, promise) in zip(lines, unknown):
            if line["status"] not in (200, 201):
                raise Violation("a repeated submission: %s" % line)
            if promise.id is None:
                self.acknowledged(promise, line["id"], line["status"] == 201)
            elif (promise.id, 200) != (line["id"], line["status"]):
                raise Violation("the key %s gave %s and then %s" % (promise.key, promise.id, line))

    def guard(self, work, client, rng):
        try:
            work(client, rng)
        except Broke:
            pass
        except Exception as error:  # a thread's failure is the run's
            self.errors.append(error)

    def round(self, number):
        if number % 5 == 4:
            self.server.spawn()
            time.sleep(self.rng.random() * 0.03)
            self.server.kill()
        self.server.start()
        self.settle(Client(self.server.port))
        self.raise_errors()
        works = [self.submit_singles, self.submit_singles, self.submit_bulk, self.submit_and_cancel, self.read]
        threads = [
            threading.Thread(target=self.guard, args=(work, Client(self.server.port), random.Random(self.rng.random())))
            for work in works
        ]
        for thread in threads:
            thread.start()
        time.sleep(self.rng.uniform(*ROUND_SECONDS))
        if self.server.child.poll() is not None:
            raise Violation("it died by itself: exit status %d" % self.server.child.returncode)
        self.server.kill()
        for thread in threads:
            thread.join()
        self.raise_errors()

    def raise_errors(self):
        if self.errors:
            raise self.errors[0]


# --- the end ---------------------------------------------------------------------------------------------------------


def drain(client):
    """Many rounds leave a long queue, whose tasks each wait for the disk: as long as it moves, it may take its time."""
    until, fewest = time.monotonic() + 2 * PATIENCE, None
    while True:
        counts = json.loads(client.get("/stats"))["invocations"]
        left = {name: n for name, n in counts.items() if name not in FINAL and n}
        if not left:
            return
        if fewest is None or sum(left.values()) < fewest:
            until, fewest = time.monotonic() + 2 * PATIENCE, sum(left.values())
        if time.monotonic() > until:
            raise Violation("it does not come to an end: %s" % left)
        time.sleep(0.02)


def read_marks(path):
    marks = collections.defaultdict(list)
    with open(path) as file:
        for line in file:
            invocation_id, attempt = line.split()
            marks[invocation_id].append(int(attempt))
    return marks


class Audit(service.Faults):
    """The state at the end against the promises."""

    def __init__(self, run, client):
        super().__init__(client)
        self.run = run
        self.lost = 0
        self.marks = read_marks(run.server.marks)

    def check_ids(self):
        ids = [row["id"] for row, _ in self.rows]
        if ids != sorted(set(ids)):
            self.fault("the ids of the list are not unique and growing")
        keys = collections.Counter(row["key"] for row, _ in self.rows if row["key"])
        for key, count in keys.items():
            if count > 1:
                self.fault("the key", key, "made", count, "invocations")

    def check_promises(self):
        found = {row["id"]: (row, text) for row, text in self.rows}
        for invocation_id, promise in self.run.promises.items():
            if invocation_id not in found:
                self.lost += 1
                self.fault(invocation_id, promise.task, "was acknowledged and is lost")
            else:
                self.check_promise(promise, *found[invocation_id])
        extra = len(set(found) - set(self.run.promises))
        if extra > self.run.maybe:
            self.fault(extra, "invocations that nobody was told of, but only", self.run.maybe, "connections broke")

    def check_promise(self, promise, row, text):
        def fault(*words):
            self.fault(row["id"], promise.task, *words, text[:400])

        marks = self.marks.get(row["id"], [])
        if row["task"] != promise.task or row["key"] != promise.key:
            fault("is another's")
        if '"args":%s,' % promise.args not in text:
            fault("has other arguments")
        if row["status"] == "failed" and self.may_fail(row, promise):
            return
        if row["status"] not in promise.ends:
            fault("should have ended as", promise.ends)
        try:
            self.run.same_end(promise, promise.seen, row)
        except Violation as violation:
            fault(violation)
        if row["status"] == "succeeded":
            wanted = '"result":%s,' % ("null" if promise.task == "noop" else promise.args)
            if wanted not in text:
                fault("has another result")
            if not marks:
                fault("never ran")
            elif max(marks) != row["attempt"]:
                fault("ran as attempts", marks)
        if promise.runs is False and marks:
            fault("ran and should not have")

    @staticmethod
    def may_fail(row, promise):
        """Who ran at too many deaths pays for them: two that are free, then its recoveries."""
        return row["error"]["type"] == "worker_crashed" and row["attempt"] > MAX_RECOVERIES + 1

    def check_attempts(self):
        several = [row for row, _ in self.rows if row["attempt"] > 1]
        for row in several[-500:]:
            attempts = json.loads(self.client.get("/invocations/%s/attempts" % row["id"]))["items"]
            if [one["attempt"] for one in attempts] != list(range(1, row["attempt"] + 1)):
                self.fault(row["id"], "has the attempts", attempts)
                continue
            for one in attempts[:-1]:
                if one["status"] != "failed" or one["error"]["type"] not in ("worker_crashed", "unsteady"):
                    self.fault(row["id"], "has the attempt", one)
            # Cancelled while it waited for its next attempt?
            between = row["status"] == "cancelled" and attempts[-1]["status"] == "failed"
            if attempts[-1]["status"] != row["status"] and not between:
                self.fault(row["id"], row["status"], "has the last attempt", attempts[-1])
        return len(several)

    def twice(self):
        """Starts that went by the same number: allowed (a finish that was not yet on disk), but worth knowing."""
        return sum(len(numbers) - len(set(numbers)) for numbers in self.marks.values())


def check(run):
    run.server.start()
    client = Client(run.server.port)
    run.settle(client)
    drain(client)
    audit = Audit(run, client)
    audit.check_ids()
    audit.check_promises()
    several = audit.check_attempts()
    audit.check_counts()
    run.server.stop()
    if run.server.family():
        audit.fault("processes are left behind:", run.server.family())
    audit.check_file(os.path.join(run.server.folder, "errand.db"))
    print("%d invocations, %d with several attempts, %d starts under a number that was used"
          % (len(audit.rows), several, audit.twice()))  # fmt: skip
    audit.report()
    return audit


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    folder = service.prepare("crash", "crash_tasks.c", dict(SCRIPTS, **{"errand.yaml": CONFIG, "marks": ""}))
    run = Run(folder, random.Random(seed))
    print("seed %d" % seed, flush=True)
    good = False
    try:
        for number in range(rounds):
            began = time.monotonic()
            run.round(number)
            print("round %2d: %6d acknowledged, %4d unknown, %.1f s"
                  % (number + 1, len(run.promises), len(run.unknown), time.monotonic() - began), flush=True)  # fmt: skip
        audit = check(run)
        good = not audit.faults
        print("%d rounds, %d acknowledged, %d lost" % (rounds, len(run.promises), audit.lost))
    except Violation as violation:
        print("VIOLATION:", violation)
    finally:
        run.server.clean_up()
        service.leave(folder, good)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
