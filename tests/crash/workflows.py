#!/usr/bin/env python3
"""Workflows of ten steps, here and elsewhere, at a server that is killed again and again; so are the workers.

    tests/crash/workflows.py [KILLS]       SEED=N repeats a run's choices (not its timing), KEEP=1 leaves the folder behind

A step records a value, waits in place for a child, or suspends: until a time, until a child ends, until messages come,
which the test sends before and after. Each suspension has a stamp of its own, and the state that it leaves has those of
all before it: the result says which of them took effect. See Audit. The exit status is 1 on any violation."""

import collections
import heapq
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import PATIENCE, Broke, Client, Faults, Server, Violation  # noqa: E402
from workflow_worker import UNTIL_VALUE  # noqa: E402

UNFINISHED = 30  # workflows, as many are kept going
WORKERS = 4
STEPS = 10
MESSAGES = {"m": 1, "n": 2}  # that such a step takes
ROUND_SECONDS = ((0.02, 0.2), (0.05, 1.2))  # short ones kill the same body again
CLEAN_STOPS = 0.15  # of the rounds
SLOW = 0.25
ISOLATED = 0.5  # their native bodies run in children of the server
KILLED_AT_START = 0.1
WORKER_LIVES = 1.5  # seconds, at most

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: 6
log: {level: error}
defaults: {max_retries: 1000, max_recoveries: 1000, backoff: {initial: 1ms, factor: 1}}
tasks:
  near: {kind: native, module: workflows.so, function: flow}
  leaf: {kind: native, module: workflows.so}
  far: {kind: remote}
  chip: {kind: remote}
