#!/usr/bin/env python3
# examples/worker.py: tasks in Python, run by a worker of its own: a sale that sleeps until it is approved, and a count
# that others share.
import collections
import pathlib

from errand import Retry, current, current_async, serve, task

TEXT = pathlib.Path(__file__).resolve().parent / "text"


@task
def sale(number: int, amount: float) -> dict:
    me = current()
    receipt = me.step("charge", lambda: "card charged for %d: %.2f" % (number, amount))  # once, over crashes and retries
    parcel = me.submit("pack", number, step="pack")  # a child, found again by its step
    me.wait(parcel)  # in place: its place is another's meanwhile
    if me.woken is None:
        me.message({"ask": "ship %d?" % number})
        return me.suspend(inbox=True, until="3d", state=receipt)  # nothing stays, for three days
    approved = me.woken.by == "inbox" and me.woken.messages[0].body.get("approved")
    return {"receipt": me.state, "shipped": parcel.wait() if approved else None}


@task
def pack(number: int) -> str:
    me = current()
    if me.attempt == 1:
        raise Retry("no cardboard left", after="100ms")  # whatever `retry_for` says
    print("packed", number)  # the invocation's log
    return "parcel %d" % number


@task
async def words(top: int = 3) -> dict:
    """The words of all texts: a coroutine that has `wordcount`, a command of the server's own, count each."""
    me = current_async()
    files = sorted(path.name for path in TEXT.glob("*.txt"))
    counted = collections.Counter()
    for one in await me.map("wordcount", [{"file": name, "top": 1000} for name in files], step="count"):
        counted.update(one["top"])
    return dict(sorted(counted.most_common(top)))


if __name__ == "__main__":
    serve()  # python3 -m errand worker --url http://127.0.0.1:8080 worker.py says the same
