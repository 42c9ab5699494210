#!/usr/bin/env python3
"""workers/sdk/errand.py against the real server (ERRAND_BIN), and inline: every verb, and what may happen to a worker.

    test_errand.py [TEST...]     as unittest takes them: Verbs.test_a_step_is_done_once"""

import asyncio
import contextlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, "..", "..", ".."))
SDK = os.path.join(ROOT, "workers", "sdk")
ERRAND = os.path.realpath(os.environ.get("ERRAND_BIN") or os.path.join(ROOT, "build", "errand"))
PATIENCE = 60  # s; only what hangs takes as long

sys.path[:0] = [SDK, HERE, os.path.join(ROOT, "tests", "crash")]
sys.dont_write_bytecode = True

import errand  # noqa: E402
from errand import AsyncClient, Client, Problem, TaskFailed  # noqa: E402
from service import die_with_parent  # noqa: E402

TASKS = os.path.join(HERE, "tasks.py")


def eventually(what, why="what was awaited does not come"):
    until = time.monotonic() + PATIENCE
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < until, why
        time.sleep(0.01)


class World:
    """A server and its workers in a folder of their own. At a socket, so that it is found again where it was."""

    def __init__(self, listen=None, pooled=False):
        self.folder = tempfile.mkdtemp(prefix="sdk-", dir=os.environ.get("TMPDIR", "/tmp"))
        with open(os.path.join(HERE, "errand.yaml")) as source, open(self.path("errand.yaml"), "w") as file:
            file.write("listen: %s\nstore: errand.db\n" % (listen or "unix:" + self.path("socket")))
            file.write(self.as_processes(source.read()) if pooled else source.read())
        self.workers, self.server, self.url = [], None, None
        self.start()

    def as_processes(self, text):
        """The same tasks as pools, but for the one that nobody runs."""
        pool = "kind: process, run: %s, workers: 1, capacity: 4, env: %s" % (
            json.dumps([sys.executable, "-B", TASKS]), json.dumps({"PYTHONPATH": SDK, "FOLDER": self.folder}))
        return re.sub(r"(?<!nobodys: {)kind: remote", lambda _: pool, text)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with contextlib.suppress(FileNotFoundError):
            with open(self.path(name)) as file:
                return file.read()
        return ""

    def mark(self, name):
        open(self.path(name), "w").close()

    def start(self):
        with open(self.path("log"), "a") as log:
            self.server = subprocess.Popen([ERRAND, "serve", "--config", "errand.yaml"], cwd=self.folder, text=True,
                                           stdout=subprocess.PIPE, stderr=log, preexec_fn=die_with_parent)
        line = self.server.stdout.readline()
        assert line.startswith("listening on "), self.read("log")
        self.url = line.split()[2]
        self.client = Client(self.url)

    def kill(self):
        self.server.kill()
        self.server.wait()
        self.server.stdout.close()

    def work(self, *options, tasks=TASKS, **variables):
        output = "worker-%d" % len(self.workers)
        with open(self.path(output), "w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-B", "-m", "errand", "worker", "--url", self.url, *options, tasks], cwd=self.folder,
                stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent,
                env=dict(os.environ, PYTHONPATH=SDK, FOLDER=self.folder, **variables))
        worker.output = output
        self.workers.append(worker)
        return worker

    def end(self, worker, sig=signal.SIGTERM):
        worker.send_signal(sig)
        return worker.wait(PATIENCE)

    def close(self):
        for worker in self.workers:
            worker.kill()
            worker.wait()
        if self.server.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)


def knows_pools():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "errand.yaml"), "w") as file:
            file.write("tasks: {a: {kind: process, run: ['true']}}\n")
        return subprocess.run([ERRAND, "check", "errand.yaml"], cwd=folder, capture_output=True).returncode == 0


