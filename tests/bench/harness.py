"""What the lines are measured with: servers under test and their ceilings, each in a folder below build/bench
that goes away at the end, wrk, and the report."""

import atexit
import http.client
import json
import os
import re
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, "build", "bench")
ERRAND = os.environ.get("ERRAND_BIN") or os.path.join(ROOT, "build", "errand")
SCHEMA = os.path.join(ROOT, "store", "sql")

ARGS = '{"user_id":12345,"path":"/images/2024/cat-picture.png","width":640,"height":480,"q":80}'
TASKS = """
  resize_image: {kind: native, module: MODULE, function: noop}
  noop: {kind: native, module: MODULE}
  started: {kind: native, module: MODULE}
  doze: {kind: native, module: MODULE}
  true: {kind: command, run: [/bin/true]}
  tree: {kind: native, module: MODULE}
  steps: {kind: native, module: MODULE}
  naps: {kind: native, module: MODULE}
  far: {kind: remote}
"""
PATIENCE = 120  # seconds, for what must come


def submission(task):
    return '{"task":"%s","args":%s}' % (task, ARGS)


class Broken(Exception):
    """Something did not work; the figures would mean nothing."""


# --- programs and folders ---------------------------------------------------------------------------------------


def compile_programs():
    os.makedirs(BUILD, exist_ok=True)
    compiler = os.environ.get("CC", "cc").split()
    flags = "-std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra".split()

    def make(out, source, *more):
        subprocess.run(compiler + flags + ["-o", program(out), os.path.join(HERE, source), *more], check=True)

    make("ceiling_http", "ceiling_http.c", "-lmicrohttpd")
    make("ceiling_curl", "ceiling_curl.c", "-lcurl")
    make("ceiling_sqlite", "ceiling_sqlite.c", "-lsqlite3")
    make("ceiling_steps", "ceiling_steps.c", "-lsqlite3")
    make("ceiling_loops", "ceiling_loops.c", "-lsqlite3")
    make("ceiling_spawn", "ceiling_spawn.c", "-lpthread")
    make("ceiling_pool", "ceiling_pool.c")
    make("pool_child", "pool_child.c")
    make("fill", "fill.c", "-lsqlite3")
    make("latency", "latency.c")
    make("bench_tasks.so", "bench_tasks.c", "-I" + os.path.join(ROOT, "workers", "sdk"), "-fPIC", "-shared")


def program(name):
    return os.path.join(BUILD, name)


