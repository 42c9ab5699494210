#!/usr/bin/env python3
"""Kills the server under load, again and again, and checks what it had promised.

    tests/crash/crash.py [ROUNDS]          SEED=N repeats a run's choices, KEEP=1 leaves the folder behind

Each round starts the server in the same folder, loads it with clients of several kinds, and sends SIGKILL at a random
moment (some rounds also while it starts). A client notes what it was told; what it was not told, because the
connection broke, it asks again next round with the same idempotency key. At the end everything must be as promised:
see check() and the functions that it calls. Ends with a line of counts; the exit status is 1 on any violation."""

import collections
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ERRAND = os.path.abspath(os.environ.get("ERRAND_BIN") or os.path.join(ROOT, "build", "errand"))
FINAL = ("succeeded", "failed", "cancelled")
PATIENCE = 30  # seconds; only a hung server takes as long
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


class Violation(Exception):
    pass


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


# --- the server ----------------------------------------------------------------------------------------------------


class Server:
    def __init__(self, folder):
        self.folder = folder
        self.marks = os.path.join(folder, "marks")
        self.log = open(os.path.join(folder, "log"), "a")
        self.child = None
        self.port = None

    def spawn(self):
        self.child = subprocess.Popen(
            [ERRAND, "serve", "--config", os.path.join(self.folder, "errand.yaml")], stdout=subprocess.PIPE,
            stderr=self.log, env=dict(os.environ, CRASH_MARKS=self.marks), text=True)  # fmt: skip

    def start(self):
        self.spawn()
        line = self.child.stdout.readline()
        found = re.match(r"listening on http://127\.0\.0\.1:(\d+)$", line)
        if not found:
            raise Violation("it did not start again; exit status %s" % self.child.wait(PATIENCE))
        self.port = int(found.group(1))

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            status = self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Violation("it did not stop after SIGTERM")
        self.child.stdout.close()
        if status != 0:
            raise Violation("exit status %d after SIGTERM" % status)

    def family(self):
        """The processes that carry our mark in their environment: [(pid, start time in ticks)]."""
        mark, found = ("CRASH_MARKS=" + self.marks).encode(), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % pid, "rb") as file:
                    ours = mark in file.read().split(b"\0")
                with open("/proc/%s/stat" % pid) as file:
                    fields = file.read().rpartition(") ")[2].split()
                if ours and fields[0] != "Z":
                    found.append((int(pid), int(fields[19])))
            except OSError:
                pass
        return found

    def check_orphans(self):
        """Whatever is older than the server was started by one that was killed."""
        family = self.family()
        born = dict(family).get(self.child.pid)
        orphans = [pid for pid, start in family if born is not None and start < born]
        if orphans:
            raise Violation("children of a killed server still run: %s" % orphans)


# --- clients ---------------------------------------------------------------------------------------------------------


class Broke(Exception):
    """The connection, and with it what is known of the request under way."""


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(self, method, path, body=None, headers=None, kind="application/json"):
        headers = dict(headers or {}, **({"Content-Type": kind} if body is not None else {}))
        try:
            if not self.connection.sock:
                self.connection.connect()
                self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read().decode()
        except socket.timeout:
            raise Violation("%s %s was not answered within %d s" % (method, path, PATIENCE))
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise Broke

    def get(self, path):
        status, text = self.ask("GET", path)
        if status != 200:
            raise Violation("GET %s: %d %s" % (path, status, text[:300]))
        return text

    def lines(self, body):
        """The lines of an NDJSON answer that came whole, and whether it was cut."""
        try:
            self.connection.request("POST", "/tasks", body, {"Content-Type": "application/x-ndjson"})
            answer = self.connection.getresponse()
            if answer.status != 200:
                raise Violation("NDJSON: %d %s" % (answer.status, answer.read(300)))
            got, broke = b"", False
            try:
                got = answer.read()
            except http.client.IncompleteRead as error:
                got, broke = error.partial, True
            except OSError:
                broke = True
            whole = got[: got.rfind(b"\n") + 1]
            return [json.loads(line) for line in whole.decode().splitlines()], broke
        except socket.timeout:
            raise Violation("NDJSON was not answered within %d s" % PATIENCE)
        except (OSError, http.client.HTTPException):
            return [], True


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


