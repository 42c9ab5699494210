"""The lines of the report, in the order of the project's aims. Each function measures one of them and writes it."""

import http.client
import os
import re
import selectors
import shutil
import socket
import sqlite3
import subprocess
import threading
import time

from harness import (
    ARGS, BUILD, ERRAND, SCHEMA, Broken, Ceiling, Errand, Load, Workers, capture, fill, header_of, in_turn, load, median,
    new_folder, program, raw_request, remove, run_program, submission)  # fmt: skip

from suspensions import suspend

BODY = submission("resize_image")
LIST = "/invocations?limit=50"
FRESH = "&created_before=2100-01-01T00:%02d:%02d.%03dZ"  # the same page, and no cache knows it
MB = 1024.0


def pause(server, task):
    server.ask("POST", "/tasks/%s/pause" % task)


def post(server, connections, seconds, body=BODY):
    return load(server, connections, seconds, method="POST", path="/tasks", body=body)


def rates(loads):
    return median([one.rate for one in loads])


def latencies(loads):
    return "p50 %d us, p99 %d us" % (median([one.p50 for one in loads]), median([one.p99 for one in loads]))


# --- submitting -------------------------------------------------------------------------------------------------------


def submit(report, quick):
    seconds = 1 if quick else 3
    for connections, aim in ((1, 0.25), (64, 0.65), (256, 0.65)):
        with Errand() as server:
            pause(server, "resize_image")
            with Ceiling(capture(server, raw_request("POST", "/tasks", BODY))) as bare:
                figures, ceilings = in_turn(
                    3, lambda: post(server, connections, seconds), lambda: post(bare, connections, seconds))
        report.line("durable POST /tasks, %d connection%s" % (connections, "s" if connections > 1 else ""),
                    rates(figures), "1/s", rates(ceilings), ("ratio", ">=", aim), latencies(figures))


def run(report, quick):
    seconds = 1 if quick else 3

    def run_through():
        before, began = server.stats()["finished"], time.perf_counter()
        post(server, 64, seconds)
        server.drain()
        return (server.stats()["finished"] - before) / (time.perf_counter() - began)

    with Errand() as server:
        with Ceiling(capture(server, raw_request("POST", "/tasks", BODY))) as bare:
            figures, ceilings = in_turn(3, run_through, lambda: post(bare, 64, seconds))
    report.line("submit, run, result on disk, 64 connections", median(figures), "1/s", rates(ceilings),
                ("ratio", ">=", 0.45))


