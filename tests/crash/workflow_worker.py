"""A process of workflows.py that leases workflows and their children, and may be killed at any moment.

    workflow_worker.py FOLDER NAME SEED

What ../e2e/native/workflows.c is to the server, this is elsewhere; both note what they do in the same file, a line each.
`sends` stands before a request that suspends or ends a turn, `heard` after the answer to any."""

import json
import os
import random
import sys
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import Broke, Client  # noqa: E402

UNTIL_VALUE = 7
LEASES_MS = (1000, 1500, 2500)
LATE = 0.02  # of the turns sleep until their lease is over


class Over(Exception):
    """The turn is: it has ended or suspended, or was lost."""


class Server:
    """Wherever it listens by now."""

    def __init__(self, folder):
        self.address, self.client = os.path.join(folder, "port"), None

    def ask(self, method, path, body=None):
        """(status, answer), or Broke; 503 says as little."""
        try:
            if not self.client:
                with open(self.address) as file:
                    self.client = Client(int(file.read()))
            status, text = self.client.ask(method, path, json.dumps(body).encode() if body is not None else None)
        except Broke:
            self.client = None
            time.sleep(0.01)
            raise
        if status == 503:
            time.sleep(0.01)
            raise Broke
        return status, json.loads(text) if text else None


class Ledger:
    def __init__(self, folder):
        self.file = os.open(os.path.join(folder, "ledger"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *words):
        os.write(self.file, (" ".join(map(str, words)) + "\n").encode())


class Turn:
    """A lease, as its holder sees it."""

    def __init__(self, worker, lease, length_ms, asked):
        self.worker, self.rng, self.token, self.length = worker, worker.rng, lease["token"], length_ms / 1000
        self.row, self.steps = lease["invocation"], lease["steps"]
        self.id, self.args, self.run = self.row["id"], self.row["args"], time.time_ns()
        self.by, self.answer, self.says = None, None, None  # what woke it; the report that goes along with the next poll
        if self.row["task"] == "far":
            self.begin(lease["state"], lease["woken"], asked)

    def begin(self, state, woken, asked):
        state = state or {"values": [], "chain": [], "seen": []}
        self.values, self.chain, self.seen = state["values"], state["chain"], state["seen"]
        self.note("start", asked, time.monotonic_ns(), json.dumps({"chain": self.chain}, separators=(",", ":"))[1:-1])
        if (woken is None) != (self.chain == []):
            self.note("fault", "it has a state and was not woken, or otherwise")
        if woken:
            self.by = woken["by"]
            self.answer = woken["results"][0]["result"] if woken["results"] else None
            for message in woken["messages"]:
                self.take_message(message["body"])

    def take_message(self, body):
        if body in self.seen:
            self.note("fault", body, "was given to two turns that ended well")
        self.seen.append(body)

    def note(self, what, *words):
        self.worker.ledger.note(what, self.id, self.run, *words)

    # --- requests; an answer that does not come is asked for again ---

    def ask(self, method, path, body, stamp=0):
        """Its end, if it has a stamp. Over: whatever came of it, the turn is over."""
        for again in range(200):
            if stamp:
                self.note("sends", stamp)
            sent = time.monotonic_ns()
            try:
                status, answer = self.worker.server.ask(method, "/leases/%s/%s" % (self.token, path), body)
            except Broke:
                continue
            self.heard(path.partition("/")[0], stamp, again, sent, status)
            if status == 409 and answer["type"].endswith("stale-lease"):
                raise Over
            return status, answer
        raise Over

    def heard(self, what, stamp, again, sent, status):
        self.note("heard", stamp, what, again, sent, time.monotonic_ns(), status)

    def expect(self, status, answer, *wanted):
        if status not in wanted:
            self.note("fault", status, json.dumps(answer))
            raise Over

    # --- ends ---

    def suspend(self, on):
        if self.rng.random() < 0.1:
            self.suspend_in_vain()
        stamp = time.time_ns()
        suspension = {"on": on, "state": {"values": self.values, "chain": self.chain + [stamp], "seen": self.seen}}
        if self.rng.random() < 0.3:
            self.says = stamp, {"suspend": suspension}
            raise Over
        status, answer = self.ask("POST", "suspend", suspension, stamp)
        self.expect(status, answer, 204)
        self.note("suspended", stamp, time.monotonic_ns())
        self.say_more()
        raise Over

    def suspend_in_vain(self):
        stamp = time.time_ns()
        unknown = self.rng.random() < 0.5
        on = {"ids": ["0000000000001" if unknown else self.id]}
        state = {"values": [], "chain": [stamp], "seen": []}
        status, answer = self.ask("POST", "suspend", {"on": on, "state": state}, stamp)
        self.expect(status, answer, 422 if unknown else 409)
        self.note("refused", stamp)

    def say_more(self):
        """Nothing of it counts: see Audit."""
        dice = self.rng.random()
        if dice < 0.1:
            self.ask("POST", "heartbeat", {})
        elif dice < 0.2:
            self.ask("PUT", "steps/late", {"value": 1})
        elif dice < 0.3:
            self.ask("POST", "complete", {"result": "late"}, time.time_ns())

    def complete(self, result):
        stamp = time.time_ns()
        result = result(stamp)
        if self.rng.random() < 0.3:
            self.says = stamp, {"result": result}
            return
        status, answer = self.ask("POST", "complete", {"result": result}, stamp)
        self.expect(status, answer, 204)

    def fail(self):
        stamp = time.time_ns()
        status, answer = self.ask("POST", "fail", {"error": {"type": "chance", "message": str(stamp)}}, stamp)
        self.expect(status, answer, 204)
        raise Over

    # --- steps ---

    def do_value(self, k):
        if str(k) in self.steps:
            return self.steps[str(k)]
        value = time.time_ns()
        self.note("work", k, value)
        time.sleep(self.args["us"] / 1e6)
        status, answer = self.ask("PUT", "steps/%d" % k, {"value": value})
        self.expect(status, answer, 201, 200)
        if status == 201:
            self.note("done", k, value, time.monotonic_ns())
        elif answer["value"] != value:  # of a request that was not answered, else
            self.note("fault", "step", k, "was recorded by another")
        return answer["value"]

    def child(self, k, task):
        status, answer = self.ask("POST", "children", {"task": task, "args": self.args["number"] * 10 + k, "step": str(k)})
        self.expect(status, answer, 201, 200)
        return answer["id"]

    def do_child(self, k):
        id, wait = self.child(k, "leaf"), self.rng.choice(["10ms", "100ms", "1s"])
        while True:
            status, answer = self.ask("POST", "wait", {"on": {"ids": [id]}, "wait": wait})
            self.expect(status, answer, 200, 202)
            if status == 200:
                self.expect(answer["results"][0]["status"], answer, "succeeded")
                return answer["results"][0]["result"]

    def do_join(self, k, task, timed):
        if self.by == "ids":
            return self.answer
        if self.by and not (timed and self.by == "until"):
            self.note("fault", "step", k, "was woken by", self.by)
        on = {"ids": [self.child(k, task)]}
        self.suspend(dict(on, until="3ms") if timed and not self.by else on)

    def do_until(self, k):
        if self.by == "until":
            return UNTIL_VALUE
        if self.by:
            self.note("fault", "step", k, "was woken by", self.by)
        self.suspend({"until": "1ms" if k % 2 else "20ms"})

    def look_into_inbox(self):
        status, answer = self.ask("GET", "inbox?after=0&wait=" + self.rng.choice(["0s", "20ms"]), None)
        self.expect(status, answer, 200)
        for message in answer["items"]:
            if message["body"] not in self.seen:  # those that it was woken with are unread still
                self.seen.append(message["body"])

    def do_messages(self, k, wanted):
        if self.by and self.by != "inbox":
            self.note("fault", "step", k, "was woken by", self.by)
        if self.rng.random() < 0.2:
            self.look_into_inbox()
        mine = [message for message in self.seen if message % 10 == k]
        if len(mine) < wanted:
            self.suspend({"inbox": True})
        return sum(mine)

    def do_step(self, k):
        kind = self.args["plan"][k]
        if kind == "v":
            return self.do_value(k)
        if kind == "c":
            return self.do_child(k)
        if kind in "jJaA":
            return self.do_join(k, "leaf" if kind in "ja" else "chip", kind in "aA")
        if kind == "u":
            return self.do_until(k)
        return self.do_messages(k, 1 if kind == "m" else 2)

    def do_flow(self):
        while len(self.values) < len(self.args["plan"]):
            value = self.do_step(len(self.values))
            self.by = None
            self.values.append(value)
            if self.rng.random() * 100 < self.args["chance"]:
                self.fail()
        self.complete(lambda stamp: {"end": stamp, "values": self.values, "chain": self.chain, "seen": self.seen})

    def do(self):
        if self.rng.random() < LATE:
            time.sleep(self.length * 1.05)
        try:
            if self.row["task"] == "chip":
                self.complete(lambda _: self.args * 2 + 1)
            else:
                self.do_flow()
        except Over:
            pass


class Worker:
    def __init__(self, folder, name, seed):
        self.server, self.ledger, self.name, self.rng = Server(folder), Ledger(folder), name, random.Random(seed)

    def report_and_ask(self, reports):
        """What is due to be said goes along; it is said again if no answer comes."""
        length, most = self.rng.choice(LEASES_MS), self.rng.choice([1, 1, 1, 3])
        body = {"worker": self.name, "max": most, "lease": "%dms" % length, "wait": self.rng.choice(["50ms", "500ms"]),
                "done": [dict(turn.says[1], token=turn.token) for turn in reports]}  # fmt: skip
        for again in range(200):
            for turn in reports:
                turn.note("sends", turn.says[0])
            sent = time.monotonic_ns()
            try:
                status, answer = self.server.ask("POST", "/leases", body)
            except Broke:
                continue
            if status != 200:
                raise service.Violation("POST /leases: %d %s" % (status, answer))
            self.hear(reports, again, sent, answer["refused"])
            return [Turn(self, lease, length, sent) for lease in answer["leases"]]
        return []

    @staticmethod
    def hear(reports, again, sent, refused):
        refused = {one["token"] for one in refused}
        for turn in reports:
            stamp, says = turn.says
            turn.heard("suspend" if "suspend" in says else "complete", stamp, again, sent, 409 if turn.token in refused else 204)
            if "suspend" in says and turn.token not in refused:
                turn.note("suspended", stamp, time.monotonic_ns())

    def work(self):
        turns = []
        while True:
            turns = self.report_and_ask([turn for turn in turns if turn.says])
            for turn in turns:
                turn.do()


if __name__ == "__main__":
    Worker(*sys.argv[1:4]).work()