"""


class Sender(threading.Thread):
    """Sends each message when its time has come until it is answered, and some of them once more."""

    def __init__(self, run):
        super().__init__(daemon=True)
        self.run_of, self.rng = run, random.Random(run.seed)
        self.lock = threading.Lock()  # guards what follows
        self.due = []  # (time, id, key, body, its number or None)
        self.under_way = 0
        self.sent = {}  # number by (id, body)
        self.replays = 0

    def add(self, id, body, within=1.0):
        with self.lock:
            heapq.heappush(self.due, (time.monotonic() + self.rng.random() ** 2 * within, id, "m%d" % body, body, None))

    def left(self):
        with self.lock:
            return len(self.due) + self.under_way

    def take(self):
        with self.lock:
            if not self.due or self.due[0][0] > time.monotonic():
                return None
            self.under_way += 1
            return heapq.heappop(self.due)

    def give_back(self, *again):
        with self.lock:
            self.under_way -= 1
            for one in again:
                heapq.heappush(self.due, one)

    def settle(self, one, status, text):
        _, id, key, body, before = one
        if status == 429:
            self.give_back((time.monotonic() + 0.05, *one[1:]))
            return
        if status not in (200, 201):
            raise Violation("a message to %s: %d %s" % (id, status, text))
        seq = json.loads(text)["seq"]
        if before and (seq, status) != (before, 200):
            raise Violation("message %s to %s was %d and is %d %s" % (key, id, before, status, text))
        self.sent[id, body] = seq
        self.replays += before is not None
        again = before is None and self.rng.random() < 0.3
        self.give_back(*([(time.monotonic() + self.rng.random() * 0.5, id, key, body, seq)] if again else []))

    def run(self):
        self.run_of.guard(self.work)

    def work(self):
        client = None
        while not self.run_of.over:
            one = self.take()
            if not one:
                time.sleep(0.002)
                continue
            try:
                if not client or client.connection.port != self.run_of.server.port:
                    client = Client(self.run_of.server.port)
                status, text = client.ask("POST", "/invocations/%s/inbox" % one[1], json.dumps(one[3]), {"Idempotency-Key": one[2]})
            except Broke:
                status = 503
            if status == 503:
                self.give_back((time.monotonic() + 0.01, *one[1:]))
            else:
                self.settle(one, status, text)


class Workers(threading.Thread):
    """Keeps the processes going, and kills one now and then."""

    def __init__(self, run):
        super().__init__(daemon=True)
        self.run_of, self.rng = run, random.Random(run.seed + 1)
        self.children, self.number, self.kills = [], 0, 0

    def spawn(self):
        self.number += 1
        script = os.path.join(service.HERE, "workflow_worker.py")
        name = "w%d" % self.number
        return subprocess.Popen([sys.executable, script, self.run_of.server.folder, name, str(self.rng.random())],
                                preexec_fn=service.die_with_parent)  # fmt: skip

    def run(self):
        self.run_of.guard(self.work)

    def work(self):
        self.children = [self.spawn() for _ in range(WORKERS)]
        try:
            while not self.run_of.over:
                time.sleep(self.rng.random() * WORKER_LIVES)
                i = self.rng.randrange(WORKERS)
                if self.children[i].poll() is not None:
                    raise Violation("a worker ended by itself")
                if not self.run_of.closing:
                    self.kill(self.children[i])
                    self.children[i] = self.spawn()
        finally:
            for child in self.children:
                self.kill(child)

    def kill(self, child):
        child.kill()
        child.wait()
        self.kills += 1


class Run:
    def __init__(self, folder, seed):
        self.server, self.seed, self.rng = Server(folder), seed, random.Random(seed)
        self.over = self.closing = False
        self.isolated = 0  # rounds
        self.number = 0
        self.under_way = None  # a submission that was not answered
        self.promised = {}  # arguments by id
        self.errors = []
        self.sender, self.workers = Sender(self), Workers(self)

    def guard(self, work):
        try:
            work()
        except Exception as error:  # a thread's failure is the run's
            if not self.over:
                self.errors.append(error)

    # --- what is submitted ---

    def make(self):
        self.number += 1
        plan = "".join(self.rng.choices("vcujJaAmn", (5, 2, 2, 1, 1, 1, 1, 1, 1), k=STEPS))
        args = {"plan": plan, "number": self.number, "us": self.rng.choice([0, 0, 5000, 50000]),
                "chance": self.rng.choice([0, 0, 0, 5])}  # fmt: skip
        return {"task": self.rng.choice(["near", "far"]), "args": args, "key": "flow-%d" % self.number}

    def submit(self, client):
        body = self.under_way = self.under_way or self.make()
        status, text = client.ask("POST", "/tasks", json.dumps(body))
        if status not in (200, 201):
            raise Violation("POST /tasks: %d %s" % (status, text))
        id, self.under_way = json.loads(text)["id"], None
        self.promised[id] = body["args"]
        for message in messages_of(body["args"]):
            self.sender.add(id, message)

    def unfinished(self, client):
        counts = json.loads(client.get("/stats"))["tasks"]
        return sum(counts[task][status] for task in ("near", "far")
                   for status in service.NOT_FINAL)  # fmt: skip

    def feed(self, client, until):
        while time.monotonic() < until and not self.errors:
            for _ in range(UNFINISHED - self.unfinished(client)):
                self.submit(client)
            time.sleep(0.005)

    # --- rounds ---

    def configure(self):
        isolate = self.rng.random() < ISOLATED
        self.isolated += isolate
        self.server.configure(CONFIG, isolate)

    def start(self):
        self.configure()
        slow = self.rng.random() < SLOW and not self.closing
        self.server.variables = service.slow_commits(1, 40, self.rng.randrange(1 << 32)) if slow else {}
        self.server.start()
        path = os.path.join(self.server.folder, "port")
        with open(path + ".new", "w") as file:
            file.write(str(self.server.port))
        os.rename(path + ".new", path)

    def round(self):
        self.start()
        self.server.check_orphans()
        length = self.rng.uniform(*self.rng.choice(ROUND_SECONDS))
        stop = self.rng.random() < CLEAN_STOPS
        service.run_for(self.server, length, stop, self.feed)
        if self.errors:
            raise self.errors[0]

    def killed_at_start(self):
        self.configure()
        self.server.spawn()
        time.sleep(self.rng.uniform(0, 0.1))
        self.server.kill()

    def storm(self, kills):
        self.start()
        self.sender.start()
        self.workers.start()
        self.server.kill()
        for _ in range(kills):
            self.killed_at_start() if self.rng.random() < KILLED_AT_START else self.round()

    def drain(self):
        """All of them end, whatever it takes, as long as it gets on."""
        self.closing = True
        self.start()
        client = Client(self.server.port)
        if self.under_way:
            self.submit(client)
        left, since = None, time.monotonic()
        while left != 0:
            time.sleep(0.02)
            now = self.unfinished(client) + self.sender.left()
            if left is None or now < left:
                left, since = now, time.monotonic()
            if self.errors:
                raise self.errors[0]
            if time.monotonic() > since + PATIENCE:
                raise Violation("%d workflows and messages do not end: %s" % (now, client.get("/stats")))
        self.over = True
        self.sender.join(PATIENCE)
        self.workers.join(PATIENCE)
        return client


def messages_of(args):
    """The last digit says the step."""
    for k, kind in enumerate(args["plan"]):
        for i in range(MESSAGES.get(kind, 0)):
            yield ((args["number"] * 10 + i) * 10) + k


# --- the end ---------------------------------------------------------------------------------------------------------


class Turn:
    """One run of a workflow's body, as it noted it."""

    def __init__(self, id, run):
        self.id, self.run = id, run
        self.asked = self.started = None  # when, on the monotonic clock
        self.chain = []  # of suspensions, as its state said
        self.heard = []  # (stamp, what, again, sent, heard, status)
        self.suspended = None  # when it knew


