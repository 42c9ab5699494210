#!/usr/bin/env python3
"""Changes a few invocations in every way at once, on a disk so slow that each change meets others on their way.

    tests/crash/slow.py [SCHEDULES]        SEED=N repeats a run's choices, KEEP=1 leaves the folders behind

A schedule is a server of its own whose commits take 1 to 200 ms each, a few slots, three to six invocations at a
time, and clients that cancel, retry, patch, delete and pause them at random. Every run of a body has a stamp of its
own, which it puts in its log, its progress, its result and its error: whose report stands in the row can be seen.
Clients hold every answer against what they know (see Target); at the end what has failed or was cancelled is retried
once more, and Audit looks at everything. Schedules run side by side, mostly asleep; the seed of the k-th is that of the
run plus k, so that one that failed is repeated alone. The exit status is 1 on any violation."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import FINAL, PATIENCE, Broke, Client, Server, Violation  # noqa: E402

SIDE_BY_SIDE = 12
CLIENTS = 6
HOT_SECONDS = 0.5  # so long most clients are after the same one
PEACE_SECONDS = 1.5  # after a volley, so that its stale run may end beside the next one
SLOTS = (3, 8)
TARGETS = (3, 6)  # at the start, at most
SECONDS = (2.0, 4.0)  # of the storm
COMMIT_MS = (1, 200)
SCHEDULE_SECONDS = 180  # only a hung one takes as long

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: %d
kill_grace: 200ms
log: {level: warn}
defaults: {backoff: {initial: 50ms, factor: 2, max: 200ms}}
tasks:
  deaf: {kind: native, module: slow_tasks.so}
  obedient: {kind: native, module: slow_tasks.so}
  unsteady: {kind: native, module: slow_tasks.so, max_retries: 2}
  script: {kind: command, run: [sh, script.sh], result: json, max_retries: 1}
  deaf_script: {kind: command, run: [sh, -c, "trap '' TERM; . ./script.sh"], result: json}
"""
# One of four runs fails, one waits in place: for itself, which ends with the wait's own time.
SCRIPT = """
stamp=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \\n')
echo "$ERRAND_ID $ERRAND_ATTEMPT $stamp start" >>"$CRASH_MARKS"
echo "stamp=$stamp" >&2
sleep "0.$(od -An -N1 -tu1 /dev/urandom | tr -d ' \\n')"
echo "$ERRAND_ID $ERRAND_ATTEMPT $stamp end" >>"$CRASH_MARKS"
case $stamp in [4-7]*)
    on='{"on": {"ids": ["'"$ERRAND_ID"'"]}, "timeout": "300ms"}'
    curl -s -o /dev/null -w '%{http_code}\\n' --max-time 60 --json "$on" "$ERRAND_LEASE_URL/wait" >>"$CRASH_MARKS.waits" ;;
esac
case $stamp in [0-3]*) exit 3 ;; esac
echo "{\\"stamp\\":\\"$stamp\\"}"
"""
TASKS = ("deaf", "deaf", "obedient", "unsteady", "unsteady", "script", "deaf_script")

# What each change that may be refused wants, and so what its 409 must name.
NEEDS = {
    "retry": ("failed", "cancelled"),
    "patch": ("scheduled", "queued"),
    "delete": ("succeeded", "failed", "cancelled"),
}


def stamps_in(text):
    return re.findall(r"stamp=([0-9a-f]{16})", text)


