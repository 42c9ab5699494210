"""A pool's child of pools.py, which may be killed at any moment. What its bodies do they note in one file, a line each:
`begin` and `end` of a run, `work` before a step, `done` when it was recorded."""

import os
import random
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.environ["SDK"])

from errand import current, serve, task  # noqa: E402

CAPACITY = int(os.environ["CAPACITY"])
ledger = os.open("ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
lock, running = threading.Lock(), 0


def note(*words):
    os.write(ledger, (" ".join(map(str, words)) + "\n").encode())


def count(more, is_stopped=False):
    """How many run here by the server's own rule: those that wait do not, even if they are told to stop."""
    global running
    with lock:
        running += more
        if running > CAPACITY and more > 0 and not is_stopped:
            note("over", os.environ["ERRAND_WORKER"], running)


class Waiting:
    def __enter__(self):
        count(-1)

    def __exit__(self, error, *_):
        count(1, error is not None)


def work(me, name):
    value = random.getrandbits(40)
    note("work", me.id, name, value)
    time.sleep(random.choice((0, 0, 0.005, 0.05)))
    return value


def step(me, name):
    value = me.step(name, work, me, name)
    note("done", me.id, name, value)
    return value


def waits_for_children(me, number):
    children = [me.submit("leaf", i, step="child-%d-%d" % (number, i)) for i in range(random.choice((1, 2, 3, 40)))]
    with Waiting():
        me.wait(children)


def waits_for_nothing(me, number):
    with Waiting():
        me.inbox(wait="%dms" % random.choice((1, 20, 100)))


def body(steps, suspends):
    me = current()
    count(1)
    note("begin", me.id, me.attempt)
    try:
        return run(me, steps, suspends)
    finally:
        count(-1)


def run(me, steps, suspends):
    values = []
    for number in range(steps):
        values.append(step(me, "step-%d" % number))
        me.message({"number": number, "value": values[-1]})
        print("a line of", me.id)
        more = random.random()
        if more < 0.2:
            waits_for_children(me, number)
        elif more < 0.3:
            waits_for_nothing(me, number)
        me.progress(number, "so far")
    if suspends and not me.state:
        return me.suspend(until="%dms" % random.randint(1, 100), state={"was": me.id})
    if suspends and me.state != {"was": me.id}:
        note("state", me.id, me.state)
    if random.random() < 0.05:
        raise ValueError("by chance")
    if random.random() < 0.02:
        os._exit(9)
    note("end", me.id, me.attempt)
    return values


@task
def ledger_of(steps, suspends):
    return body(steps, suspends)


@task
def shared(steps, suspends):
    return body(steps, suspends)


@task
def leaf(number):
    count(1)
    time.sleep(random.choice((0, 0, 0.02)))
    count(-1)
    return number


@task
def deaf(seconds):
    """It does not hear a cancellation: its child is killed for it, with all who are in it."""
    count(1)
    time.sleep(seconds)
    count(-1)


if __name__ == "__main__":
    serve()