class Verbs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World("127.0.0.1:0")
        cls.addClassCleanup(cls.world.close)
        cls.worker = cls.world.work("--concurrency", "4", "--lease", "1s")
        cls.client = cls.world.client

    def run_task(self, task, *args, **options):
        return self.client.submit(task, *args, **options).wait(PATIENCE)

    def failure(self, task, *args, **options):
        with self.assertRaises(TaskFailed) as caught:
            self.run_task(task, *args, **options)
        return caught.exception

    def begun(self, task, *args):
        handle = self.client.submit(task, *args)
        eventually(lambda: os.path.exists(self.world.path("begun-" + handle.id)))
        return handle

    def test_arguments(self):
        for args, wanted in (([1, "a"], [[1, "a"], {}]), ({"x": [1]}, [[], {"x": [1]}]), (None, [[], {}]),
                             (5, [[5], {}]), ("é\n", [["é\n"], {}]), ([], [[], {}]), ([[1]], [[[1]], {}])):
            self.assertEqual(self.run_task("plain", args=args), wanted)
        self.assertEqual(self.run_task("plain"), [[], {}])
        self.assertEqual(self.run_task("plain", 1, 2), [[1, 2], {}])
        self.assertEqual(self.run_task("named", 3), [3, 7])
        self.assertEqual(self.run_task("plain", 2**70), [[2**70], {}])

    def test_arguments_that_do_not_fit_are_not_tried_again(self):
        error = self.failure("add", 1, 2, 3, max_retries=5)
        self.assertEqual(error.type, "invalid_args")
        self.assertEqual(self.client.handle(error.id).get()["attempt"], 1)

    def test_a_step_is_done_once(self):
        found = self.run_task("once", "once")
        self.assertEqual(found["attempt"], 3)
        self.assertEqual(found["first"][1], 1)
        self.assertEqual(found["again"], found["first"])
        self.assertEqual(self.world.read("once"), "worked\n")

    def test_a_child_is_found_again_by_its_step(self):
        handle = self.client.submit("family")
        id, result, by_id, both = handle.wait(PATIENCE)
        self.assertEqual((result, by_id, both), (42, 42, [42, 42]))
        children = list(self.client.list(parent=handle.id, view="full"))
        self.assertEqual([(one["id"], one["step"], one["priority"], one["labels"]) for one in children],
                         [(id, "sum", 0, {"of": handle.id})])

    def test_map_gives_results_in_order(self):
        many, few, kinds = self.run_task("squares", 1100)
        self.assertEqual(many, [2 * n for n in range(1100)])
        self.assertEqual(few, [2, 5, 5])
        self.assertEqual(kinds, ["TaskFailed", "str"])

    def test_whoever_ends_first_comes_first(self):
        self.assertEqual(self.run_task("racing", "race"), ["add", "waits"])

    def test_a_wait_gives_up(self):
        self.world.mark("at-once")
        self.assertEqual(self.run_task("waits", "at-once"), "timed out")

    def test_large_results(self):
        self.assertEqual(self.run_task("large", 0, [10, 700_000, 1_500_000, 600_000]), [10, 700_000, 1_500_000, 600_000])
        self.assertEqual(len(self.run_task("large", 3 << 20)), 3 << 20)
        self.assertEqual(self.failure("large", 9 << 20).type, "bad_result")
        self.assertEqual(self.failure("large", 80 << 20).type, "bad_result")

    def test_failures(self):
        error = self.failure("fails", "torn").error
        self.assertEqual(error["type"], "Torn")
        self.assertEqual(error["message"], "the paper tore")
        self.assertEqual(error["types"], ["Torn", "OSError", "Exception", "BaseException"])
        self.assertIn('raise Torn("the paper tore") from KeyError("paper")', error["traceback"])
        self.assertIn("KeyError: 'paper'", error["traceback"])
        self.assertNotIn("errand.py", error["traceback"])
        self.assertEqual(self.failure("fails", "unknown").message, "what is \\udc80?")
        self.assertEqual(self.failure("fails", "exit").type, "SystemExit")
        self.assertEqual(self.failure("fails", "my own").message, "of its own type")
        for how in ("set", "nan", "deep"):
            self.assertEqual(self.failure("fails", how).type, "bad_result", how)
        self.assertEqual(self.run_task("fails", "child"), ["Torn", "the paper tore", "failed"])

    def test_a_retry_is_tried_again_whatever_retry_for_says(self):
        for how, attempts, type in (("retry", 3, "Torn"), ("torn", 1, "Torn"), ("mine", 1, "mine")):
            error = self.failure("fails", how, max_retries=2)
            self.assertEqual((error.type, self.client.handle(error.id).get()["attempt"]), (type, attempts))

    def test_an_order_sleeps_until_it_is_approved(self):
        handle = self.client.submit("order", 7, 12.5)
        eventually(lambda: handle.status() == "waiting" and handle.get()["turns"] == 1)
        self.assertEqual([message.body for message in handle.messages()], [{"ask": 7}])
        handle.send({"ok": True})
        self.assertEqual(handle.wait(PATIENCE), {"by": "inbox", "approved": [{"ok": True}], "attempt": 1,
                                                 "charge": {"receipt": 700, "amount": 12.5}})

    def test_a_coroutine_suspends_until_a_time_and_for_children(self):
        self.assertEqual(self.run_task("wakes"), [2, "until", "ids", {"a": ["succeeded", 2, None],
                                                                      "b": ["failed", None, "Torn"]}])

    def test_messages_go_out_and_come_in(self):
        handle = self.client.submit("talks")
        heard = []
        for message in handle.follow():
            heard.append(message.body)
            if message.body == "begin":
                handle.send(1, key="same")
                handle.send(1, key="same")
            elif message.body == {"heard": 1}:
                handle.send("stop")
        self.assertEqual(heard, ["begin", {"heard": 1}, {"heard": "stop"}])
        self.assertEqual(handle.wait(PATIENCE), [[1, "stop"], []])
        self.assertEqual([message.body for message in handle.messages(kind="in")], [1, "stop"])

    def test_what_is_printed_is_told_apart(self):
        handles = [self.client.submit("prints", name) for name in ("ada", "ben", "cas")]
        for handle, name in zip(handles, ("ada", "ben", "cas")):
            self.assertIs(handle.wait(PATIENCE), True)
            self.assertEqual(handle.log(), "{0} one\n{0} two\n{0} three\n".format(name))
            self.assertEqual(handle.get()["progress"], {"value": 0.5, "note": "half"})
        eventually(lambda: "nobody's" in self.world.read(self.worker.output))

    def test_a_cancelled_one_is_told(self):
        for how in ("sleep", "wait", "inbox"):
            handle = self.begun("stops", how)
            handle.cancel()
            with self.assertRaises(TaskFailed) as caught:
                handle.wait(PATIENCE)
            self.assertEqual(caught.exception.status, "cancelled", how)
        handle = self.begun("stops", "flag")
        handle.cancel()
        self.assertEqual(handle.wait(PATIENCE), "in spite of it")

    def test_a_cancelled_coroutine_cleans_up(self):
        handle = self.begun("astops")
        handle.cancel()
        with self.assertRaises(TaskFailed) as caught:
            handle.wait(PATIENCE)
        self.assertEqual(caught.exception.status, "cancelled")
        self.assertEqual([message.body for message in handle.messages()], ["cleaned up"])

    def test_what_is_left_of_the_timeout(self):
        before, after = self.run_task("left")
        self.assertLessEqual(after + 0.05, before)
        self.assertLessEqual(before, 20)
        self.assertGreater(after, 1)

    def test_a_lost_lease_is_told_and_its_result_dropped(self):
        error = self.failure("late")
        self.assertEqual(error.type, "timeout")
        eventually(lambda: self.world.read("late-" + error.id) == "told\nLeaseLost\n")
        self.assertIsNone(self.client.handle(error.id).get()["result"])

    def test_coroutines_run_side_by_side(self):
        worker = self.world.work("--concurrency", "20", "--tasks", "anap", "--name", "wide")
        handles = self.client.submit_all("anap", ["naps"] * 20)
        self.assertEqual(self.client.wait(handles, PATIENCE), [True] * 20)
        self.assertEqual(self.world.end(worker), 0)

    def test_a_coroutine_gathers(self):
        self.assertEqual(self.run_task("agather", 5), [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], 6, 2])

    def test_who_waits_leaves_its_place_to_others(self):
        self.assertEqual(self.run_task("recursive", 12), 12)

    def test_hooks_and_their_context(self):
        greeting, loop, thread = self.run_task("context")
        self.assertRegex(greeting, "hello from [0-9]+")
        self.assertEqual((loop, thread), (True, "errand-body"))

    def test_a_client(self):
        with self.assertRaises(Problem) as caught:
            self.client.submit("nothing")
        self.assertEqual((caught.exception.status, caught.exception.type), (422, "invalid-request"))
        self.assertEqual(caught.exception.errors[0]["pointer"], "/task")
        first = self.client.submit("add", 1, key="client-1")
        self.assertEqual(self.client.submit("add", 1, key="client-1").id, first.id)
        later = self.client.submit("add", 1, delay="1h", labels={"test": "client"})
        with self.assertRaises(TimeoutError):
            later.wait("10ms")
        self.assertEqual([row["id"] for row in self.client.list(label="test:client", limit=1)], [later.id])
        self.assertEqual(later.cancel()["status"], "cancelled")
        with self.assertRaises(TaskFailed):
            later.wait()
        self.assertEqual(later.retry()["status"], "queued")
        self.assertEqual(later.wait(PATIENCE), 2)
        self.assertEqual(self.client.map("add", [(1, 2), {"x": 3}], timeout_of_all=PATIENCE), [3, 4])
        with self.assertRaises(Problem):
            self.client.handle("0000000000000").get()

    def test_groups(self):
        group = self.client.group("add", [(1, 2), {"x": 3}, 4], labels={"of": "group"})
        self.assertEqual(len(group.handles), 3)
        self.assertEqual(group.wait(timeout="30s"), [3, 4, 5])
        self.assertEqual([(handle.index, handle.wait()) for handle in group.results()], [(0, 3), (1, 4), (2, 5)])
        self.assertEqual(sorted(handle.index for handle in group.as_completed()), [0, 1, 2])
        self.assertEqual((group.status(), group.get()["total"], group.mode), ("succeeded", 3, "parallel"))
        failing = self.client.group(invocations=[{"task": "add", "args": [1, 1]}, {"task": "fails", "args": ["typed"]}])
        with self.assertRaises(errand.TaskFailed):
            failing.wait(timeout="30s")
        self.assertEqual(failing.wait(return_exceptions=True)[0], 2)
        self.assertEqual(self.client.map("add", [], timeout_of_all="5s"), [])
        chain = self.client.group("add", [(1, 2), ({"$result": True}, 10)], mode="chain")
        self.assertEqual(chain.wait(timeout="30s"), [3, 13])
        graph = self.client.group(invocations=[
            {"name": "a", "task": "add", "args": [1, 2]},
            {"name": "b", "task": "add", "args": [{"$result": "a"}], "after": ["a"]}])
        self.assertEqual({handle.name: handle.wait() for handle in graph.results()}, {"a": 3, "b": 4})
        more = self.client.group("add", [], open=True)
        self.client.submit("add", 5, 6, group=more)
        more.close()
        self.assertEqual(more.wait(timeout="30s"), [11])
        with self.assertRaises(errand.Problem):
            self.client.group("add", [(1,)], mode="circle")
        with self.assertRaises(TypeError):
            self.client.group("add")

    def test_what_is_held(self):
        promise = self.client.submit("add", 1, 2, hold=True, release_by="1m")
        after = self.client.submit("add", {"$result": True}, 10, after=[promise])
        policy = self.client.submit("add", 7, after=promise, after_policy="any")
        self.assertEqual([promise.status(), after.status(), policy.status()], ["held"] * 3)
        promise.release()
        self.assertEqual(self.client.wait([promise, after, policy], timeout="30s"), [3, 13, 8])
        group = self.client.group("add", [(1,)], hold=True)
        self.assertEqual(group.status(), "held")
        group.release()
        self.assertEqual(group.wait(timeout="30s"), [2])
        group = self.client.group("add", [(1,)], hold=True)
        self.assertEqual(group.cancel()["counts"]["cancelled"], 1)

    def test_groups_of_an_async_client(self):
        async def ask():
            async with errand.AsyncClient(self.world.url) as client:
                group = await client.group("add", [(1, 2), (3, 4)])
                self.assertEqual(await group.wait(timeout="30s"), [3, 7])
                self.assertEqual([handle.index async for handle in group.results()], [0, 1])
                self.assertEqual(await client.map("add", [(5, 6), 7]), [11, 8])

        asyncio.run(ask())

    def test_an_async_client(self):
        async def converse():
            async with AsyncClient(self.world.url) as client:
                handle = await client.submit("talks")
                heard = []
                async for message in handle.follow():
                    heard.append(message.body)
                    if message.body == "begin":
                        await handle.send("stop")
                many = await asyncio.gather(*[client.map("add", [n, n + 1]) for n in range(5)])
                with self.assertRaises(TaskFailed):
                    await (await client.submit("fails", "torn")).wait(PATIENCE)
                found = [row["task"] async for row in client.list(task="talks")]
                return heard, await handle.wait(PATIENCE), many, found[0]

        heard, result, many, found = asyncio.run(converse())
        self.assertEqual(heard, ["begin", {"heard": "stop"}])
        self.assertEqual(result, [["stop"], []])
        self.assertEqual(many, [[n + 1, n + 2] for n in range(5)])
        self.assertEqual(found, "talks")

    def test_many_of_a_turn_of_its_own_process(self):
        """What ERRAND_LEASE_URL is to a command."""
        handle = self.client.submit("nobodys", args={"x": 1})
        http = errand._BlockingHttp(self.world.url)
        self.addCleanup(http.close)
        asked = errand._Body(errand._json({"worker": "hand", "tasks": ["nobodys"], "wait": "20s", "max": 100}))
        leases = errand._drive(http.ask("POST", "/leases", asked)).value()["leases"]
        token = next(lease["token"] for lease in leases if lease["invocation"]["id"] == handle.id)
        script = ("from errand import current\nme = current()\nme.log('hi')\nme.progress(1)\n"
                  "print(me.args, me.step('a', lambda: 1), me.submit('add', 1).wait(), me.inbox())\n"
                  "me.suspend(inbox=True, state=me.steps)\n")
        done = subprocess.run([sys.executable, "-B", "-c", script], text=True, capture_output=True, timeout=PATIENCE,
                              env=dict(os.environ, PYTHONPATH=SDK, ERRAND_LEASE_URL=self.world.url + "/leases/" + token))
        self.assertEqual((done.stdout, done.stderr), ("hi\n{'x': 1} 1 2 []\n", ""))
        self.assertEqual(handle.status(), "waiting")
        handle.cancel()


