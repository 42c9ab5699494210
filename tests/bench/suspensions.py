"""The line `suspend`: turns that suspend and are woken, and what those cost that are not."""

import datetime
import http.client
import json
import threading
import time

from harness import Broken, Ceiling, Errand, PATIENCE, Workers, capture, in_turn, median, raw_request

MB = 1024.0
AT_ONCE = 200  # that sleep and are woken in turn
NAPS = 50  # of each


class Nappers(Workers):
    report = '"suspend":{"on":{"until":"1ms"},"state":{"n":1}}'


class Poller:
    """A connection of its own, and what it asks for."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)

    def ask(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status // 100 != 2:
            raise Broken("POST %s: %d %s" % (path, answer.status, text[:300]))
        return json.loads(text) if text else None

    def lease(self, **more):
        return self.ask("/leases", {"worker": "w", "tasks": ["far"], "wait": "30s", **more})["leases"]


def suspend_many(server, count):
    server.ask("POST", "/tasks", '{"task":"far"}\n' * count, "application/x-ndjson")
    poller, done, left = Poller(server), [], count
    on = ({"until": "30d"}, {"inbox": True}, {"inbox": True, "until": "7d"})
    while left > 0:
        leases = poller.lease(max=min(left, 100), done=done)
        left -= len(leases)
        done = [{"token": one["token"], "suspend": {"on": on[i % 3], "state": {"n": i}}} for i, one in enumerate(leases)]
    poller.lease(max=0, wait="0s", done=done)


def cpu_ms(server):
    with open("/proc/%d/stat" % server.pid) as file:
        fields = file.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10


# --- from what wakes it to the answer of the poll that waits for it -----------------------------------------------------


def hears(server, wake):
    """wake(lease) says what to suspend on, and what to do then: (on, function that returns when it was)."""
    poller, other = Poller(server), Poller(server)
    poller.ask("/tasks", {"task": "far", "priority": 0})
    lease = poller.lease()[0]
    on, act = wake(other, lease)
    poller.ask("/leases/%s/suspend" % lease["token"], {"on": on})
    heard = {}

    def poll():
        heard["leases"] = poller.lease()
        heard["at"] = time.time()

    thread = threading.Thread(target=poll)
    thread.start()
    time.sleep(0.02)
    at = act()
    thread.join()
    if heard["leases"][0]["invocation"]["id"] != lease["invocation"]["id"]:
        raise Broken("another was woken")
    poller.ask("/leases/%s/complete" % heard["leases"][0]["token"], {})
    return max(0, heard["at"] - at) * 1000


def by_time(other, lease):
    del other, lease
    due = round(time.time() + 0.05, 3)
    text = datetime.datetime.fromtimestamp(due, datetime.timezone.utc).isoformat(timespec="milliseconds")
    return {"until": text.replace("+00:00", "Z")}, lambda: due


def by_message(other, lease):
    def act():
        other.ask("/invocations/%s/inbox" % lease["invocation"]["id"], 1)
        return time.time()

    return {"inbox": True}, act


def by_child(other, lease):
    child = other.ask("/leases/%s/children" % lease["token"], {"task": "far", "priority": 0})["id"]
    token = other.lease()[0]["token"]

    def act():
        other.ask("/leases/%s/complete" % token, {})
        return time.time()

    return {"ids": [child]}, act


# --- the line -----------------------------------------------------------------------------------------------------------


def elsewhere(report, seconds):
    for count in (1, 8):
        with Errand() as server:
            server.ask("POST", "/tasks", '{"task":"far"}\n' * AT_ONCE, "application/x-ndjson")
            answer = capture(server, raw_request("POST", "/leases", '{"worker":"first","max":1}'))
            with Ceiling(answer) as bare:
                figures, ceilings = in_turn(
                    3, lambda: Nappers(server, count).rate(seconds), lambda: Workers(bare, count).rate(seconds))
        report.line("suspend and wake, %d worker%s elsewhere" % (count, "s" if count > 1 else ""), median(figures), "1/s",
                    median(ceilings), None, "%d of them sleep for 1 ms; the client is this script" % AT_ONCE)


def here(report):
    count = AT_ONCE * NAPS

    def naps():
        began = time.perf_counter()
        server.ask("POST", "/tasks", '{"task":"naps","args":{"count":%d}}\n' % NAPS * AT_ONCE, "application/x-ndjson")
        server.drain()
        return count / (time.perf_counter() - began)

    def as_many_steps():
        began = time.perf_counter()
        server.ask("POST", "/tasks", '{"task":"steps","args":{"count":%d}}\n' % NAPS * AT_ONCE, "application/x-ndjson")
        server.drain()
        return count / (time.perf_counter() - began)

    with Errand(slots=8) as server:
        figures, ceilings = in_turn(3, naps, as_many_steps)
        if server.stats()["tasks"]["naps"]["failed"]:
            raise Broken("bodies could not suspend")
    report.line("suspend and wake, native", median(figures), "1/s", median(ceilings), None,
                "8 slots; the ceiling: as many steps, each a commit that a body waits for")


def at_rest(report, rows):
    with Errand() as empty:
        empty.stats()
        bare = empty.rss_kb()
    with Errand() as server:
        suspend_many(server, rows)
        before = cpu_ms(server)
        time.sleep(2)
        cost = cpu_ms(server) - before
        for name, wake in (("a time", by_time), ("a message", by_message), ("a child's end", by_child)):
            took = sorted(hears(server, wake) for _ in range(20))
            report.line("  woken by %s, until a poll hears it" % name, median(took), "ms", None, ("figure", "<=", 50),
                        "beside %d thousand; max %.1f ms" % (rows / 1000, took[-1]))
        server.stop(9)
        with Errand(server.database) as again:
            again.stats()
            report.line("  memory of %d thousand after a restart" % (rows / 1000), (again.rss_kb() - bare) / MB, "MB",
                        None, ("figure", "<=", 2), "ready in %.3f s" % again.seconds_to_ready)
    report.line("  processor time of %d thousand, in 2 s" % (rows / 1000), cost, "ms", None, ("figure", "<=", 10))


def suspend(report, quick):
    elsewhere(report, 1 if quick else 2)
    here(report)
    at_rest(report, 10000 if quick else 100000)