def list_all(client):
    """Every invocation, oldest first: [(row, its JSON as it came)]."""
    decoder, rows, cursor = json.JSONDecoder(), [], ""
    while True:
        text = client.get("/invocations?order=oldest&view=full&limit=1000" + cursor)
        page = json.loads(text)
        at = text.index("[") + 1
        for _ in page["items"]:
            at = text.index("{", at)
            row, end = decoder.raw_decode(text, at)
            rows.append((row, text[at:end]))
            at = end
        if page["next"] is None:
            return rows
        cursor = "&cursor=" + page["next"]


def read_marks(path):
    marks = collections.defaultdict(list)
    with open(path) as file:
        for line in file:
            invocation_id, attempt = line.split()
            marks[invocation_id].append(int(attempt))
    return marks


class Audit:
    """The state at the end against the promises. Violations are collected, so that all are seen."""

    def __init__(self, run, client):
        self.run, self.client = run, client
        self.faults = []
        self.lost = 0
        self.rows = list_all(client)
        self.marks = read_marks(run.server.marks)

    def fault(self, *words):
        self.faults.append(" ".join(map(str, words)))

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

    def check_counts(self):
        listed = collections.Counter(row["status"] for row, _ in self.rows)
        by_task = collections.Counter((row["task"], row["status"]) for row, _ in self.rows)
        stats = json.loads(self.client.get("/stats"))
        for status, n in stats["invocations"].items():
            if n != listed[status]:
                self.fault("/stats counts", n, status, "and the list has", listed[status])
        for task, counts in stats["tasks"].items():
            for status in FINAL:
                if counts[status] != by_task[task, status]:
                    self.fault("/stats counts", counts[status], task, status, "the list", by_task[task, status])

    def check_file(self, path):
        """After a clean stop: the database as SQLite sees it."""
        database = sqlite3.connect(path)
        for (text,) in database.execute("PRAGMA integrity_check"):
            if text != "ok":
                self.fault("integrity_check:", text)
        (rows,) = database.execute("SELECT COUNT(*) FROM invocations").fetchone()
        if rows != len(self.rows):
            self.fault("the database has", rows, "rows and the list had", len(self.rows))
        wrong = database.execute(
            "SELECT task, status, SUM(n), SUM(m) FROM (SELECT task, status, n, 0 AS m FROM counters UNION ALL "
            "SELECT task, status, 0, COUNT(*) FROM invocations GROUP BY 1, 2) GROUP BY 1, 2 HAVING SUM(n) <> SUM(m)")
        for row in wrong.fetchall():
            self.fault("counters (task, status, counted, there):", row)
        for table in ("payloads", "labels", "errors", "attempts", "logs"):
            query = "SELECT COUNT(*) FROM %s WHERE id NOT IN (SELECT id FROM invocations)" % table
            (orphans,) = database.execute(query).fetchone()
            if orphans:
                self.fault(orphans, "rows of", table, "belong to nothing")
        database.close()

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
    for fault in audit.faults[:20]:
        print("VIOLATION:", fault)
    if len(audit.faults) > 20:
        print("... and %d more" % (len(audit.faults) - 20))
    return audit


def prepare():
    folder = tempfile.mkdtemp(prefix="crash-", dir=os.path.join(ROOT, "build"))
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run(compiler + ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-fPIC", "-shared",
                    "-I" + os.path.join(ROOT, "workers", "sdk"), "-o", os.path.join(folder, "crash_tasks.so"),
                    os.path.join(HERE, "crash_tasks.c")], check=True)  # fmt: skip
    for name, text in dict(SCRIPTS, **{"errand.yaml": CONFIG, "marks": ""}).items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    return folder


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    folder = prepare()
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
        if run.server.child and run.server.child.poll() is None:
            run.server.kill()
        for pid, _ in run.server.family():
            os.kill(pid, signal.SIGKILL)
        if good and not os.environ.get("KEEP"):
            shutil.rmtree(folder)
        else:
            print("the folder is left: %s" % os.path.relpath(folder, ROOT))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