class Target:
    """An invocation as its clients know it.

    `moves` counts retries and deletions, at their sending and at their answer: while it stands, and none is under way,
    what is final stays as it is. `clean`: no cancellation was sent since its last retry was, so that it must not be
    cancelled."""

    def __init__(self, invocation_id, task):
        self.id, self.task = invocation_id, task
        self.peace_until = 0
        self.lock = threading.Lock()  # guards what follows
        self.moves, self.moving = 0, 0
        self.final, self.final_moves = None, None
        self.cancels, self.cancelling = 0, 0
        self.clean = True
        self.deleted = False

    def view(self):
        """To be taken before one asks, and to be given to saw() with the answer."""
        with self.lock:
            return self.moves, self.moving, self.clean, self.deleted

    def saw(self, row, view):
        moves, moving, clean, deleted = view
        with self.lock:
            if deleted:
                raise Violation("%s was deleted and is there: %s" % (self.id, row))
            if moving or moves != self.moves:
                return
            end = (row["status"], row["result"], row["error"], row["finished_at"], row["attempt"])
            if self.final and self.final_moves == moves and self.final != end:
                raise Violation("%s was %s and is now %s" % (self.id, self.final, end))
            if row["status"] in FINAL:
                self.final, self.final_moves = end, moves
            if row["status"] == "cancelled" and clean and self.clean:
                raise Violation("%s was cancelled by nobody: %s" % (self.id, row))