class Audit(Faults):
    """Holds what the bodies noted against what the server says of them, and against the database."""

    def __init__(self, run, client):
        super().__init__(client)
        self.run = run
        self.by_id = {row["id"]: row for row, _ in self.rows}
        self.turns = {}  # by (id, run)
        self.done = {}  # (run, value, when) by (id, step)
        self.suspended = collections.defaultdict(list)  # (when, stamp) by id
        self.sends = collections.Counter()  # by (id, stamp)
        self.answers = collections.defaultdict(list)  # statuses by (id, stamp)
        self.worked = set()
        self.refused, self.repeated = 0, 0

    def check(self):
        self.check_rows()
        with open(os.path.join(self.run.server.folder, "ledger")) as file:
            for line in file:
                words = line.split()
                turn = self.turns.setdefault((words[1], words[2]), Turn(words[1], words[2]))
                getattr(self, "note_" + words[0])(turn, *words[3:])
        by_id = collections.defaultdict(list)
        for turn in self.turns.values():
            by_id[turn.id].append(turn)
        for id, turns in by_id.items():
            self.check_turns(id, turns)
        for (id, stamp), n in self.sends.items():
            self.check_end(id, stamp, n, self.answers[id, stamp])

    # --- rows ---

    def check_rows(self):
        numbers = collections.Counter(row["args"]["number"] for row in self.flows())
        for number, n in numbers.items():
            if n > 1:
                self.fault("workflow", number, "is there", n, "times")
        for id, args in self.run.promised.items():
            if id not in self.by_id or self.by_id[id]["args"] != args:
                self.fault(id, "was acknowledged and is not there:", self.by_id.get(id))
        for row, _ in self.rows:
            if row["status"] != "succeeded":
                self.fault(row["id"], row["task"], "is", row["status"], row["error"], row["args"])
            elif row["task"] in ("near", "far"):
                self.check_result(row)
            elif row["result"] != row["args"] * 2 + 1:
                self.fault(row["id"], "has the result", row["result"], "of", row["args"])

    def flows(self):
        return [row for row, _ in self.rows if row["task"] in ("near", "far")]

    def check_result(self, row):
        result, args = row["result"], row["args"]
        if not isinstance(result, dict):
            self.fault(row["id"], "has the result", result)
            return
        sent = sorted(messages_of(args))
        if sorted(result["seen"]) != sent:
            self.fault(row["id"], "has seen the messages", result["seen"], "of", sent)
        if any((row["id"], body) not in self.run.sender.sent for body in result["seen"]):
            self.fault(row["id"], "has seen what was not sent:", result["seen"])
        if len(result["values"]) != STEPS:
            self.fault(row["id"], "has not", STEPS, "values:", result["values"])
        for k, value in enumerate(result["values"]):
            kind = args["plan"][k]
            wanted = (UNTIL_VALUE if kind == "u" else (args["number"] * 10 + k) * 2 + 1 if kind in "cjJaA" else
                      sum(body for body in sent if body % 10 == k) if kind in MESSAGES else value)  # fmt: skip
            if value != wanted:
                self.fault(row["id"], "step", k, kind, "has the value", value, "and not", wanted)
        attempts = json.loads(self.client.get("/invocations/%s/attempts" % row["id"]))["items"]
        if [one["attempt"] for one in attempts] != list(range(1, row["attempt"] + 1)):
            self.fault(row["id"], row["attempt"], "has the attempts", attempts)

    def result(self, id):
        result = self.by_id[id]["result"] if id in self.by_id else None
        return result if isinstance(result, dict) else {"end": 0, "values": [], "chain": [], "seen": []}

    # --- lines ---

    def note_start(self, turn, asked, at, chain):
        turn.asked, turn.started, turn.chain = int(asked), int(at), json.loads("{" + chain + "}")["chain"]

    def note_work(self, turn, k, value):
        run, kept, at = self.done.get((turn.id, k), (None, None, 0))
        if kept and (run == turn.run or turn.started > at):
            self.fault(turn.id, "worked at step", k, "which was recorded as", kept)
        self.repeated += (turn.id, k) in self.worked
        self.worked.add((turn.id, k))

    def note_done(self, turn, k, value, at):
        if (turn.id, k) in self.done:
            self.fault(turn.id, "recorded step", k, "twice")
        self.done[turn.id, k] = turn.run, value, int(at)
        values = self.result(turn.id)["values"]
        if values[int(k) : int(k) + 1] != [int(value)]:
            self.fault(turn.id, "recorded step", k, "as", value, "and has", values)

    def note_suspended(self, turn, stamp, at):
        turn.suspended = int(at)
        self.suspended[turn.id].append((int(at), int(stamp)))
        if int(stamp) not in self.result(turn.id)["chain"]:
            self.fault(turn.id, "suspended as", stamp, "which had no effect:", self.result(turn.id)["chain"])

    def note_refused(self, turn, stamp):
        self.refused += 1
        if int(stamp) in self.result(turn.id)["chain"]:
            self.fault(turn.id, "was refused the suspension", stamp, "which had effect")

    def note_sends(self, turn, stamp):
        self.sends[turn.id, int(stamp)] += 1

    def note_heard(self, turn, stamp, what, again, sent, heard, status):
        turn.heard.append((what, int(again), int(sent), int(heard), int(status)))
        if int(stamp):
            self.answers[turn.id, int(stamp)].append((what, int(status)))

    def note_fault(self, turn, *words):
        self.fault(turn.id, turn.run, *words)

    # --- turns ---

    def check_turns(self, id, turns):
        chain = self.result(id)["chain"]
        turns = sorted((turn for turn in turns if turn.started is not None), key=lambda turn: turn.started)
        for turn in turns:
            if turn.chain != chain[: len(turn.chain)]:
                self.fault(id, "had a turn with the suspensions", turn.chain, "of", chain)
            before = [stamp for at, stamp in self.suspended[id] if at < turn.asked]
            if not set(before) <= set(turn.chain):
                self.fault(id, "began a turn with the suspensions", turn.chain, "after", before)
            for what, again, sent, _, status in turn.heard:
                if turn.suspended and sent > turn.suspended and status < 300:
                    self.fault(id, turn.run, "went on after it had suspended:", what, status)
        for turn, after in zip(turns, turns[1:]):
            for what, again, sent, _, status in turn.heard:
                if status < 300 and not again and sent > after.started:
                    self.fault(id, turn.run, what, "counted while", after.run, "was under way")

    def check_end(self, id, stamp, sends, answers):
        """A suspension has effect if it is in the chain, an end if the result says so, a failure if an attempt does."""
        what = answers[0][0] if answers else None
        if what is None or self.by_id[id]["task"] not in ("near", "far"):
            return
        result, good = self.result(id), any(status < 300 for _, status in answers)
        if what == "fail":
            attempts = json.loads(self.client.get("/invocations/%s/attempts" % id))["items"]
            took = any(one["error"] and one["error"]["message"] == str(stamp) for one in attempts)
        else:
            took = stamp in result["chain"] if what == "suspend" else stamp == result["end"]
        if good and not took:
            self.fault(id, what, stamp, "was answered", answers, "and had no effect")
        if took and not good and len(answers) == sends:
            self.fault(id, what, stamp, "was refused", answers, "and had effect")

    # --- after a clean stop ---

    def check_database(self, path):
        database = sqlite3.connect(path)
        steps, children = collections.defaultdict(dict), collections.defaultdict(list)
        for id, name, value in database.execute("SELECT id, name, value FROM steps"):
            steps[id][name] = int(value)
        for parent, step in database.execute("SELECT parent, step FROM children ORDER BY parent, step"):
            children[parent].append(step)
        turns = dict(database.execute("SELECT id, turns FROM suspensions"))
        for id, args, result in database.execute(
                "SELECT i.id, i.args, COALESCE(i.result, p.data) FROM invocations i JOIN tasks t ON t.id = i.task "
                "LEFT JOIN payloads p ON p.id = i.id AND p.kind = 2 WHERE t.name IN ('near', 'far')"):  # fmt: skip
            args, result = json.loads(args), json.loads(result)
            of = {kind: [str(k) for k, letter in enumerate(args["plan"]) if letter in kind] for kind in ("v", "cjJaA")}
            if steps[id] != {k: result["values"][int(k)] for k in of["v"]}:
                self.fault("workflow", args["number"], "recorded", steps[id], "and has", result["values"])
            if children[id] != of["cjJaA"]:
                self.fault("workflow", args["number"], "has the children", children[id], "of", args["plan"])
            if turns.get(id, 0) != len(result["chain"]):
                self.fault("workflow", args["number"], "suspended", turns.get(id), "times:", result["chain"])
        for table in ("waits", "follow_ups", "suspensions WHERE wakes_at IS NOT NULL"):
            (n,) = database.execute("SELECT COUNT(*) FROM " + table).fetchone()
            if n:
                self.fault(n, "rows are left of", table)
        database.close()


