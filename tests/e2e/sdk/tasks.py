"""What test_errand.py has its workers run. FOLDER is where they leave marks and wait for some."""

import asyncio
import os
import socket
import sys
import threading
import time

from errand import Cancelled, Fail, Retry, TaskFailed, current, current_async, on_start, on_stop, task

FOLDER = os.environ.get("FOLDER", ".")


def mark(name, text=""):
    with open(os.path.join(FOLDER, name), "a") as file:
        file.write("%s\n" % text)


def wait_for(name):
    until = time.monotonic() + 30
    while not os.path.exists(os.path.join(FOLDER, name)):
        assert time.monotonic() < until, "waited in vain for " + name
        time.sleep(0.005)


@on_start
def opens(context):
    context.greeting = "hello from %d" % os.getpid()


@on_start
async def opens_too(context):
    await asyncio.sleep(0)
    context.loop = True


@on_stop
def closes(context):
    mark("stopped", context.greeting)


@task
def plain(*args, **named):
    return [args, named]


@task
def named(x, y):
    return [x, y]


@task
def add(x, y=1):
    return x + y


@task("aadd")
async def add_later(x, y=1):
    await asyncio.sleep(0)
    return x + y


@task
def once(name):
    me = current()
    first = me.step("work/1", lambda: (os.getpid(), me.attempt, mark(name, "worked")))
    if me.attempt < 3:
        raise Retry(after="10ms")
    return {"first": first, "again": me.step("work/1", lambda: "no"), "attempt": me.attempt}


@task
def family():
    me = current()
    child = me.submit("add", {"x": 40, "y": 2}, step="sum", labels={"of": me.id}, priority=0)
    if me.attempt == 1:
        raise Fail("torn", "the paper tore", retry=True, after=0)
    return [child.id, child.wait(), me.wait(child.id), me.wait([child, child.id])]


@task
def squares(count):
    me = current()
    assert me.map("add", ()) == []
    named = me.map(add, [{"x": 1}, (2, 3), 4], step="few")
    assert me.map(add, [{"x": 1}, (2, 3), 4], step="few") == named
    found = me.map("fails", ["unknown", "ok"], return_exceptions=True)
    return [me.map("aadd", [(n, n) for n in range(count)]), named, [str(type(one).__name__) for one in found]]


@task
def gathers(counts):
    me = current()
    group = me.group("add", [(n, n) for n in counts], step="all", fail_fast=True)
    found = me.group("add", [(n, n) for n in counts], step="all")
    me.wait([group], timeout="30s")
    return [group.id == found.id, me.wait(found)]


@task
def racing(name):
    me = current()
    slow, quick = me.submit("waits", name), me.submit("add", 1)
    assert me.wait([slow, quick], mode="any") == [quick]
    order = []
    for child in me.as_completed([slow, quick]):
        order.append(child.task)
        mark(name)
        assert child.wait() is not None
    return order


@task
def waits(name):
    try:
        current().wait(current().submit("nobodys"), timeout="50ms")
    except TimeoutError:
        wait_for(name)
        return "timed out"


@task
def large(bytes, sizes=None):
    return "x" * bytes if sizes is None else [len(one) for one in current().map("large", sizes)]


class Torn(OSError):
    pass


@task
def fails(how):
    if how == "ok":
        return how
    if how == "torn":
        raise Torn("the paper tore") from KeyError("paper")
    if how == "unknown":
        raise ValueError("what is \udc80?")
    if how == "set":
        return {1, 2}
    if how == "nan":
        return float("nan")
    if how == "deep":
        deep = []
        for _ in range(100):
            deep = [deep]
        return deep
    if how == "retry":
        try:
            raise Torn("again")
        except Torn as error:
            raise Retry(after=0) from error
    if how == "child":
        try:
            current().submit("fails", "torn").wait()
        except TaskFailed as error:
            return [error.type, error.message, error.status]
    if how == "exit":
        sys.exit(3)
    raise Fail(how, "of its own type", retry=False)