class Schedule:
    def __init__(self, folder, seed):
        self.rng = random.Random(seed)
        self.server = Server(folder, {
            "LD_PRELOAD": os.path.join(service.ROOT, "build", "tests", "slow_commits.so"),
            "SLOW_MIN_MS": str(COMMIT_MS[0]), "SLOW_MAX_MS": str(COMMIT_MS[1]), "SLOW_SEED": str(seed),
        })  # fmt: skip
        self.lock = threading.Lock()  # guards what follows
        self.targets, self.gone = [], []
        self.acknowledged = 0
        self.errors = []

    # --- one change, and what its answer must be ---

    def ask(self, client, method, path, body=None):
        status, text = client.ask(method, path, json.dumps(body).encode() if body is not None else None)
        if status >= 500:
            raise Violation("%s %s: %d %s" % (method, path, status, text))
        with self.lock:
            self.acknowledged += status < 300 and method != "GET"
        return status, json.loads(text) if text else None

    def submit(self, client, rng):
        body = {"task": rng.choice(TASKS), "args": {"ms": rng.choice((5, 400, 800, 1200))}}
        if rng.random() < 0.3:
            body["expires_in"] = "%dms" % rng.randint(20, 600)
        if rng.random() < 0.2:
            body["delay"] = "%dms" % rng.randint(1, 300)
        status, row = self.ask(client, "POST", "/tasks", body)
        if status != 201:
            raise Violation("POST /tasks: %d %s" % (status, row))
        target = Target(row["id"], row["task"])
        with self.lock:
            self.targets.append(target)
        return target

    def refused(self, what, status, problem, target, deleted):
        """Was it refused, and rightly?"""
        if status == 404 and (target.deleted or target.moving or deleted):
            return True
        if status != 409 or what not in NEEDS:
            if status not in (200, 204):
                raise Violation("%s %s: %d %s" % (what, target.id, status, problem))
            return False
        found = re.match(r"it is (\w+); (.*)", problem["detail"])
        if not found or not all(word in found.group(2) for word in NEEDS[what]) or found.group(1) in NEEDS[what]:
            raise Violation("the 409 of a %s says: %s" % (what, problem))
        return True

    def look(self, client, target, wait=""):
        view = target.view()
        status, row = self.ask(client, "GET", "/invocations/%s%s" % (target.id, wait))
        if not self.refused("GET", status, row, target, view[3]):
            target.saw(row, view)
            return row
        return None

    def cancel(self, client, target):
        with target.lock:
            target.cancels += 1
            target.cancelling += 1
            target.clean = False
        view = target.view()
        status, row = self.ask(client, "POST", "/invocations/%s/cancel" % target.id)
        with target.lock:
            target.cancelling -= 1
            alone = not view[1] and target.moves == view[0]
        if self.refused("cancel", status, row, target, view[3]):
            return
        if alone and row["status"] not in FINAL and not row["cancel_requested_at"]:
            raise Violation("%s was cancelled, and is as before: %s" % (target.id, row))
        target.saw(row, view)

    def retry(self, client, target):
        with target.lock:
            target.moves += 1
            target.moving += 1
            before, alone, deleted = target.cancels, not target.cancelling, target.deleted
        status, row = self.ask(client, "POST", "/invocations/%s/retry" % target.id)
        refused = self.refused("retry", status, row, target, deleted)
        with target.lock:
            target.moves += 1
            target.moving -= 1
            if not refused and alone and target.cancels == before:
                target.clean = True
        return not refused

    def patch(self, client, target, body):
        view = target.view()
        status, row = self.ask(client, "PATCH", "/invocations/%s" % target.id, body)
        if not self.refused("patch", status, row, target, view[3]):
            target.saw(row, view)

    def delete(self, client, target):
        with target.lock:
            target.moves += 1
            target.moving += 1
            deleted = target.deleted
        status, row = self.ask(client, "DELETE", "/invocations/%s" % target.id)
        refused = self.refused("delete", status, row, target, deleted)
        with target.lock:
            target.moves += 1
            target.moving -= 1
            target.deleted |= not refused
        if not refused:
            with self.lock:
                self.targets.remove(target)
                self.gone.append(target)

    def pause(self, client, rng):
        path = rng.choice(("", "", "/tasks/deaf", "/tasks/script"))
        self.ask(client, "POST", path + "/pause")
        time.sleep(rng.random() * 0.3)
        self.ask(client, "POST", path + "/resume")

    def volley(self, client, target, rng):
        """A cancel goes after a retry that is on its way to disk, and may get ahead of the claim; then a retry, and
        peace."""
        self.cancel(client, target)
        target.peace_until = time.monotonic() + PEACE_SECONDS
        delay = rng.random() * 0.15

        def cancel(other):
            time.sleep(delay)
            self.cancel(other, target)

        after = threading.Thread(target=self.guard, args=(cancel,))
        after.start()
        self.retry(client, target)
        after.join()
        self.retry(client, target)

    # --- the storm ---

    def choose(self, rng):
        now = time.monotonic()
        if not self.targets:
            return None
        target = self.targets[int(now / HOT_SECONDS) % len(self.targets)]
        return rng.choice(self.targets) if now < target.peace_until or rng.random() < 0.1 else target

    def change(self, client, rng):
        with self.lock:
            target = self.choose(rng)
            room = len(self.targets) < TARGETS[1]
        dice = rng.random()
        if not target or (dice < 0.10 and room):
            self.submit(client, rng)
        elif dice < 0.35:
            self.cancel(client, target)
        elif dice < 0.60:
            self.retry(client, target)
        elif dice < 0.76:
            self.volley(client, target, rng)
        elif dice < 0.80:
            self.patch(client, target, {"priority": rng.randint(0, 3)})
        elif dice < 0.88:
            later = time.time() + rng.random() * 0.3
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(later)) + ".%03dZ" % (later % 1 * 1000)
            self.patch(client, target, {"run_at": rng.choice((None, at))})
        elif dice < 0.90:
            self.delete(client, target)
        elif dice < 0.92:
            self.pause(client, rng)
        else:
            self.look(client, target)

    def guard(self, work):
        try:
            work(Client(self.server.port))
        except Broke:
            self.errors.append(Violation("a connection broke"))
        except Exception as error:  # a thread's failure is the schedule's
            self.errors.append(error)

    def client(self, rng, until):
        def work(client):
            while time.monotonic() < until and not self.errors:
                self.change(client, rng)
                time.sleep(rng.random() * 0.06)

        self.guard(work)

    def storm(self):
        client = Client(self.server.port)
        for _ in range(TARGETS[0]):
            self.submit(client, self.rng)
        until = time.monotonic() + self.rng.uniform(*SECONDS)
        threads = [
            threading.Thread(target=self.client, args=(random.Random(self.rng.random()), until), daemon=True)
            for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]
        for path in ("", "/tasks/deaf", "/tasks/script"):  # whichever resumed last, another may have paused after it
            self.ask(client, "POST", path + "/resume")

    # --- the end ---

    def await_all(self, client):
        until = time.monotonic() + 2 * PATIENCE
        for target in self.targets:
            while self.look(client, target, "?wait=10")["status"] not in FINAL:
                if time.monotonic() > until:
                    raise Violation("%s does not end" % target.id)

    def settle(self, client):
        """Lets them come to an end, or cancels them; then what did not succeed is retried, beside what may still run
        on unknown to anybody, and nobody cancels it."""
        if self.rng.random() < 0.5:
            for target in self.targets:
                self.cancel(client, target)
        self.await_all(client)
        old = {stamp for marks in read_marks(self.server.marks).values() for stamp in marks}
        retried = [target for target in self.targets if target.final[0] in NEEDS["retry"]]
        for target in retried:
            if not self.retry(client, target):
                raise Violation("the retry of %s, which is final, was refused" % target.id)
        self.await_all(client)
        for target in retried:
            status, result, error, _, _ = target.final
            stamp = result["stamp"] if status == "succeeded" else "".join(stamps_in(json.dumps(error)))
            if status == "cancelled" or not stamp or stamp in old:
                raise Violation("%s was retried and is %s" % (target.id, target.final))

    def run(self):
        """The audit, after everything else."""
        self.server.start()
        self.storm()
        client = Client(self.server.port)
        self.settle(client)
        audit = Audit(self, client)
        audit.check_targets()
        audit.check_rows()
        audit.check_counts()
        audit.check_waits(self.server.marks + ".waits")
        self.server.stop()
        if self.server.family():
            audit.fault("processes are left behind:", self.server.family())
        audit.check_file(os.path.join(self.server.folder, "errand.db"))
        return audit