class Pooled(Verbs):
    """The same verbs, by children of the server's own."""

    @classmethod
    def setUpClass(cls):
        if not knows_pools():
            raise unittest.SkipTest("this server has no pools of processes")
        cls.world = World("127.0.0.1:0", pooled=True)
        cls.addClassCleanup(cls.world.close)
        cls.client = cls.world.client

    test_coroutines_run_side_by_side = None

    def test_a_lost_lease_is_told_and_its_result_dropped(self):
        error = self.failure("late")
        self.assertEqual(error.type, "timeout")
        eventually(lambda: self.world.read("late-" + error.id).startswith("told\n"))
        self.assertIsNone(self.client.handle(error.id).get()["result"])

    def test_what_is_printed_is_told_apart(self):
        handles = [self.client.submit("prints", name) for name in ("ada", "ben", "cas")]
        for handle, name in zip(handles, ("ada", "ben", "cas")):
            self.assertIs(handle.wait(PATIENCE), True)
            lines = [line for line in handle.log().splitlines() if line != "nobody's"]
            self.assertEqual(lines, [name + " one", name + " two", name + " three"])
            self.assertEqual(handle.get()["progress"], {"value": 0.5, "note": "half"})


class Life(unittest.TestCase):
    def setUp(self):
        self.world = World()
        self.addCleanup(self.world.close)
        self.client = self.world.client

    def test_sigterm_lets_what_runs_end(self):
        worker = self.world.work()
        handle = self.client.submit("long", "long")
        eventually(lambda: self.world.read("long"))
        worker.send_signal(signal.SIGTERM)
        other = self.client.submit("add", 1)
        self.world.mark("long-go")
        self.assertEqual(worker.wait(PATIENCE), 0)
        self.assertEqual(handle.get()["result"], "done")
        self.assertEqual(other.status(), "queued")
        self.assertRegex(self.world.read("stopped"), "^hello from [0-9]+\n$")

    def test_sigterm_gives_up_when_its_grace_is_over(self):
        worker = self.world.work("--grace", "100ms", "--lease", "1s")
        handle = self.client.submit("long", "long")
        eventually(lambda: self.world.read("long"))
        self.assertEqual(self.world.end(worker), 0)
        self.world.mark("long-go")
        self.world.work()
        self.assertEqual(handle.wait(PATIENCE), "done")
        self.assertEqual(handle.get()["attempt"], 2)

    def test_sigterm_while_the_server_is_away(self):
        idle, busy = self.world.work("--tasks", "add"), self.world.work("--tasks", "long", "--grace", "200ms")
        self.client.submit("long", "long")
        eventually(lambda: self.world.read("long"))
        self.client.submit("add", 1).wait(PATIENCE)
        self.world.kill()
        self.assertEqual(self.world.end(idle), 0)
        self.world.mark("long-go")
        self.assertEqual(self.world.end(busy), 0)
        self.world.start()
        self.world.kill()
        never = self.world.work()
        eventually(lambda: "does not answer" in self.world.read(never.output))
        self.assertEqual(self.world.end(never), 0)

    def test_a_result_waits_for_a_server_that_is_away(self):
        self.world.work()
        handle = self.client.submit("long", "long")
        eventually(lambda: self.world.read("long"))
        self.world.kill()
        self.world.mark("long-go")
        eventually(lambda: "saying complete again" in self.world.read("worker-0"))
        self.world.start()
        self.assertEqual(self.world.client.handle(handle.id).wait(PATIENCE), "done")
        self.assertEqual(self.world.read("long"), "begun\n")

    def test_nothing_is_done_twice_when_workers_are_killed(self):
        worker = self.world.work("--lease", "1s")
        handle = self.client.submit("slow_steps", "steps", 40)
        for lines in (5, 30):
            eventually(lambda: self.world.read("steps").count("\n") > lines)
            worker.kill()
            worker = self.world.work("--lease", "1s")
        self.assertEqual(handle.wait(PATIENCE), sum(range(40)))
        done = [int(line) for line in self.world.read("steps").split()]
        self.assertEqual(sorted(set(done)), list(range(40)))
        self.assertLessEqual(len(done), 42)  # work that a kill cut off from its record

    def test_nothing_is_done_twice_when_the_server_is_killed(self):
        self.world.work()
        handle = self.client.submit("slow_steps", "steps", 40)
        for lines in (5, 15, 19, 20, 21, 30):
            eventually(lambda: self.world.read("steps").count("\n") > lines)
            self.world.kill()
            self.world.start()
        self.assertEqual(self.world.client.handle(handle.id).wait(PATIENCE), sum(range(40)))
        self.assertEqual([int(line) for line in self.world.read("steps").split()], list(range(40)))
        self.assertEqual(self.world.client.handle(handle.id).get()["attempt"], 1)

    def test_a_wait_outlives_the_server(self):
        self.world.work("--concurrency", "2")
        handle = self.client.submit("racing", "race")
        eventually(lambda: handle.status() == "waiting" or handle.get()["result"])
        self.world.kill()
        self.world.start()
        self.assertEqual(self.world.client.handle(handle.id).wait(PATIENCE), ["add", "waits"])

    def test_the_server_says_stop(self):
        worker = self.world.work("--name", "ann", "--concurrency", "2")
        handle = self.client.submit("long", "long")
        eventually(lambda: self.world.read("long"))
        errand._drive(self.client._ask("POST", "/workers/ann/stop"))
        eventually(lambda: "says stop" in self.world.read(worker.output))
        self.assertIsNone(worker.poll())
        self.world.mark("long-go")
        self.assertEqual(worker.wait(PATIENCE), 0)
        self.assertEqual(handle.get()["result"], "done")

    def test_a_worker_that_cannot_work_says_why(self):
        with open(self.world.path("none.py"), "w") as file:
            file.write("import errand\n")
        with open(self.world.path("lacks.py"), "w") as file:
            file.write("import errand\nimport nothing_there\n")
        with open(self.world.path("typo.py"), "w") as file:
            file.write("def f(:\n")
        with open(self.world.path("broken.py"), "w") as file:
            file.write("import errand\n@errand.on_start\ndef opens(context): raise ValueError('no database')\n@errand.task\n"
                       "def add(x): pass\n")
        for options, tasks, status, words in (
                ([], "none.py", 2, "there are no tasks"), ([], "nowhere.py", 2, "nowhere.py"),
                ([], "lacks.py", 2, "lacks.py\", line 2, in <module>\n    import nothing_there"),
                ([], "typo.py", 2, "typo.py cannot be loaded\n  File"),
                (["--tasks", "nix"], TASKS, 2, "there is no task 'nix' here"), (["--lease", "3"], TASKS, 2, "--lease"),
                (["--url", "ftp://x"], TASKS, 2, "is no address"), ([], "broken.py", 1, "no database"),
                (["--lease", "1ms"], TASKS, 1, "/lease")):
            worker = self.world.work(*options, tasks=tasks)
            self.assertEqual(worker.wait(PATIENCE), status, self.world.read(worker.output))
            self.assertIn(words, self.world.read(worker.output))

    def test_a_module_may_end_with_serve(self):  # which read the options of `worker` as its own
        with open(self.world.path("bare.py"), "w") as file:
            file.write("from errand import task, serve\n@task\ndef add(x, y=1): return x + y\nserve()\n")
        worker = self.world.work(tasks="bare.py")
        self.assertEqual(self.client.submit("add", 1).wait(PATIENCE), 2, self.world.read(worker.output))
        self.assertEqual(self.world.end(worker), 0)

    def test_a_script_may_serve_itself(self):
        with open(self.world.path("own.py"), "w") as file:
            file.write("from errand import task, serve\n@task\ndef add(x, y=1): return x + y\nif __name__ == '__main__': serve()\n")
        script = subprocess.Popen([sys.executable, "-B", "own.py"], cwd=self.world.folder, preexec_fn=die_with_parent,
                                  env=dict(os.environ, PYTHONPATH=SDK, ERRAND_URL=self.world.url), stderr=subprocess.DEVNULL)
        self.world.workers.append(script)
        self.assertEqual(self.client.submit("add", 1).wait(PATIENCE), 2)
        self.assertEqual(self.world.end(script, signal.SIGINT), 0)