@task
def order(id, amount):
    me = current()
    charge = me.step("charge", lambda: {"receipt": id * 100, "amount": amount})
    packed = me.submit("plain", {"id": id}, step="pack")
    me.wait([packed])
    if not me.state:
        me.message({"ask": id})
        return me.suspend(inbox=True, until="3d", state={"charge": charge})
    return {"by": me.woken.by, "approved": [message.body for message in me.woken.messages], "charge": me.state["charge"],
            "attempt": me.attempt}


@task
async def wakes():
    me = current_async()
    if me.state is None:
        return await me.suspend(until=0.01, state=1)
    if me.state == 1:
        children = [await me.submit("add", 1, step="a"), await me.submit("fails", "torn", step="b")]
        return await me.suspend(ids=children, state=[2, me.woken.by])
    found = {one.step: (one.status, one.result, (one.error or {}).get("type")) for one in me.woken.results}
    return me.state + [me.woken.by, found]


@task
def talks():
    me = current()
    heard = []
    me.message("begin")
    while "stop" not in heard:
        for message in me.inbox(wait="10s"):
            heard.append(message.body)
            me.message({"heard": message.body})
    return [heard, [message.body for message in me.inbox()]]


@task
def prints(name):
    me = current()
    print(name, "one")
    print(name, "two", file=sys.stderr)
    me.progress(0.5, "half")
    me.log(name + " three")
    thread = threading.Thread(target=lambda: print("nobody's"))
    thread.start()
    thread.join()
    me.sleep(0.05)
    return me.context.loop


@task
def stops(how):
    me = current()
    mark("begun-" + me.id)
    if how == "flag":
        while not me.cancelled():
            time.sleep(0.01)
        return "in spite of it"
    if how == "sleep":
        me.sleep("1h")
    if how == "wait":
        me.wait(me.submit("nobodys"))
    if how == "inbox":
        me.inbox(wait="1h")


@task
async def astops():
    mark("begun-" + current().id)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await current_async().message("cleaned up")
        raise


@task
def left():
    before = current().time_left()
    time.sleep(0.05)
    return [before, current().time_left()]


@task
def late():
    me = current()
    while not me.cancelled():
        time.sleep(0.01)
    mark("late-" + me.id, "told")
    try:
        me.step("late", lambda: 1)
    except Cancelled as error:
        mark("late-" + me.id, type(error).__name__)
    return "too late"


@task
async def anap(name):
    mark(name, "x")
    until = time.monotonic() + 30
    while os.path.getsize(os.path.join(FOLDER, name)) < 40 and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return True


@task
async def agossips(count):
    me = current_async()
    await asyncio.gather(*[me.message(n) for n in range(count)])
    return count


@task
async def agather(count):
    me = current_async()
    children = await asyncio.gather(*[me.submit("aadd", n) for n in range(count)])
    first = await asyncio.gather(*[child.wait() for child in children])
    last = sorted([await child.wait() async for child in me.as_completed(children)])
    return [first, last, await me.step("a", add_later, 1, y=5), await me.step("b", add, 1)]


@task
def recursive(depth):
    me = current()
    return depth if depth == 0 else 1 + me.submit("recursive", depth - 1, step="down").wait()


@task
def context():
    return [current().context.greeting, current().context.loop, threading.current_thread().name]


@task
def long(name):
    mark(name, "begun")
    wait_for(name + "-go")
    return "done"


@task
def slow_steps(name, count):
    me = current()
    total = 0
    for n in range(count):
        total += me.step("n%d" % n, lambda: mark(name, n) or n)
        if n == count // 2 and me.state is None:
            return me.suspend(until="20ms", state="half")
        time.sleep(0.02)
    return total


@task
def lingers():
    """A thread of it says something when the turn is over."""
    import contextvars

    def late():
        wait_for("lingers-go")
        print("late")
        try:
            me.message("late")
        except BaseException as error:
            mark("lingers", type(error).__name__)

    me = current()
    context = contextvars.copy_context()
    threading.Thread(target=lambda: context.run(late)).start()
    return "ended"


if __name__ == "__main__":
    from errand import serve

    serve()
