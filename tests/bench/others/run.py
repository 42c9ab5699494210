#!/usr/bin/env python3
"""The same little work through Errand, Celery and BullMQ, on this machine, in turn.

    tests/bench/others/run.py [--jobs 5000] [--rounds 3] [NAME...]

A job gets one number and gives it back. Two worker processes; whatever is accepted is on disk before the submitter
hears of it (Redis with `appendfsync always`), and results are kept. Three figures a system, medians of the rounds:

    submit   one process that submits one after another, nothing else going on: jobs a second
    bulk     the same, as many in a call as the system takes: jobs a second
    through  from the first submission in bulk until the last result is there, workers running: jobs a second

Needs build/errand; for the others redis-server, python3-celery and python3-redis (Debian), and bullmq (npm) in a
node_modules folder that NODE_PATH names. What is missing is left out and said. The load should be near 0."""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "..", "..", ".."))
SDK = os.path.join(ROOT, "workers", "sdk")
WORKERS = 2
PATIENCE = 120


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Folder:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="others-", dir=os.path.join(ROOT, "build"))
        self.children = []
        return self

    def start(self, command, environment=None, **more):
        log = open(os.path.join(self.path, "log"), "a")
        child = subprocess.Popen(command, cwd=self.path, env={**os.environ, **(environment or {})}, stderr=log,
                                 **{"stdout": log, **more})
        self.children.append(child)
        return child

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.path, ignore_errors=True)


def redis(folder):
    port = free_port()
    folder.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
                  "--appendfsync", "always", "--dir", folder.path])
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            time.sleep(0.05)
    raise SystemExit("redis-server does not listen")


def measure(command, environment, jobs):
    """The three figures, as its last line has them."""
    done = subprocess.run([*command, str(jobs)], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True,
                          timeout=600, check=True)
    return [float(word) for word in done.stdout.split("\n")[-2].split()]


def errand(jobs, language):
    program = ["python3", os.path.join(HERE, "errand_jobs.py")]
    worker = {"python": program, "node": ["node", os.path.join(HERE, "errand_jobs.mjs")], "native": None}[language]
    with Folder() as folder:
        with open(os.path.join(folder.path, "errand.yaml"), "w") as file:
            file.write("listen: 127.0.0.1:0\nlog: {level: warn}\ntasks:\n  same: ")
            file.write("{kind: process, run: %s, workers: %d, capacity: 16, start: eager}\n" % (worker, WORKERS)
                       if worker else "{kind: native, module: %s/build/examples/tasks.so, function: echo}\n" % ROOT)
        server = folder.start([os.path.join(ROOT, "build", "errand"), "serve"], {"PYTHONPATH": SDK},
                              stdout=subprocess.PIPE, text=True)
        url = server.stdout.readline().split()[-1]
        return measure([*program, "bench"], {"PYTHONPATH": SDK, "ERRAND_URL": url}, jobs)


def celery(jobs):
    with Folder() as folder:
        environment = {"REDIS_PORT": str(redis(folder)), "PYTHONPATH": HERE, "PYTHONDONTWRITEBYTECODE": "1"}
        folder.start(["/usr/bin/python3", "-m", "celery", "-A", "celery_jobs", "worker", "--pool", "prefork",
                      "--concurrency", str(WORKERS), "--loglevel", "error", "--without-gossip", "--without-mingle"],
                     environment)
        return measure(["/usr/bin/python3", os.path.join(HERE, "celery_jobs.py")], environment, jobs)


def bullmq(jobs):
    with Folder() as folder:
        environment = {"REDIS_PORT": str(redis(folder))}
        program = ["node", os.path.join(HERE, "bullmq_jobs.cjs")]
        for _ in range(WORKERS):
            folder.start([*program, "work"], environment)
        return measure([*program, "bench"], environment, jobs)


def missing(name):
    if name == "celery":
        tried = ["/usr/bin/python3", "-c", "import celery, redis"]
    elif name == "bullmq":
        tried = ["node", "-e", "require('bullmq')"]
    else:
        return None if name != "errand, Node" or shutil.which("node") else "node"
    if name in ("celery", "bullmq") and not shutil.which("redis-server"):
        return "redis-server"
    return None if subprocess.run(tried, stderr=subprocess.DEVNULL).returncode == 0 else name


SYSTEMS = {
    "errand, C": lambda jobs: errand(jobs, "native"),
    "errand, Python": lambda jobs: errand(jobs, "python"),
    "errand, Node": lambda jobs: errand(jobs, "node"),
    "celery": celery,
    "bullmq": bullmq,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(SYSTEMS))
    options = parser.parse_args()
    figures = {}
    print("%d processors, load %.1f %.1f %.1f" % (os.cpu_count(), *os.getloadavg()))
    for _ in range(options.rounds):
        for name in options.names:
            lacks = missing(name)
            if lacks:
                print("%s is left out: there is no %s" % (name, lacks))
            else:
                figures.setdefault(name, []).append(SYSTEMS[name](options.jobs))
    print("%-16s %10s %10s %10s   jobs a second" % ("", "submit", "bulk", "through"))
    for name, rounds in figures.items():
        print("%-16s %10.0f %10.0f %10.0f" % (name, *(statistics.median(column) for column in zip(*rounds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