def check(run, kills):
    client = run.drain()
    audit = Audit(run, client)
    audit.check()
    audit.check_counts()
    run.server.stop()
    path = os.path.join(run.server.folder, "errand.db")
    audit.check_database(path)
    audit.check_file(path)
    print("%d kills, %d of workers, %d rounds in children, %d workflows, %d turns, %d suspensions (%d refused), %d steps worked again, "
          "%d messages, %d said twice"
          % (kills, run.workers.kills, run.isolated, len(audit.flows()), len(audit.turns),
             sum(len(row["result"]["chain"]) for row in audit.flows() if isinstance(row["result"], dict)), audit.refused,
             audit.repeated, len(run.sender.sent), run.sender.replays))  # fmt: skip
    audit.report()
    return not audit.faults


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    folder = service.prepare("workflows", os.path.join("..", "e2e", "native", "workflows.c"), {"errand.yaml": CONFIG})
    run, good = Run(folder, seed), False
    print("seed %d" % seed, flush=True)
    try:
        run.storm(kills)
        good = check(run, kills)
    except Violation as violation:
        print("VIOLATION:", violation)
    finally:
        run.over = True
        run.workers.join(PATIENCE) if run.workers.is_alive() else None
        run.server.clean_up()
        service.leave(folder, good)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