def read_marks(path):
    """By invocation: {stamp: (attempt, whether it came to its end)}."""
    marks = {}
    with open(path) as file:
        for line in file:
            invocation_id, attempt, stamp, what = line.split()
            marks.setdefault(invocation_id, {})[stamp] = int(attempt), what == "end"
    return marks


class Audit(service.Faults):
    def __init__(self, schedule, client):
        super().__init__(client)
        self.schedule = schedule
        self.marks = read_marks(schedule.server.marks)
        self.runs = sum(len(marks) for marks in self.marks.values())
        self.heard = set()  # stamps in logs

    def stale(self):
        """Runs of which nobody has heard: their claims were refused, or what they ran for was deleted."""
        return self.runs - len(self.heard)

    def check_targets(self):
        there = {row["id"] for row, _ in self.rows}
        if there != {target.id for target in self.schedule.targets}:
            self.fault("there are", sorted(there), "and not", sorted(target.id for target in self.schedule.targets))
        for target in self.schedule.gone:
            status, _ = self.client.ask("GET", "/invocations/" + target.id)
            if status != 404:
                self.fault(target.id, "was deleted and is answered with", status)

    def check_rows(self):
        for row, _ in self.rows:
            logged = self.check_attempts(row)
            last = logged[-1] if logged else []
            if row["status"] not in FINAL:
                self.fault(row["id"], "is not final:", row)
            if row["status"] == "succeeded":
                self.check_result(row, last)
            if row["progress"] and stamps_in(row["progress"]["note"]) != last:
                self.fault(row["id"], "has the progress of another run:", row["progress"], "its log has", last)

    def check_waits(self, path):
        """Over, or the turn is another's; 000: curl was stopped with its script. Never unavailable, never to be asked again."""
        if os.path.exists(path):
            with open(path) as file:
                heard = set(file.read().split())
            if heard - {"200", "409", "000"}:
                self.fault("waits were answered with", sorted(heard))

    def check_result(self, row, logged):
        stamp = row["result"]["stamp"]
        if logged != [stamp]:
            self.fault(row["id"], row["task"], "has the result of", stamp, "and the log of", logged)
        if self.marks[row["id"]].get(stamp) != (row["attempt"], True):
            self.fault(row["id"], "has a result of", stamp, "whose run was", self.marks[row["id"]].get(stamp))

    def check_attempts(self, row):
        """The stamps that each attempt's log shows."""
        attempts = json.loads(self.client.get("/invocations/%s/attempts" % row["id"]))["items"]
        if [one["attempt"] for one in attempts] != list(range(1, row["attempt"] + 1)):
            self.fault(row["id"], "is at attempt", row["attempt"], "and has", [one["attempt"] for one in attempts])
        logged = [self.check_log(row, one) for one in attempts]
        whole = self.client.get("/invocations/%s/log" % row["id"])
        if set(stamps_in(whole)) != {stamp for stamps in logged for stamp in stamps}:
            self.fault(row["id"], "has a log of", set(stamps_in(whole)), "and its attempts have", logged)
        # Cancelled while it waited for its next attempt?
        between = row["status"] == "cancelled" and attempts and attempts[-1]["status"] == "failed"
        if attempts and attempts[-1]["status"] != row["status"] and not between:
            self.fault(row["id"], row["status"], "has the last attempt", attempts[-1])
        return logged

    def check_log(self, row, attempt):
        name = "%s, attempt %d (%s, %s)" % (row["id"], attempt["attempt"], row["task"], attempt["status"])
        log = self.client.get("/invocations/%s/log?attempt=%d" % (row["id"], attempt["attempt"]))
        stamps = sorted(set(stamps_in(log)))
        if len(stamps) > 1:
            self.fault(name, "has the words of several runs:", repr(log))
        if self.heard & set(stamps):
            self.fault(name, "has words that stand elsewhere too:", repr(log))
        self.heard |= set(stamps)
        for stamp in stamps:
            if self.marks.get(row["id"], {}).get(stamp, (0,))[0] != attempt["attempt"]:
                self.fault(name, "has the words of", stamp, "whose run was", self.marks.get(row["id"], {}).get(stamp))
        if attempt["status"] != "cancelled" and not stamps:
            self.fault(name, "has no words")
        if attempt["error"] and sorted(set(stamps_in(json.dumps(attempt["error"])))) != stamps:
            self.fault(name, "failed with", attempt["error"], "and its log has", stamps)
        return stamps