def run_program(name, *arguments):
    done = subprocess.run([program(name), *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Broken("%s: exit status %d" % (name, done.returncode))
    return done.stdout


def new_folder():
    folder = tempfile.mkdtemp(prefix="run-", dir=BUILD)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def fill(rows, queued, task, *old):
    """A database of so many rows, of which the newest wait for `task`; its path."""
    need = rows * 400 + (1 << 30)
    if shutil.disk_usage(BUILD).free < need:
        raise Broken("%d million rows want %.0f GB of free disk" % (rows // 1000000, need / 1e9))
    path = os.path.join(new_folder(), "errand.db")
    run_program("fill", path, SCHEMA, rows, queued, task, *old)
    return path


def remove(path):
    """A database that is not needed any more, with its folder."""
    shutil.rmtree(os.path.dirname(path), ignore_errors=True)


# --- processes ---------------------------------------------------------------------------------------------------


class Process:
    """A child that says on its first line where it listens."""

    alive = set()

    def __init__(self, command, pattern, log=None):
        began = time.perf_counter()
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        Process.alive.add(self)
        line = self.child.stdout.readline()
        self.seconds_to_ready = time.perf_counter() - began
        found = re.search(pattern, line)
        if not found:
            raise Broken("%s did not start: %s" % (os.path.basename(command[0]), line.strip() or "see above"))
        self.port = int(found.group(1))
        self.pid = self.child.pid

    def stop(self, number=signal.SIGTERM):
        self.child.send_signal(number)
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        Process.alive.discard(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self in Process.alive:
            self.stop()


@atexit.register
def end_all():
    for process in list(Process.alive):
        process.stop(signal.SIGKILL)


class Ceiling(Process):
    """The bare loop that repeats an answer."""

    def __init__(self, answer):
        path = os.path.join(new_folder(), "answer")
        with open(path, "wb") as file:
            file.write(answer)
        super().__init__([program("ceiling_http"), path], r"^(\d+)$")


class Errand(Process):
    def __init__(self, database=None, slots=None, tasks=""):
        self.folder = os.path.dirname(database) if database else new_folder()
        self.database = database or os.path.join(self.folder, "errand.db")
        config = os.path.join(self.folder, "errand.yaml")
        with open(config, "w") as file:
            file.write("listen: 127.0.0.1:0\nstore: %s\nlog: {level: warn}\n" % self.database)
            if slots:
                file.write("slots: %d\n" % slots)
            file.write("tasks:" + TASKS.replace("MODULE", program("bench_tasks.so")) + tasks)
        self.log = open(os.path.join(self.folder, "log"), "a+")
        super().__init__([ERRAND, "serve", "--config", config], r"^listening on http://127\.0\.0\.1:(\d+)$", self.log)

    def stop(self, number=signal.SIGTERM):
        super().stop(number)
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        if text:
            sys.stderr.write("errand logged:\n" + text[-4000:])

    def ask(self, method, path, body=None, content_type="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, {"Content-Type": content_type} if body else {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status // 100 != 2:
            raise Broken("%s %s: %d %s" % (method, path, answer.status, text[:300]))
        return text

    def stats(self):
        return json.loads(self.ask("GET", "/stats"))

    def unfinished(self):
        counts = self.stats()["invocations"]
        return counts["queued"] + counts["running"] + counts.get("waiting", 0) + counts["scheduled"]

    def drain(self):
        until = time.monotonic() + PATIENCE
        while self.unfinished():
            if time.monotonic() > until:
                raise Broken("%d invocations did not finish" % self.unfinished())
            time.sleep(0.02)

    def rss_kb(self):
        with open("/proc/%d/status" % self.pid) as file:
            return int(re.search(r"^VmRSS:\s+(\d+)", file.read(), re.M).group(1))


# --- requests ------------------------------------------------------------------------------------------------------


def raw_request(method, path, body="", headers=()):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: 127.0.0.1", *headers]
    if body:
        lines += ["Content-Type: application/json", "Content-Length: %d" % len(body)]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def capture(server, request):
    """The answer as it came, head and body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        length = re.search(rb"\r\ncontent-length: *(\d+)", answer, re.I)
        want = answer.index(b"\r\n\r\n") + 4 + (int(length.group(1)) if length else 0)
        while len(answer) < want:
            more = connection.recv(65536)
            if not more:
                raise Broken("an answer broke off")
            answer += more
    return answer


def header_of(answer, name):
    found = re.search(rb"\r\n%s: *([^\r]*)" % name.encode(), answer, re.I)
    return found.group(1).decode() if found else None


class Load:
    """One run of wrk."""

    def __init__(self, server, connections, seconds, method="GET", path="/", body=None, headers=None, vary=None):
        lines = ['wrk.method = "%s"' % method]
        for name, value in (headers or {}).items():
            lines.append("wrk.headers[%s] = %s" % (json.dumps(name), json.dumps(value)))
        if body:
            lines.append('wrk.headers["Content-Type"] = "application/json"')
            lines.append("wrk.body = [==[%s]==]" % body)
        if vary:  # a format of three numbers that makes each path a new one
            lines.append(
                "local n = 0\n"
                "request = function()\n"
                "  n = n + 1\n"
                "  local more = string.format(%s, n / 60000 %% 60, n / 1000 %% 60, n %% 1000)\n"
                "  return wrk.format(nil, %s .. more)\n"
                "end" % (json.dumps(vary), json.dumps(path)))  # fmt: skip
        lines.append(
            "done = function(all, latency)\n"
            "  local e = all.errors\n"
            '  io.write(string.format("RESULT %d %d %d %d %d\\n", all.requests, all.duration,\n'
            "    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))\n"
            "end\n"
        )
        self.folder = tempfile.mkdtemp(dir=BUILD)
        script = os.path.join(self.folder, "load.lua")
        with open(script, "w") as file:
            file.write("\n".join(lines))
        self.child = subprocess.Popen(
            ["wrk", "-t1", "-c%d" % connections, "-d%ds" % max(1, round(seconds)), "--latency", "-s", script,
             "http://127.0.0.1:%d%s" % (server.port, path)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def result(self):
        text = self.child.communicate()[0]
        shutil.rmtree(self.folder, ignore_errors=True)
        found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$", text, re.M)
        if not found:
            raise Broken("wrk: " + text)
        requests, duration, self.p50, self.p99, errors = map(int, found.groups())
        if errors or not requests:
            raise Broken("%d of %d requests were not answered well\n%s" % (errors, requests, text))
        self.requests = requests
        self.rate = requests / (duration / 1e6)
        return self


def load(*arguments, **keywords):
    return Load(*arguments, **keywords).result()


# --- workers elsewhere ------------------------------------------------------------------------------------------


class Workers:
    """So many workers elsewhere, each in a loop: one call reports the last turn and asks for the next."""

    report = '"result":1'
    TOKEN = re.compile(rb'"token":"([^"]+)"')

    def __init__(self, server, count):
        self.turns = 0
        self.connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]

    def ask(self, i, token):
        done = '[{"token":"%s",%s}]' % (token, self.report) if token else "[]"
        body = '{"worker":"w%d","max":1,"wait":"10s","done":%s}' % (i, done)
        self.connections[i].sendall(raw_request("POST", "/leases", body))

    def rate(self, seconds):
        selector = selectors.DefaultSelector()
        began = time.perf_counter()
        held = [b""] * len(self.connections)
        for i, connection in enumerate(self.connections):
            selector.register(connection, selectors.EVENT_READ, i)
            self.ask(i, None)
        while time.perf_counter() - began < seconds:
            for key, _ in selector.select(1):
                held[key.data] += key.fileobj.recv(1 << 16)
                head, end, body = held[key.data].partition(b"\r\n\r\n")
                length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
                if not end or len(body) < int(length.group(1)):
                    continue
                held[key.data] = b""
                token = self.TOKEN.search(body)
                if not token:
                    raise Broken("no lease: " + body[:300].decode())
                self.turns += 1
                self.ask(key.data, token.group(1).decode())
        rate = self.turns / (time.perf_counter() - began)
        for connection in self.connections:
            connection.close()
        return rate


# --- the report -----------------------------------------------------------------------------------------------------


def median(values):
    return statistics.median(values)


def in_turn(repeats, *measurements):
    """Runs each in turn, again and again, as the machine drifts; the lists of what they returned."""
    all_results = [[] for _ in measurements]
    for _ in range(repeats):
        for results, measure in zip(all_results, measurements):
            results.append(measure())
    return all_results


def number(value):
    if value is None:
        return "-"
    return "%.0f" % value if abs(value) >= 100 else "%.1f" % value if abs(value) >= 10 else "%.2f" % value


class Report:
    def __init__(self):
        self.below = 0
        self.lines = 0
        print("%-46s %10s %10s %7s  %-12s %s" % ("", "figure", "ceiling", "ratio", "aim", ""))

    def line(self, name, figure, unit="", ceiling=None, aim=None, note=""):
        """aim: ("ratio" or "figure", ">=" or "<=", value), or None: there is none."""
        ratio = figure / ceiling if ceiling else None
        text, verdict = "", ""
        if aim:
            what, sign, wanted = aim
            value = ratio if what == "ratio" else figure
            good = value >= wanted if sign == ">=" else value <= wanted
            verdict = "ok" if good else "below"
            text = "%s %s%s" % (sign, wanted, "" if what == "ratio" else " " + unit)
            self.lines += 1
            self.below += not good
        print("%-46s %10s %10s %7s  %-12s %-5s %s"
              % (name + (", " + unit if unit else ""), number(figure), number(ceiling),
                 "%.2f" % ratio if ratio is not None else "", text, verdict, note),
              flush=True)  # fmt: skip
