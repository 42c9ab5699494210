#!/usr/bin/env python3
"""Workers that leave at random moments, and a server that ends at some, lose no work: each invocation succeeds, with the
result of whoever was told 204, and nothing is held in the end.

    leavers.py [INVOCATIONS [SEED]]"""

import json
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "crash"))
sys.dont_write_bytecode = True

from service import PATIENCE, ROOT, Client, Server  # noqa: E402

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
tasks:
  far: {kind: remote, max_recoveries: 1000, max_retries: 1000, backoff: {initial: 1ms, max: 1ms}}
"""
WORKERS = 12


class Worker(threading.Thread):
    """Polls, and mostly does what it is given; one time in three it leaves after a moment."""

    def __init__(self, world, number):
        super().__init__(daemon=True)
        self.world, self.name = world, "w%d" % number
        self.chance = random.Random("%s/%d" % (world.seed, number))
        self.promised = {}  # id: the result that was taken

    def ask(self, path, body, leave_after=None):
        """The status and the answer; None if there was none."""
        text = json.dumps(body).encode()
        head = "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (
            path, len(text))
        try:
            with socket.create_connection(("127.0.0.1", self.world.server.port), timeout=PATIENCE) as connection:
                connection.sendall((head + "Connection: close\r\n\r\n").encode() + text)
                if leave_after is not None:
                    time.sleep(leave_after)
                    return None
                answer = b""
                while piece := connection.recv(65536):
                    answer += piece
        except OSError:
            return None
        head, _, text = answer.partition(b"\r\n\r\n")
        return (int(head.split()[1]), json.loads(text) if text else None) if head else None

    def do(self, lease):
        token, id = lease["token"], lease["invocation"]["id"]
        if self.chance.random() < 0.1:
            self.ask("/leases/%s/fail" % token, {"error": {"type": "chance"}}, self.chance.choice([None, 0.001]))
            return
        if self.chance.random() < 0.3:
            self.ask("/leases/%s/heartbeat" % token, {"progress": 1}, self.chance.choice([None, 0.001]))
        answer = self.ask("/leases/%s/complete" % token, {"result": token})
        if answer and answer[0] == 204:
            assert self.promised.setdefault(id, token) == token, "two ends of " + id
        else:
            assert not answer or answer[0] in (409, 503), answer

    def run(self):
        while not self.world.over:
            body = {"worker": self.name, "max": self.chance.choice([1, 1, 3]), "lease": "1s",
                    "wait": self.chance.choice(["0s", "50ms", "5s"])}
            leaves = self.chance.random() < 0.35
            answer = self.ask("/leases", body, self.chance.random() * 0.02 if leaves else None)
            for lease in answer[1]["leases"] if answer and answer[0] == 200 else []:
                self.do(lease)


class World:
    def __init__(self, folder, count, seed):
        with open(os.path.join(folder, "errand.yaml"), "w") as file:
            file.write(CONFIG)
        self.seed, self.count, self.over = seed, count, False
        self.server = Server(folder)
        self.server.start()

    def stats(self):
        return json.loads(Client(self.server.port).get("/stats"))

    def submit(self, count):
        client = Client(self.server.port)
        for _ in range(count):
            status, text = client.ask("POST", "/tasks", '{"task": "far"}')
            assert status == 201, text

    def wait(self, succeeded):
        until = time.monotonic() + PATIENCE
        while self.stats()["invocations"]["succeeded"] < succeeded:
            assert time.monotonic() < until, "waited in vain: %s" % self.stats()
            time.sleep(0.02)

    def run(self):
        workers = [Worker(self, n) for n in range(WORKERS)]
        for worker in workers:
            worker.start()
        third = self.count // 3
        self.submit(third)
        self.wait(third // 2)
        self.server.stop()
        self.server.start()
        self.submit(third)
        self.wait(third + third // 2)
        self.server.kill()
        self.server.start()
        self.submit(third)
        self.wait(3 * third)
        self.over = True
        for worker in workers:
            worker.join(PATIENCE)
            assert not worker.is_alive(), "a poll was never answered"
        self.audit(3 * third, workers)

    def audit(self, count, workers):
        counts = self.stats()["invocations"]
        assert counts == dict.fromkeys(counts, 0) | {"succeeded": count}, counts
        held = [worker for worker in json.loads(Client(self.server.port).get("/workers"))["items"] if worker["busy"]]
        assert not held, held
        rows = json.loads(Client(self.server.port).get("/invocations?limit=1000&view=full"))["items"]
        by_id = {row["id"]: row for row in rows}
        for worker in workers:
            for id, result in worker.promised.items():
                assert by_id[id]["result"] == result, (by_id[id], result)
        again = sum(row["attempt"] > 1 for row in rows)
        print("%d invocations, %d of them attempted again (seed %s)" % (count, again, self.seed))
        self.server.stop()


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 240
    seed = sys.argv[2] if len(sys.argv) > 2 else str(time.time_ns())
    folder = tempfile.mkdtemp(prefix="leavers-", dir=os.path.join(ROOT, "build"))
    world = None
    try:
        world = World(folder, count, seed)
        world.run()
    except AssertionError as fault:
        print("seed %s: %s" % (seed, fault))
        return 1
    finally:
        if world:
            world.over = True
            world.server.clean_up()
        shutil.rmtree(folder)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