class Inline(unittest.TestCase):
    """Client("inline:"), which needs no server."""

    @classmethod
    def setUpClass(cls):
        import tasks

        cls.tasks = tasks
        cls.folder = tasks.FOLDER = tempfile.mkdtemp(prefix="sdk-inline-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def setUp(self):
        self.client = Client("inline:")

    def test_what_is_submitted_runs_at_once(self):
        handle = self.client.submit("add", 1, 2)
        self.assertEqual((handle.status(), handle.wait()), ("succeeded", 3))
        self.assertEqual(self.client.submit(self.tasks.add_later, {"x": 1}).wait(), 2)
        self.assertEqual(self.client.map("add", [1, (2, 3)]), [2, 5])

    def test_children_run_too(self):
        self.assertEqual(self.client.submit("recursive", 5).wait(), 5)
        self.assertEqual(self.client.submit("agather", 3).wait(), [[1, 2, 3], [1, 2, 3], 6, 2])
        self.assertEqual(self.client.submit("squares", 3).wait()[0], [0, 2, 4])

    def test_steps_and_retries(self):
        found = self.client.submit("once", "inline-once", max_retries=2).wait()
        self.assertEqual((found["attempt"], found["first"][1]), (3, 1))
        with self.assertRaises(TaskFailed) as caught:
            self.client.submit("once", "inline-once", max_retries=0).wait()
        self.assertEqual(caught.exception.type, "Retry")
        self.assertEqual(self.client.submit("family", max_retries=1).wait()[1], 42)

    def test_what_sleeps_is_woken_by_hand(self):
        handle = self.client.submit("order", 7, 1)
        self.assertEqual(([one.body for one in handle.messages()], handle.status()), ([{"ask": 7}], "waiting"))
        with self.assertRaisesRegex(errand.ErrandError, r"nothing wakes it but send\(\) and wake\(\)"):
            handle.wait()
        handle.send({"ok": True})
        self.assertEqual(handle.wait()["approved"], [{"ok": True}])
        handle = self.client.submit("order", 8, 1)
        handle.wake()
        self.assertEqual((handle.wait()["by"], handle.get()["attempt"]), ("until", 1))

    def test_children_wake_it_at_once(self):
        handle = self.client.submit("wakes")
        handle.wake()
        self.assertEqual(handle.wait()[:3], [2, "until", "ids"])

    def test_failures(self):
        for how, type in (("torn", "Torn"), ("set", "bad_result"), ("mine", "mine")):
            with self.assertRaises(TaskFailed) as caught:
                self.client.submit("fails", how).wait()
            self.assertEqual(caught.exception.type, type)
        with self.assertRaises(Problem):
            self.client.submit("nothing")
        with self.assertRaises(TaskFailed):
            self.client.submit("add").wait()

    def test_below_a_running_loop(self):
        async def converse():
            async with AsyncClient("inline:") as client:
                handle = await client.submit("order", 7, 1)
                await handle.send("go")
                return [await (await client.submit("squares", 2)).wait(), (await handle.wait())["by"],
                        [one.body async for one in handle.follow()]]

        many, by, messages = asyncio.run(converse())
        self.assertEqual((many[0], by, messages), ([0, 2], "inbox", [{"ask": 7}]))


class Pool(unittest.TestCase):
    """A pool's child, whose server is this test: as PROTOCOL.md has it."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="sdk-pool-")
        self.addCleanup(shutil.rmtree, self.folder)
        ours, theirs = socket.socketpair()
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.child = subprocess.Popen([sys.executable, "-B", TASKS], pass_fds=[theirs.fileno()], stdout=self.log,
                                      stderr=self.log, preexec_fn=die_with_parent,
                                      env=dict(os.environ, PYTHONPATH=SDK, FOLDER=self.folder, ERRAND_FD=str(theirs.fileno())))
        theirs.close()
        ours.settimeout(PATIENCE)
        self.ours, self.lines = ours, ours.makefile("rb")
        for one in (self.log, self.lines, ours):
            self.addCleanup(one.close)
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)
        self.say(type="hello", protocol=1, worker="pool-1", capacity=4, limits={"line": 1 << 20, "result": 8 << 20})
        self.assertEqual(self.hear(), {"type": "ready", "protocol": 1, "client": "errand.py " + errand.__version__})

    def say(self, **message):
        self.ours.sendall(json.dumps(message).encode() + b"\n")

    def hear(self):
        line = self.lines.readline()
        self.assertTrue(line, "the child has gone")
        return json.loads(line)

    def run_task(self, run, task, *args, **more):
        self.say(type="run", run=run, id="0000000000%03d" % run, task=task, attempt=1, args=list(args), **dict({"steps": {}}, **more))

    def asked(self, type, **members):
        """Its next message, which has these members; its seq."""
        message = self.hear()
        self.assertEqual({name: message.get(name) for name in members}, members, message)
        self.assertEqual(message["type"], type)
        return message.get("seq")

    def answer(self, seq, **members):
        self.say(type="answer", seq=seq, **members)

    def close(self):
        self.say(type="close")
        self.assertEqual(self.child.wait(PATIENCE), 0)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "stopped")))

    def test_a_result_and_a_failure(self):
        self.run_task(1, "plain", 1, {"x": 2})
        self.asked("done", run=1, result=[[1, {"x": 2}], {}])
        self.run_task(2, "fails", "torn")
        failed = self.hear()
        self.assertEqual((failed["type"], failed["run"], failed["error"]["type"]), ("failed", 2, "Torn"))
        self.assertIn("OSError", failed["error"]["types"])
        for run, how in ((3, "set"), (4, "deep")):
            self.run_task(run, "fails", how)
            self.assertEqual(self.hear()["error"]["type"], "bad_result")
        self.run_task(5, "large", 2 << 20)
        self.assertEqual(self.hear()["error"]["type"], "bad_result")
        self.run_task(6, "nothing")
        self.assertEqual(self.hear()["error"]["type"], "no_such_task")
        self.say(type="news", what="that no one knows yet")
        self.close()

    def test_a_workflow(self):
        self.run_task(1, "order", 7, 1)
        charge = {"receipt": 700, "amount": 1}
        self.answer(self.asked("step", run=1, name="charge", value=charge), run=1, value=charge, found=False)
        submit = self.hear()
        self.assertEqual((submit["type"], submit["submission"]), ("submit", {"task": "plain", "args": {"id": 7}, "step": "pack"}))
        self.answer(submit["seq"], run=1, id="0000000000009")
        results = [{"id": "0000000000009", "step": "pack", "status": "succeeded", "result": None, "error": None}]
        self.answer(self.asked("wait", run=1, ids=["0000000000009"], mode="all"), run=1, results=results, timed_out=False,
                    results_left_out=True)
        self.answer(self.asked("look", run=1, id="0000000000009"), run=1, result=dict(results[0], result=[[], {}]))
        self.answer(self.asked("message", run=1, body={"ask": 7}), run=1, seq_out=1)
        self.answer(self.asked("suspend", run=1, on={"inbox": True, "until": "3d"}, state={"charge": charge}), run=1)
        self.asked("done", run=1, result=None)
        self.run_task(2, "order", 7, 1, state={"charge": charge}, steps={"charge": charge},
                      woken={"by": "inbox", "results": [], "messages": [{"seq": 5, "body": "yes"}]})
        self.answer(self.asked("submit", run=2), run=2, id="0000000000009")
        results[0]["result"] = 1
        self.answer(self.asked("wait", run=2), run=2, results=results, timed_out=False)
        self.asked("done", run=2, result={"by": "inbox", "approved": ["yes"], "charge": charge, "attempt": 1})
        self.close()

    def test_a_coroutine_has_no_more_under_way_than_a_child_may(self):
        heard, under_way, said = queue.Queue(), [], 0
        threading.Thread(target=lambda: [heard.put(json.loads(line)) for line in self.lines], daemon=True).start()
        self.run_task(1, "agossips", 1500)
        while said < 1500 or under_way:
            try:
                message = heard.get(timeout=0.5)
                self.assertEqual(message["type"], "message")
                under_way.append(message["seq"])
                said += 1
            except queue.Empty:  # it says no more before it has answers
                self.assertLessEqual(len(under_way), 1000)
                for seq in under_way:
                    self.answer(seq, run=1, seq_out=seq)
                under_way = []
        self.assertEqual(heard.get(timeout=PATIENCE)["result"], 1500)
        self.close()

    def test_messages_and_several_at_once(self):
        self.run_task(1, "talks")
        self.answer(self.asked("message", run=1, body="begin"), run=1, seq_out=1)
        inbox = self.asked("inbox", run=1, after=0)
        self.run_task(2, "agather", 2)
        self.run_task(3, "add", 1)
        seqs = {}
        for _ in range(3):
            message = self.hear()
            seqs.setdefault(message["run"], []).append(message)
        self.assertEqual(seqs[3][0], {"type": "done", "run": 3, "result": 2})
        for number, message in enumerate(seqs[2]):
            self.answer(message["seq"], run=2, id="00000000000%02d" % message["submission"]["args"][0])
        self.answer(inbox, run=1, message={"seq": 4, "body": "stop"})
        heard = {self.hear()["run"]: None for _ in range(2)}
        self.assertEqual(set(heard), {1, 2})
        self.ours.close()  # the server is gone

    def test_the_server_goes(self):
        self.ours.shutdown(socket.SHUT_RDWR)
        self.assertEqual(self.child.wait(PATIENCE), 0)

    def test_what_is_printed(self):
        self.run_task(1, "prints", "ada")
        found = [self.hear() for _ in range(5)]
        logs = [(one["stream"], one["text"]) for one in found if one["type"] == "log"]
        self.assertEqual(logs, [("stdout", "ada one\n"), ("stderr", "ada two\n"), ("stdout", "ada three\n")])
        self.assertIn({"type": "progress", "run": 1, "value": 0.5, "note": "half"}, found)
        self.assertEqual(found[-1], {"type": "done", "run": 1, "result": True})
        self.close()
        self.log.seek(0)
        self.assertEqual(self.log.read(), "nobody's\n")

    def test_a_cancelled_one(self):
        self.run_task(1, "stops", "wait")
        self.answer(self.asked("submit", run=1), run=1, id="0000000000009")
        seq = self.asked("wait", run=1)
        self.say(type="cancel", run=1, reason="cancelled")
        self.say(type="cancel", run=77, reason="cancelled")
        self.answer(seq, run=1, error={"type": "stopped", "message": "it is to end"})
        failed = self.hear()
        self.assertEqual((failed["type"], failed["error"]["type"]), ("failed", "cancelled"))
        self.run_task(2, "astops")
        eventually(lambda: os.path.exists(os.path.join(self.folder, "begun-0000000000002")))
        self.say(type="cancel", run=2, reason="timeout")
        self.answer(self.asked("message", run=2, body="cleaned up"), run=2, seq_out=1)
        self.assertEqual(self.hear()["type"], "failed")
        self.run_task(3, "stops", "inbox")
        self.answer(self.asked("inbox", run=3), run=3, error={"type": "stopped", "message": "it is to end"})
        self.assertEqual(self.hear()["type"], "failed")
        self.close()

    def test_nothing_is_said_of_what_has_ended(self):
        self.run_task(1, "lingers")
        self.asked("done", run=1, result="ended")
        open(os.path.join(self.folder, "lingers-go"), "w").close()
        eventually(lambda: os.path.exists(os.path.join(self.folder, "lingers")))
        self.run_task(2, "add", 1)
        self.asked("done", run=2, result=2)
        self.close()


class Small(unittest.TestCase):
    def test_durations(self):
        for given, seconds in (("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), (3, 3.0), ("0s", 0)):
            self.assertEqual(errand._seconds(given), seconds)
        for given in ("", "3", "h", "1 h", "1x", "1h 3m"):
            self.assertRaises(ValueError, errand._seconds, given)
        self.assertEqual([errand._duration(one) for one in (0, 0.0001, 1.5, "3d")], ["0ms", "1ms", "1500ms", "3d"])

    def test_outside_of_a_task(self):
        self.assertRaises(errand.ErrandError, errand.current)

    def test_two_tasks_of_one_name_are_refused(self):
        errand.task("twice")(lambda: 1)
        self.assertRaises(ValueError, errand.task("twice"), print)
        del errand._tasks["twice"]

    def test_it_is_python_3_9(self):
        import ast

        with open(errand.__file__) as file:
            ast.parse(file.read(), feature_version=(3, 9))

    @unittest.skipUnless(shutil.which("mypy") or subprocess.run([sys.executable, "-c", "import mypy"],
                                                                stderr=subprocess.DEVNULL).returncode == 0, "no mypy")
    def test_its_types(self):
        done = subprocess.run([sys.executable, "-m", "mypy", errand.__file__], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    assert re.match(r"3\.", sys.version)
    unittest.main()
