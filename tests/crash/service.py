"""What the scripts beside it and ../e2e/old_database.py share: the real binary in a folder of its own, a client, and what
must hold of the database whatever was done to it."""

import collections
import ctypes
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
NOT_FINAL = ("held", "queued", "scheduled", "running", "waiting")
FINAL = ("succeeded", "failed", "cancelled")
PATIENCE = 30  # seconds; only a hung server takes as long


class Violation(Exception):
    pass


def prepare(name, tasks, files):
    """A folder below build/ with the module made from tasks, a C file whose path starts here, and the files {name: text}."""
    folder = tempfile.mkdtemp(prefix=name + "-", dir=os.path.join(ROOT, "build"))
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run(compiler + ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-fPIC", "-shared",
                    "-I" + os.path.join(ROOT, "workers", "sdk"), "-o", os.path.join(folder, os.path.basename(tasks).replace(".c", ".so")),
                    os.path.join(HERE, tasks)], check=True)  # fmt: skip
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    return folder


def leave(folder, good):
    """Removes what prepare() made, unless it is wanted: after a violation, or with KEEP=1."""
    if good and not os.environ.get("KEEP"):
        shutil.rmtree(folder)
    else:
        print("the folder is left: %s" % os.path.relpath(folder, ROOT))


def die_with_parent():
    """In a child, between fork and exec: ends it with the thread that made it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# --- the server ------------------------------------------------------------------------------------------------------


class Server:
    def __init__(self, folder, variables=None):
        self.folder = folder
        self.variables = variables or {}
        self.marks = os.path.join(folder, "marks")
        self.log = open(os.path.join(folder, "log"), "a")
        self.child = None
        self.port = None

    def spawn(self):
        self.child = subprocess.Popen(
            [ERRAND, "serve", "--config", "errand.yaml"], cwd=self.folder, stdout=subprocess.PIPE,
            stderr=self.log, env=dict(os.environ, CRASH_MARKS=self.marks, **self.variables), text=True,
            preexec_fn=die_with_parent)  # fmt: skip

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

    def clean_up(self):
        if self.child and self.child.poll() is None:
            self.kill()
        for pid, _ in self.family():
            os.kill(pid, signal.SIGKILL)

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

    def configure(self, text, isolate=False):
        """For its next start. Half of a run's rounds may run native tasks apart: what a body says is the same there."""
        if isolate:
            text = text.replace("kind: native,", "kind: native, isolate: {capacity: 4},")
        with open(os.path.join(self.folder, "errand.yaml"), "w") as file:
            file.write(text)

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
        try:
            status, text = self.ask("GET", path)
        except Broke:  # the server closes what is idle for long, as an auditor is who counts millions of rows
            status, text = self.ask("GET", path)
        if status != 200:
            raise Violation("GET %s: %d %s" % (path, status, text[:300]))
        return text

    def unfinished(self):
        counts = json.loads(self.get("/stats"))["invocations"]
        return sum(counts[status] for status in NOT_FINAL)

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


# --- what must hold --------------------------------------------------------------------------------------------------


def slow_commits(low_ms, high_ms, seed):
    """The variables of a server whose commits take so long."""
    return {"LD_PRELOAD": os.path.join(ROOT, "build", "tests", "slow_commits.so"), "SLOW_MIN_MS": str(low_ms),
            "SLOW_MAX_MS": str(high_ms), "SLOW_SEED": str(seed)}  # fmt: skip


def run_for(server, length, stops, feed):
    """Has it fed for so long, and then stops it; or kills it, at any moment of the feeding, amid a request, too."""
    kill = threading.Timer(length, server.child.kill)
    if not stops:
        kill.start()
    try:
        feed(Client(server.port), time.monotonic() + length + (0 if stops else PATIENCE))
    except Broke:
        pass
    if stops:
        server.stop()
    else:
        kill.join()
        server.kill()


def await_ends(client):
    """All of them end, whatever it takes, as long as it gets on."""
    left, since = client.unfinished(), time.monotonic()
    while left:
        time.sleep(0.02)
        now = client.unfinished()
        if now < left:
            left, since = now, time.monotonic()
        if time.monotonic() > since + PATIENCE:
            raise Violation("%d do not end" % now)


def kill_and_check(folder, run_class, check, killed_at_start):
    """A script's main, and its exit status: KILLS (or 100) rounds of a run, some of them killed at their start, and the check."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    run, good = run_class(folder, seed), False
    print("seed %d" % seed, flush=True)
    try:
        for _ in range(kills):
            run.killed_at_start() if run.rng.random() < killed_at_start else run.round()
        good = check(run, kills)
    except Violation as violation:
        print("VIOLATION:", violation)
    finally:
        run.server.clean_up()
        leave(folder, good)
    return 0 if good else 1


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


class Faults:
    """Violations are collected, so that all are seen."""

    def __init__(self, client):
        self.client = client
        self.faults = []
        self.rows = list_all(client)

    def fault(self, *words):
        self.faults.append(" ".join(map(str, words)))

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

        def none_of(query, *words):
            (n,) = database.execute("SELECT COUNT(*) FROM " + query).fetchone()
            if n:
                self.fault(n, *words)

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
        for table in ("payloads", "labels", "errors", "attempts", "logs", "steps", "messages"):
            nobodys = " WHERE id NOT IN (SELECT id FROM invocations) AND id NOT IN (SELECT id FROM loops)"
            none_of(table + nobodys, "rows of", table, "belong to nothing")
        none_of("invocations WHERE status = 3", "rows are left running")
        none_of("errors e JOIN invocations i USING (id) WHERE i.status <> 6", "errors are of what has not failed")
        for table in ("attempts", "logs"):  # what is cancelled while it is suspended (7) was not started again
            later = " t JOIN invocations i USING (id) WHERE t.attempt > i.attempt + (i.status = 7)"
            none_of(table + later, "rows of", table, "are of attempts that are yet to come")
        database.close()

    def report(self, most=20):
        for fault in self.faults[:most]:
            print("VIOLATION:", fault)
        if len(self.faults) > most:
            print("... and %d more" % (len(self.faults) - most))