# --- schedules side by side ------------------------------------------------------------------------------------------


def one(seed):
    """A schedule in a process of its own: its exit status."""
    slots = random.Random(seed).randint(*SLOTS)
    files = {"errand.yaml": CONFIG % slots, "script.sh": SCRIPT, "marks": ""}
    folder = service.prepare("slow", "slow_tasks.c", files)
    schedule, good = Schedule(folder, seed), False
    try:
        audit = schedule.run()
        audit.report()
        good = not audit.faults
        print("%d runs, %d of them stale, %d changes" % (audit.runs, audit.stale(), schedule.acknowledged))
    except Violation as violation:
        print("VIOLATION:", violation)
    except Broke:
        print("VIOLATION: a connection broke")
    finally:
        schedule.server.clean_up()
        service.leave(folder, good)
    return 0 if good else 1


def start(seed):
    child = subprocess.Popen(
        [sys.executable, __file__, "--one", str(seed)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=service.die_with_parent)  # fmt: skip
    child.seed, child.until = seed, time.monotonic() + SCHEDULE_SECONDS
    return child


def ended(child):
    """None while it runs; then its counts, or False."""
    if child.poll() is None and time.monotonic() < child.until:
        return None
    hung = child.poll() is None
    child.kill()
    said = child.stdout.read()
    if hung or child.wait() != 0:
        print("seed %d%s:\n%s" % (child.seed, " hangs" if hung else "", said), flush=True)
        return False
    counts = re.search(r"(\d+) runs, (\d+) of them stale, (\d+) changes", said)  # the folder that KEEP leaves comes last
    return [int(n) for n in counts.groups()]


def main():
    if sys.argv[1:2] == ["--one"]:
        return one(int(sys.argv[2]))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print("seed %d" % seed, flush=True)
    waiting, running, ends = [seed + k for k in range(count)], [], []
    while waiting or running:
        while waiting and len(running) < SIDE_BY_SIDE:
            running.append(start(waiting.pop(0)))
        for child in list(running):
            end = ended(child)
            if end is not None:
                running.remove(child)
                ends.append(end)
        time.sleep(0.05)
    good = [end for end in ends if end]
    runs, stale, changes = (sum(numbers) for numbers in zip(*good)) if good else (0, 0, 0)
    print("%d schedules, %d runs, %d of them stale, %d changes, %d schedules with violations"
          % (count, runs, stale, changes, count - len(good)))  # fmt: skip
    return 0 if len(good) == count else 1


if __name__ == "__main__":
    sys.exit(main())