def bulk(report, quick):
    rows = 100000
    body = (BODY + "\n").encode() * rows

    def submit_all():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        began = time.perf_counter()
        connection.request("POST", "/tasks", body, {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse().read()
        seconds = time.perf_counter() - began
        connection.close()
        if answer.count(b'"status":201,') != rows:
            raise Broken("not all lines were accepted: %s" % answer[:500])
        return rows / seconds

    def insert_all():
        path = os.path.join(new_folder(), "bare.db")
        rate = float(run_program("ceiling_sqlite", path, SCHEMA, ARGS, rows))
        remove(path)
        return rate

    with Errand() as server:
        pause(server, "resize_image")
        figures, ceilings = in_turn(3 if quick else 5, submit_all, insert_all)
    report.line("bulk NDJSON, 100,000 lines a request, rows", median(figures), "1/s", median(ceilings),
                ("ratio", ">=", 0.6))


# --- running ----------------------------------------------------------------------------------------------------------


GAP_US = 1000


def fdatasync_us(count):
    """Of a page written where the file has one already, as a write-ahead log does it."""
    path = os.path.join(new_folder(), "log")
    pages = 256
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(4096 * pages))
    os.fsync(fd)
    times = []
    for i in range(count):
        time.sleep(GAP_US / 1e6)
        began = time.perf_counter()
        os.pwrite(fd, b"x" * 4096, i % pages * 4096)
        os.fdatasync(fd)
        times.append((time.perf_counter() - began) * 1e6)
    os.close(fd)
    return median(times)


def idle(report, quick):
    count = 200 if quick else 1000
    folder = new_folder()
    asked = os.path.join(folder, "asked")
    with open(asked, "wb") as file:
        file.write(raw_request("POST", "/tasks", submission("started"), ["Prefer: wait=10"]))

    def latency(server):
        lines = run_program("latency", server.port, asked, count, GAP_US).splitlines()
        return [tuple(map(float, line.split())) for line in lines]

    with Errand() as server, Ceiling(capture(server, raw_request("POST", "/tasks", BODY))) as bare:
        ours, bares, syncs = in_turn(3, lambda: latency(server), lambda: latency(bare), lambda: fdatasync_us(count))
    starts = [one[1] for one in ours]
    trip, sync = median([one[0][0] for one in bares]), median(syncs)
    report.line("idle: submit to start, p50", median([p50 for p50, _ in starts]), "us", trip + sync,
                ("ratio", "<=", 2), "fdatasync %.0f us, bare request %.0f us; p99 %.0f us; to the result p50 %.0f us"
                % (sync, trip, median([p99 for _, p99 in starts]), median([one[0][0] for one in ours])))


def commands(report, quick):
    processors = os.cpu_count() or 1
    count, seconds = (1500, 1) if quick else (6000, 2)
    lines = '{"task":"true"}\n' * count
    best = None

    def run_all():
        pause(server, "true")
        server.ask("POST", "/tasks", lines, "application/x-ndjson")
        began = time.perf_counter()
        server.ask("POST", "/tasks/true/resume")
        server.drain()
        return count / (time.perf_counter() - began)

    for slots in (2, 4, 8):
        with Errand(slots=slots) as server:
            figures, ceilings = in_turn(
                3, run_all, lambda: float(run_program("ceiling_spawn", processors, seconds, "/bin/true")))
            failed = server.stats()["failed"]
            if failed:
                raise Broken("%d of the commands failed" % failed)
        figure, ceiling = median(figures), median(ceilings)
        if best is None or figure / ceiling > best[0] / best[1]:
            best = figure, ceiling, slots
    report.line("command tasks (/bin/true)", best[0], "1/s", best[1], ("ratio", ">=", 0.8),
                "%d slots, the best of 2, 4 and 8; bare: %d threads" % (best[2], processors))


# --- elsewhere, and children ---------------------------------------------------------------------------------------


def run_backlog(server, task, count):
    """How many a second, of so many that wait, from the moment that they may start until all results are on disk."""
    pause(server, task)
    server.ask("POST", "/tasks", ('{"task": "%s", "args": %s}\n' % (task, ARGS)).encode() * count,
               "application/x-ndjson")
    began = time.perf_counter()
    server.ask("POST", "/tasks/%s/resume" % task)
    server.drain()
    return count / (time.perf_counter() - began)


def pools(report, quick):
    count, seconds, workers = (10000, 1, 2) if quick else (40000, 2, 2)

    def bare():
        return float(run_program("ceiling_pool", program("pool_child"), workers, workers, seconds, ARGS))

    def line(name, settings, capacity, aim):
        with Errand(tasks="  %s: {%s}\n" % (name, settings)) as server:
            figures, ceilings, natives = in_turn(
                3, lambda: run_backlog(server, name, count), bare, lambda: run_backlog(server, "noop", count))
            if server.stats()["failed"]:
                raise Broken("some bodies of %s failed" % name)
        report.line("%s round trips, %d children, %d in flight, result on disk" % (name, workers, workers * capacity),
                    median(figures), "1/s", median(ceilings), aim,
                    "%.2f of no-ops on threads; bare: a line to each child and back, nothing kept" % (
                        median(figures) / median(natives)))

    child, module = program("pool_child"), program("bench_tasks.so")
    for capacity, aim in ((1, None), (32, ("ratio", ">=", 0.5))):
        line("pool", "kind: process, run: ['%s'], workers: %d, capacity: %d" % (child, workers, capacity), capacity, aim)
    line("isolated", "kind: native, module: %s, function: noop, isolate: {workers: %d, capacity: 32}" % (module, workers),
         32, None)


def http_tasks(report, quick):
    count = 10000 if quick else 40000

    def run_through():
        return run_backlog(server, "hook", count)

    def send_through():
        return float(run_program("ceiling_curl", "http://127.0.0.1:%d/" % sink.port, ARGS, count, 64))

    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with Ceiling(answer) as sink:
        task = "  hook: {kind: http, url: 'http://127.0.0.1:%d/', timeout: 1m}\n" % sink.port
        with Errand(tasks=task) as server:
            figures, ceilings = in_turn(3, run_through, send_through)
    report.line("http tasks, 64 in flight, result on disk", median(figures), "1/s", median(ceilings),
                ("ratio", ">=", 0.4))


def leases(report, quick):
    seconds, backlog = (1, 20000) if quick else (2, 100000)
    for count in (1, 8):
        with Errand() as server:
            server.ask("POST", "/tasks", '{"task":"far"}\n' * backlog, "application/x-ndjson")
            answer = capture(server, raw_request("POST", "/leases", '{"worker":"first","max":1}'))
            with Ceiling(answer) as bare:
                figures, ceilings = in_turn(
                    3, lambda: Workers(server, count).rate(seconds), lambda: Workers(bare, count).rate(seconds))
        report.line("leases: report and ask, %d worker%s" % (count, "s" if count > 1 else ""), median(figures), "1/s",
                    median(ceilings), None, "the client is this script, in one thread")


def children(report, quick):
    depth = 8 if quick else 10
    count = 2 ** (depth + 1) - 1

    def tree():
        began = time.perf_counter()
        server.ask("POST", "/tasks", '{"task":"tree","args":{"depth":%d}}' % depth)
        server.drain()
        return count / (time.perf_counter() - began)

    def same_number():
        began = time.perf_counter()
        server.ask("POST", "/tasks", '{"task":"noop"}\n' * count, "application/x-ndjson")
        server.drain()
        return count / (time.perf_counter() - began)

    with Errand(slots=8) as server:
        figures, ceilings = in_turn(3, tree, same_number)
    report.line("children, each submitted and waited for", median(figures), "1/s", median(ceilings), None,
                "a tree of %d; the ceiling: as many no-ops in bulk" % count)


def groups(report, quick):
    rows = 20000 if quick else 100000
    body = '{"task":"noop","args":[0%s]}' % (",0" * (rows - 1))

    def through():
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        connection.request("POST", "/groups", body, {"Content-Type": "application/json", "Prefer": "return=minimal"})
        answer = connection.getresponse().read()
        made = re.search(rb'"id":"(\w+)"', answer)
        if not made:
            raise Broken("no group was made: %s" % answer[:500])
        connection.request("GET", "/groups/%s/results?order=completion" % made.group(1).decode(),
                           headers={"Accept": "application/x-ndjson"})
        results = connection.getresponse().read()
        connection.close()
        if results.count(b'"status":"succeeded"') != rows:
            raise Broken("not all results came: %s" % results[:500])
        return rows / (time.perf_counter() - began)

    def same_number():
        began = time.perf_counter()
        server.ask("POST", "/tasks", '{"task":"noop"}\n' * rows, "application/x-ndjson")
        server.drain()
        return rows / (time.perf_counter() - began)

    with Errand(slots=8) as server:
        figures, ceilings = in_turn(3, through, same_number)
    report.line("a group of %d no-ops, from request to last result" % rows, median(figures), "1/s", median(ceilings),
                None, "the ceiling: as many in bulk, without results")


STEPS = 500  # of one invocation; ceiling_steps.c knows the number, too


def steps(report, quick):
    seconds = 0.5 if quick else 2

    def record(server, bodies, rate):
        invocations = max(1, round(rate * seconds / STEPS / bodies)) * bodies
        began = time.perf_counter()
        server.ask("POST", "/tasks", '{"task":"steps","args":{"count":%d}}\n' % STEPS * invocations,
                   "application/x-ndjson")
        server.drain()
        took = time.perf_counter() - began
        counts = server.stats()["tasks"]["steps"]
        if counts["failed"]:
            raise Broken("%d bodies of steps failed" % counts["failed"])
        return invocations * STEPS / took

    def insert(bodies):
        folder = new_folder()
        rate = float(run_program("ceiling_steps", os.path.join(folder, "steps.db"), SCHEMA, STEPS * bodies, bodies))
        shutil.rmtree(folder)
        return rate

    for bodies in (1, 8):
        with Errand(slots=bodies) as server:
            rate = record(server, bodies, STEPS * bodies / seconds)  # about how long it takes
            figures, ceilings = in_turn(3, lambda: record(server, bodies, rate), lambda: insert(bodies))
        report.line("steps recorded, %d native bod%s" % (bodies, "ies" if bodies > 1 else "y"), median(figures), "1/s",
                    median(ceilings), None, "the ceiling: bare inserts, %d a commit" % bodies)


# --- loops ------------------------------------------------------------------------------------------------------------


def loops(report, quick):
    """Iterations a second, durable: each is made by the end of the one before it."""
    seconds = 0.5 if quick else 2

    def iterate(server, count, rate):
        iterations = max(1, round(rate * seconds / count))
        body = '{"task":"noop","args":{"n":1},"next":"input","max_iterations":%d}' % iterations
        began = time.perf_counter()
        for _ in range(count):
            server.ask("POST", "/loops", body)
        server.drain()
        return count * iterations / (time.perf_counter() - began)

    def insert(count, rate):
        folder = new_folder()
        done = float(run_program("ceiling_loops", os.path.join(folder, "loops.db"), SCHEMA, round(rate * seconds), count))
        shutil.rmtree(folder)
        return done

    for count in (1, 8):
        with Errand(slots=count) as server:
            rate = iterate(server, count, 200 / seconds)  # about how long it takes
            figures, ceilings = in_turn(3, lambda: iterate(server, count, rate), lambda: insert(count, rate))
        report.line("iterations, %d loop%s" % (count, "s" if count > 1 else ""), median(figures), "1/s",
                    median(ceilings), None, "the ceiling: bare writes of the same rows, %d a commit" % count)


# --- polling ----------------------------------------------------------------------------------------------------------


READERS = 16


def polled(report, quick, sizes):
    """sizes: {name: path of the database}, smallest first; the service in them is paused."""
    seconds = 1 if quick else 2
    servers = {}
    for name, path in sizes.items():
        servers[name] = Errand(path)
    try:
        for name, server in servers.items():
            page = capture(server, raw_request("GET", LIST))
            tag = {"If-None-Match": header_of(page, "ETag") or ""}
            none = capture(server, raw_request("GET", LIST, headers=["If-None-Match: " + tag["If-None-Match"]]))
            if not none.startswith(b"HTTP/1.1 304"):
                raise Broken("no 304 to If-None-Match: " + none[:300].decode())
            with Ceiling(page) as bare_page, Ceiling(none) as bare_none:
                pages, bare_pages, nones, bare_nones = in_turn(
                    3,
                    lambda: load(server, READERS, seconds, path=LIST),
                    lambda: load(bare_page, READERS, seconds, path=LIST),
                    lambda: load(server, READERS, seconds, path=LIST, headers=tag),
                    lambda: load(bare_none, READERS, seconds, path=LIST, headers=tag))
                fresh, bare_fresh = in_turn(
                    2 if quick else 3,
                    lambda: load(server, READERS, seconds, path=LIST, vary=FRESH),
                    lambda: load(bare_page, READERS, seconds, path=LIST, vary=FRESH))
                changing = in_turn(2 if quick else 3, lambda: while_changing(server, server, seconds),
                                   lambda: while_changing(server, bare_page, seconds))
            report.line("GET %s, %s rows" % (LIST, name), rates(pages), "1/s", rates(bare_pages),
                        ("ratio", ">=", 0.5), latencies(pages))
            report.line("  304", rates(nones), "1/s", rates(bare_nones), ("ratio", ">=", 0.8), latencies(nones))
            report.line("  each asked for the first time", rates(fresh), "1/s", rates(bare_fresh), None,
                        latencies(fresh))
            report.line("  while every commit changes it", rates(changing[0]), "1/s", rates(changing[1]), None,
                        latencies(changing[0]) + "; both beside a submitter")
        names = list(sizes)
        many, few = in_turn(
            3 if quick else 7,
            lambda: load(servers[names[-1]], READERS, 1, path=LIST, vary=FRESH),
            lambda: load(servers[names[0]], READERS, 1, path=LIST, vary=FRESH))
        report.line("  p99 of those, %s rows against %s" % (names[-1], names[0]), median([one.p99 for one in many]),
                    "us", median([one.p99 for one in few]), ("ratio", "<=", 1.2))
    finally:
        for server in servers.values():
            server.stop()


def while_changing(server, read_from, seconds):
    writer = Load(server, 1, seconds + 1, method="POST", path="/tasks", body=submission("noop"))
    time.sleep(0.2)
    result = load(read_from, READERS, seconds, path=LIST)
    writer.result()
    return result


def pause_on_disk(path):
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO meta VALUES ('paused', '1') ON CONFLICT (name) DO UPDATE SET value = '1'")
    database.close()


class Dashboards:
    """So many clients that poll the list once a second, each with its last ETag."""

    def __init__(self, server, count):
        self.server, self.polls, self.stopping = server, 0, False
        self.connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
        self.tags = [""] * count
        self.thread = threading.Thread(target=self.poll)
        self.thread.start()

    def poll(self):
        selector = selectors.DefaultSelector()
        count = len(self.connections)
        due = [time.monotonic() + i / count for i in range(count)]
        held = [b""] * count
        for i, connection in enumerate(self.connections):
            selector.register(connection, selectors.EVENT_READ, i)
        while not self.stopping:
            now = time.monotonic()
            for i in range(count):
                if due[i] <= now:
                    due[i] += 1
                    tag = ["If-None-Match: " + self.tags[i]] if self.tags[i] else []
                    self.connections[i].sendall(raw_request("GET", LIST, headers=tag))
            for key, _ in selector.select(max(0, min(due) - now)):
                held[key.data] += key.fileobj.recv(1 << 20)
                self.take(key.data, held)

    def take(self, i, held):
        end = held[i].find(b"\r\n\r\n")
        if end < 0:
            return
        head = held[i][:end]
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        if len(held[i]) >= end + 4 + (int(length.group(1)) if length and b" 304 " not in head[:20] else 0):
            self.tags[i] = header_of(head + b"\r\n", "ETag") or ""
            held[i] = b""
            self.polls += 1

    def stop(self):
        self.stopping = True
        self.thread.join()
        for connection in self.connections:
            connection.close()


def dashboards(report, quick):
    seconds = 2 if quick else 4

    def alone():
        one = post(server, 64, seconds)
        server.drain()
        return one

    def watched():
        viewers = Dashboards(server, 50)
        try:
            one = post(server, 64, seconds)
        finally:
            viewers.stop()
        one.polls = viewers.polls
        server.drain()
        return one

    with Errand() as server:
        alone()
        with_them, without = in_turn(3 if quick else 5, watched, alone)
    cost = 100 * (1 - rates(with_them) / rates(without))
    polls = sum(one.polls for one in with_them)
    if polls < 25 * seconds:
        raise Broken("the dashboards were answered %d times only" % polls)
    report.line("50 dashboards, once a second, cost submitters", cost, "%", None, None,
                "%.0f/s run through beside them, %.0f/s without; p99 %d us against %d us"
                % (rates(with_them), rates(without), median([one.p99 for one in with_them]),
                   median([one.p99 for one in without])))


# --- size -------------------------------------------------------------------------------------------------------------


def memory(report, quick):
    with Errand() as server:
        server.ask("GET", "/healthz")
        server.ask("POST", "/tasks", submission("noop"))
        server.drain()
        report.line("memory, idle", server.rss_kb() / MB, "MB", None, ("figure", "<=", 12))
        before = server.rss_kb()
        connections = []
        for _ in range(1000):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(raw_request("GET", "/healthz"))
            connection.recv(4096)
            connections.append(connection)
        each = (server.rss_kb() - before) / len(connections)
        for connection in connections:
            connection.close()
        report.line("memory, one idle connection of 1000", each, "kB", None, ("figure", "<=", 20))

    wanted = 200000 if quick else 2000000
    with Errand() as server:
        finished, seen = 0, []
        while finished < wanted:
            post(server, 64, 1)
            server.drain()
            finished = server.stats()["finished"]
            seen.append((finished, server.rss_kb()))
        early = next(kb for count, kb in seen if count >= wanted / 2)  # the page cache is full by then
        late = seen[-1][1]
        report.line("memory, growth from %dk to %dk finished jobs" % (wanted / 2000, finished / 1000),
                    (late - early) / MB, "MB", None, ("figure", "<=", 2), "%.1f MB to %.1f MB" % (early / MB, late / MB))


def backlog(report, quick):
    rows = 1000000 if quick else 10000000
    seconds = 1 if quick else 2
    body = submission("doze")
    path = fill(rows, rows, "doze", "noop")
    with Errand(path) as full, Errand() as empty:
        post(empty, 4, 1, body)  # so that its slots are taken, too
        loaded, unloaded = in_turn(5, lambda: post(full, 64, seconds, body), lambda: post(empty, 64, seconds, body))
        full.ask("GET", LIST)
        kb = full.rss_kb()
        full.stop(9)
        empty.stop(9)
    remove(path)
    report.line("memory, %d million rows queued" % (rows / 1e6), kb / MB, "MB", None, ("figure", "<=", 64))
    report.line("POST /tasks, 64, on a backlog of %d million" % (rows / 1e6), rates(loaded), "1/s", rates(unloaded),
                ("ratio", ">=", 0.9), "against an empty one")


def start(report, path, rows, queued):
    times = []
    for _ in range(3):
        with Errand(path) as server:
            times.append(server.seconds_to_ready)
    report.line("start with %s rows, %s queued" % (rows, queued), median(times), "s", None, ("figure", "<=", 0.5))


def on_disk(report, quick):
    """What is measured on large databases: starting, and polling them at three sizes."""
    sizes = {"1k": fill(1000, 0, "resize_image", "noop")}
    if not quick:
        sizes["1M"] = fill(1000000, 100000, "resize_image", "noop")
    largest = "1M" if quick else "10M"
    rows = 1000000 if quick else 10000000
    sizes[largest] = fill(rows, rows // 10, "resize_image", "noop")
    start(report, sizes[largest], largest, "100k" if quick else "1M")
    for path in sizes.values():
        pause_on_disk(path)
    polled(report, quick, sizes)
    for path in sizes.values():
        remove(path)


def binary(report, quick):
    del quick
    stripped = os.path.join(BUILD, "stripped")
    shutil.copy(ERRAND, stripped)
    subprocess.run(["strip", stripped], check=True)
    report.line("the binary, stripped", os.path.getsize(stripped) / 1048576, "MB", None, ("figure", "<=", 1))
    os.unlink(stripped)


ALL = [submit, run, bulk, idle, commands, pools, http_tasks, leases, children, groups, steps, loops, suspend, on_disk, memory, backlog, dashboards, binary]
