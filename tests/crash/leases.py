#!/usr/bin/env python3
"""Workers elsewhere that lease, report, die and report late, at a server that is killed again and again.

    tests/crash/leases.py [SECONDS]        SEED=N repeats a run's choices, KEEP=1 leaves the folder behind

Every report carries a stamp of its own, and all that a worker sends and hears is kept. At the end each invocation is
held against that as a register with fencing tokens, whose tokens are the leases: see Audit. An answer that did not come
says nothing; the same is sent again. The exit status is 1 on any violation."""

import collections
import datetime
import json
import os
import random
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import FINAL, PATIENCE, Broke, Client, Server, Violation  # noqa: E402

WORKERS = 10
LEASES_MS = (1000, 1000, 1000, 1500, 2500)
ROUND_SECONDS = (0.3, 3.0)
LATE_SECONDS = (-0.02, 0.4)  # after the end of a lease, as its holder sees it
BACKLOG = 150
TENDER_RECOVERIES = 2

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
log: {level: warn}
defaults: {max_retries: 1000, backoff: {initial: 1ms, factor: 1}}
tasks:
  tough: {kind: remote, max_recoveries: 1000}
  tender: {kind: remote, max_recoveries: %d}
""" % TENDER_RECOVERIES


class Event:
    """One thing that was sent, and what came back: 204, 200, 409, or None if that is not known. `fresh` is what a
    heartbeat is that renewed."""

    def __init__(self, lease, what, stamp=None):
        self.lease, self.what, self.stamp = lease, what, stamp
        self.sent, self.heard, self.status, self.fresh = time.time(), None, None, False

    def answered(self, status, fresh=False):
        self.status, self.fresh, self.heard = status, fresh, time.time()

    def __str__(self):
        return "%s %s: %s [%.3f, %.3f]" % (self.what, self.stamp, self.status, self.sent, self.heard or 0)


class Lease:
    """A turn that a worker was given, as it saw it."""

    def __init__(self, answer, length_ms, sent):
        self.token, self.id, self.attempt = answer["token"], answer["invocation"]["id"], answer["invocation"]["attempt"]
        self.length, self.sent, self.heard = length_ms / 1000, sent, time.time()
        self.lock = threading.Lock()  # guards what follows
        self.events = []

    def event(self, what, stamp=None):
        event = Event(self, what, stamp)
        with self.lock:
            self.events.append(event)
        return event

    def renewed(self):
        """When it was last asked for, as far as that is known to have been granted, since when it may not run out."""
        return max([self.sent] + [event.sent for event in self.events if event.fresh])

    def touched(self):
        """When it was last heard of by any request that may have renewed it."""
        beats = [event for event in self.events if event.what == "heartbeat" and event.status != 409]
        return max([self.sent] + [event.sent for event in beats])


class Worker(threading.Thread):
    def __init__(self, run, number):
        super().__init__(daemon=True)
        self.run_of, self.name, self.rng = run, "w%d" % number, random.Random("%s/%d" % (run.seed, number))
        self.client, self.serial = None, 0
        self.leases, self.later = [], []

    # --- requests; an answer that does not come is asked for again ---

    def ask(self, path, body):
        """(status, answer), or Broke; 503 says as little."""
        try:
            if not self.client or self.client.connection.port != self.run_of.server.port:
                self.client = Client(self.run_of.server.port)
            status, text = self.client.ask("POST", path, json.dumps(body).encode())
        except Broke:
            time.sleep(0.01)
            raise
        if status == 503:
            time.sleep(0.01)
            raise Broke
        if status >= 500:
            raise Violation("POST %s: %d %s" % (path, status, text))
        return status, json.loads(text) if text else None

    def stamp(self):
        self.serial += 1
        return "%s.%d" % (self.name, self.serial)

    def turn(self, lease, what, body, stamp=None):
        """Sent until it is answered. Returns the status."""
        for _ in range(100):
            event = lease.event(what, stamp)
            try:
                status, answer = self.ask("/leases/%s/%s" % (lease.token, what), body)
            except Broke:
                continue
            if status not in (200, 204, 409):
                raise Violation("%s of %s: %d %s" % (what, lease.token, status, answer))
            event.answered(status, what == "heartbeat" and status == 200 and not answer["cancel"])
            return status
        return None

    def heartbeat(self, lease):
        return self.turn(lease, "heartbeat", {"progress": self.rng.random()} if self.rng.random() < 0.5 else {})

    def complete(self, lease, stamp=None):
        stamp = stamp or self.stamp()
        self.turn(lease, "complete", {"result": stamp}, stamp)
        return stamp

    def fail(self, lease, stamp=None, final=False):
        stamp = stamp or self.stamp()
        error = {"type": "chance", "message": stamp}
        self.turn(lease, "fail", {"error": dict(error, retry=False) if final else error}, stamp)
        return stamp

    # --- what becomes of a lease ---

    def is_late(self, lease):
        time.sleep(max(0, lease.renewed() + lease.length + self.rng.uniform(*LATE_SECONDS) - time.time()))
        if self.rng.random() < 0.3:
            self.heartbeat(lease)
        self.rng.choice([self.complete, self.fail])(lease)

    def renews(self, lease):
        for _ in range(self.rng.randint(1, 4)):
            if self.rng.random() < 0.6:
                time.sleep(self.rng.random() * lease.length * 0.9)
            if self.heartbeat(lease) == 409:
                break
        if self.rng.random() < 0.7:
            self.complete(lease)

    def reports_twice(self, lease):
        first = self.rng.choice([self.complete, self.complete, self.fail])
        stamp = first(lease)
        self.heartbeat(lease)
        first(lease, stamp)

    def contradicts_itself(self, lease):
        ends = [self.complete, lambda lease: self.fail(lease, final=True)]
        self.rng.shuffle(ends)
        for end in ends:
            end(lease)

    def has_a_twin(self, lease):
        """Two processes that both believe they hold it."""
        twin = Worker(self.run_of, 0)
        twin.name, twin.rng = self.name + "'" + self.stamp(), random.Random(self.rng.random())
        thread = threading.Thread(target=self.run_of.guard, args=(twin.complete, lease), daemon=True)
        thread.start()
        self.rng.choice([self.complete, self.fail])(lease)
        thread.join()

    def do(self, lease):
        self.leases.append(lease)
        dice = self.rng.random()
        if dice < 0.08:
            return  # it dies, or never read the answer
        if dice < 0.16:
            self.is_late(lease)
        elif dice < 0.30:
            self.renews(lease)
        elif dice < 0.38:
            self.reports_twice(lease)
        elif dice < 0.46:
            self.contradicts_itself(lease)
        elif dice < 0.56:
            self.has_a_twin(lease)
        elif dice < 0.66:
            self.fail(lease)
        elif dice < 0.68:
            self.fail(lease, final=True)
        elif dice < 0.85:
            self.later.append(lease)
        else:
            self.complete(lease)

    # --- the loop ---

    def report_and_ask(self, most):
        """What is due to be said goes along; it is said again if no answer comes."""
        reports, self.later = self.later, []
        said = [(lease, self.stamp()) for lease in reports]
        done = [{"token": lease.token, "result": stamp} for lease, stamp in said]
        wait, length = self.rng.choice(["0s", "50ms", "500ms", "5s"]), self.rng.choice(LEASES_MS)
        for _ in range(100):
            events, sent = [lease.event("done", stamp) for lease, stamp in said], time.time()
            try:
                status, answer = self.ask("/leases", {"worker": self.name, "max": most, "lease": "%dms" % length,
                                                      "wait": wait, "done": done})  # fmt: skip
            except Broke:
                continue
            if status != 200:
                raise Violation("POST /leases: %d %s" % (status, answer))
            refused = {one["token"] for one in answer["refused"]}
            for event in events:
                event.answered(409 if event.lease.token in refused else 204)
            return [Lease(one, length, sent) for one in answer["leases"]]
        return []

    def run(self):
        self.run_of.guard(self.work)

    def work(self):
        while not self.run_of.over:
            for lease in self.report_and_ask(0 if self.run_of.closing else self.rng.choice([1, 1, 2, 4])):
                self.do(lease)
            if self.run_of.closing and not self.later:
                return

    def finish_all(self):
        """The last of them, who does what it is given."""
        self.rng = random.Random(1)
        while not self.run_of.over:
            for lease in self.report_and_ask(10):
                self.leases.append(lease)
                self.complete(lease)


class Run:
    def __init__(self, folder, seed):
        self.server, self.seed, self.rng = Server(folder), seed, random.Random(seed)
        self.over = self.closing = False
        self.lock = threading.Lock()  # guards what follows
        self.promised, self.cancelled = {}, set()  # key by id; ids
        self.errors = []
        self.kills, self.starts = [], []

    def guard(self, work, *words):
        try:
            work(*words)
        except Exception as error:  # a thread's failure is the run's
            if not self.over:
                self.errors.append(error)

    def submit(self):
        """A key is repeated until it is answered; now and then another is cancelled."""
        rng, client, number = random.Random(self.seed), None, 0
        while not self.closing:
            number += 1
            body = {"task": rng.choice(["tough", "tender"]), "args": number, "key": "key-%d" % number}
            while not self.closing:
                try:
                    if not client or client.connection.port != self.server.port:
                        client = Client(self.server.port)
                    status, text = client.ask("POST", "/tasks", json.dumps(body).encode())
                    if status in (200, 201):
                        break
                    if status != 503:
                        raise Violation("POST /tasks: %d %s" % (status, text))
                except Broke:
                    pass
                time.sleep(0.01)
            else:
                return
            with self.lock:
                self.promised[json.loads(text)["id"]] = body["key"]
            self.cancel_one(client, rng)
            while not self.closing and self.backlog(client) > BACKLOG:
                time.sleep(0.05)

    def cancel_one(self, client, rng):
        if rng.random() > 0.05:
            return
        with self.lock:
            id = rng.choice(list(self.promised)[-60:])
            self.cancelled.add(id)
        try:
            client.ask("POST", "/invocations/%s/cancel" % id)
        except Broke:
            pass

    @staticmethod
    def backlog(client):
        try:
            counts = json.loads(client.get("/stats"))["invocations"]
            return sum(n for status, n in counts.items() if status not in FINAL)
        except Broke:
            return 0

    def start(self):
        self.server.start()
        self.starts.append(time.time())

    def kill(self):
        self.kills.append(time.time())
        self.server.kill()

    def storm(self, seconds, workers):
        self.start()
        threads = workers + [threading.Thread(target=self.guard, args=(self.submit,), daemon=True)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.errors:
            time.sleep(self.rng.uniform(*ROUND_SECONDS))
            if self.server.child.poll() is not None:
                raise Violation("it died by itself: exit status %d" % self.server.child.returncode)
            self.kill()
            if self.rng.random() < 0.2:
                self.server.spawn()
                time.sleep(self.rng.random() * 0.05)
                self.server.kill()
            self.start()
        self.closing = True
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                raise Violation("a request was never answered")

    def drain(self):
        last, client = Worker(self, WORKERS), Client(self.server.port)
        thread = threading.Thread(target=self.guard, args=(last.finish_all,), daemon=True)
        thread.start()
        until = time.monotonic() + 2 * PATIENCE
        while self.backlog(client) and not self.errors:
            if time.monotonic() > until:
                raise Violation("it does not come to an end: %s" % client.get("/stats"))
            time.sleep(0.05)
        self.over = True
        thread.join(PATIENCE)
        if self.errors:
            raise self.errors[0]
        return last


# --- the end ---------------------------------------------------------------------------------------------------------


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Audit(service.Faults):
    def __init__(self, run, workers, client):
        super().__init__(client)
        self.run, self.lost, self.free = run, 0, 0
        self.by_id = {row["id"]: row for row, _ in self.rows}
        self.leases = collections.defaultdict(list)
        for worker in workers:
            for lease in worker.leases:
                self.leases[lease.id].append(lease)

    def check(self):
        for id, key in self.run.promised.items():
            if id not in self.by_id or self.by_id[id]["key"] != key:
                self.fault(id, "was acknowledged as", key, "and is", self.by_id.get(id))
        keys = collections.Counter(row["key"] for row, _ in self.rows)
        for key, n in keys.items():
            if n > 1:
                self.fault("the key", key, "made", n)
        for id, row in self.by_id.items():
            self.check_one(row, sorted(self.leases[id], key=lambda lease: lease.attempt))

    def check_one(self, row, leases):
        attempts = json.loads(self.client.get("/invocations/%s/attempts" % row["id"]))["items"]
        if [one["attempt"] for one in attempts] != list(range(1, row["attempt"] + 1)):
            self.fault(row["id"], row["attempt"], "has the attempts", attempts)
        if row["status"] not in FINAL:
            self.fault(row["id"], "did not end:", row)
        if row["status"] == "cancelled" and row["id"] not in self.run.cancelled:
            self.fault(row["id"], "was cancelled by nobody")
        self.check_grants(row, leases)
        for lease in leases:
            self.check_lease(row, lease, attempts)
        self.check_result(row, leases)
        self.check_payment(row, leases, attempts)

    def check_grants(self, row, leases):
        """Tokens are unique, attempts count up, and nobody is given what another still holds."""
        if len({lease.token for lease in leases}) != len(leases) or len({one.attempt for one in leases}) != len(leases):
            self.fault(row["id"], "was given twice as one:", [(one.token, one.attempt) for one in leases])
        for before, after in zip(leases, leases[1:]):
            if after.heard < before.sent:
                self.fault(row["id"], "attempt", after.attempt, "was given before", before.attempt)
            reports = [event for event in before.events if event.what != "heartbeat" and event.status != 409]
            if after.heard < before.renewed() + before.length and not reports:
                self.fault(row["id"], "was given to another", before.renewed() + before.length - after.heard,
                           "s before its lease ended:", before.token)  # fmt: skip
            for event in before.events:
                again = any(one.stamp == event.stamp and one is not event for one in before.events)
                if event.status in (200, 204) and event.sent > after.heard and not (event.stamp and again):
                    self.fault(before.token, event, "counted while attempt", after.attempt, "was under way")

    def check_lease(self, row, lease, attempts):
        ends = [event for event in lease.events if event.what != "heartbeat"]
        taken = {event.stamp: event for event in ends if event.status == 204}
        if len(taken) > 1:
            self.fault(lease.token, "has several ends:", *map(str, ends))
        for event in lease.events:
            early = [one for one in ends if one.sent <= (event.heard or 0) and one is not event and one.status != 409]
            due = max([lease.sent] + [one.sent for one in lease.events if one.fresh and one.heard < event.sent])
            if event.status == 409 and not early and event.heard < due + lease.length:
                self.fault(lease.token, event, "was refused", due + lease.length - event.heard, "s too soon")
            if event.status == 200 and any(one.status == 204 and one.heard < event.sent for one in ends):
                self.fault(lease.token, event, "renewed what had ended")
        for event in taken.values():
            self.check_taken(row, lease, event, attempts)
        for event in ends:
            again = [one for one in ends if one.stamp == event.stamp]
            if all(one.status == 409 for one in again) and self.stands(row, lease, event, attempts):
                self.fault(lease.token, event, "was refused and stands")

    @staticmethod
    def stands(row, lease, event, attempts):
        if event.what == "fail":
            error = attempts[lease.attempt - 1]["error"]
            return error is not None and error["message"] == event.stamp
        return row["status"] == "succeeded" and row["result"] == event.stamp and row["attempt"] == lease.attempt

    def check_taken(self, row, lease, event, attempts):
        cancelled = event.what == "fail" and row["id"] in self.run.cancelled
        if not cancelled and not self.stands(row, lease, event, attempts):
            self.fault(lease.token, "attempt", lease.attempt, event, "was taken and does not stand:", row, attempts)

    def check_result(self, row, leases):
        said = {event.stamp for lease in leases for event in lease.events if event.what in ("complete", "done")
                and lease.attempt == row["attempt"]}  # fmt: skip
        if row["status"] == "succeeded" and row["result"] not in said:
            self.fault(row["id"], "has a result that its last attempt did not report:", row)

    def pays(self, lease, ended):
        """True, False, or None where it cannot be told: whether a loss at that time is paid for."""
        if lease is None:
            return False  # its answer was never read, and the server was killed meanwhile
        started = max([at for at in self.run.starts if at < ended], default=0)
        killed = max([at for at in self.run.kills if at < ended], default=0)
        if killed < lease.sent or any(event.fresh and event.sent > started for event in lease.events):
            return True
        return False if lease.touched() < killed else None

    def check_payment(self, row, leases, attempts):
        by_attempt = {lease.attempt: lease for lease in leases}
        lost = [one for one in attempts if one["error"] and one["error"]["type"] == "lease_lost"]
        paid = [self.pays(by_attempt.get(one["attempt"]), seconds(one["finished_at"])) for one in lost]
        self.lost, self.free = self.lost + len(lost), self.free + paid.count(False)
        over = row["status"] == "failed" and row["error"]["type"] == "lease_lost"
        most = TENDER_RECOVERIES if row["task"] == "tender" else 1000
        if over and len(paid) - paid.count(False) <= most:
            self.fault(row["id"], "failed as lease_lost and has paid", paid, row, attempts)
        if paid.count(True) > most + over:
            self.fault(row["id"], "should have failed as lease_lost before:", paid, row)
        if row["status"] == "failed" and not over and row["error"]["type"] != "chance":
            self.fault(row["id"], "failed:", row)


def check(run, workers):
    workers = workers + [run.drain()]
    client = Client(run.server.port)
    audit = Audit(run, workers, client)
    audit.check()
    audit.check_counts()
    busy = [worker for worker in json.loads(client.get("/workers"))["items"] if worker["busy"]]
    if busy:
        audit.fault("workers still hold something:", busy)
    run.server.stop()
    audit.check_file(os.path.join(run.server.folder, "errand.db"))
    events = [event for worker in workers for lease in worker.leases for event in lease.events]
    print("%d invocations, %d leases, %d reports (%d refused, %d not answered)"
          % (len(audit.rows), sum(len(worker.leases) for worker in workers), len(events),
             sum(event.status == 409 for event in events), sum(event.status is None for event in events)))  # fmt: skip
    print("%d leases lost (%d of them free), %d kills" % (audit.lost, audit.free, len(run.kills)))
    audit.report()
    return not audit.faults


def main():
    length = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    folder = tempfile.mkdtemp(prefix="leases-", dir=os.path.join(service.ROOT, "build"))
    with open(os.path.join(folder, "errand.yaml"), "w") as file:
        file.write(CONFIG)
    run, good = Run(folder, seed), False
    workers = [Worker(run, n) for n in range(WORKERS)]
    print("seed %d" % seed, flush=True)
    try:
        run.storm(length, workers)
        if run.errors:
            raise run.errors[0]
        good = check(run, workers)
    except Violation as violation:
        print("VIOLATION:", violation)
    finally:
        run.over = True
        run.server.clean_up()
        service.leave(folder, good)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
