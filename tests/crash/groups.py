#!/usr/bin/env python3
"""Groups, chains, graphs, promises and dependencies at a server that is killed again and again: made, released,
cancelled and retried meanwhile. In a third of the rounds commits are slow.

    tests/crash/groups.py [KILLS]       SEED=N repeats a run's choices (not its timing), KEEP=1 leaves the folder behind

Each member leaves a mark when it succeeds, and looks for those of all it comes after: one that is missing is a link that
ran too early. In the end every group that was acknowledged is there, whole, and has ended; its counts are what its
members are; and the database agrees (see check_groups). The exit status is 1 on any violation."""

import collections
import json
import os
import random
import sqlite3
import sys
import time

sys.dont_write_bytecode = True

import service  # noqa: E402
from service import FINAL, Client, Faults, Server, Violation  # noqa: E402

UNFINISHED = 300  # as many members are kept going
ROUND_SECONDS = (0.05, 1.0)
CLEAN_STOPS = 0.15  # of the rounds
SLOW = 0.33
KILLED_AT_START = 0.1
LARGE = 0.03  # of the groups: above 10,000 members, in parts
LARGE_SIZE = 10500

CONFIG = """
listen: 127.0.0.1:0
store: errand.db
slots: 6
log: {level: error}
defaults: {max_recoveries: 1000, backoff: {initial: 1ms, factor: 1}}
tasks:
  member: {kind: native, module: group_tasks.so, params: {mark: string, needs: string, ms: integer, chance: integer}}
"""


class Run:
    def __init__(self, folder, seed):
        self.folder, self.rng = folder, random.Random(seed)
        self.server = Server(folder)
        self.groups = {}  # how many members, by id; of those that were acknowledged
        self.made = self.changes = 0
        os.makedirs(self.server.marks, exist_ok=True)

    # --- what clients do ---

    def member(self, number, index, after, risk):
        tag = "g%d-" % number
        args = {"mark": tag + str(index), "needs": " ".join(tag + str(i) for i in after),
                "ms": self.rng.choice([0, 0, 0, 1, 5, 20]), "chance": risk}  # fmt: skip
        return {"task": "member", "args": args, "max_retries": self.rng.choice([0, 0, 1, 3])}

    def body(self):
        rng, number = self.rng, self.made
        self.made += 1
        large = rng.random() < LARGE
        size = LARGE_SIZE if large else rng.choice([0, 1, 2, 5, 20, 60])
        risk = rng.choice([0, 0, 2, 10])
        mode = "parallel" if large else rng.choice(["parallel", "chain", "graph"])
        members, body = [], {"fail_fast": rng.random() < 0.3, "hold": rng.random() < 0.3}
        for i in range(size):
            after = [i - 1] if mode == "chain" and i else []
            if mode == "graph":
                after = sorted(rng.sample(range(i), rng.randint(0, min(i, 3))))
            member = self.member(number, i, after, risk)
            if mode == "graph":
                member["name"] = "m%d" % i
                if after:
                    member["after"] = ["m%d" % k for k in after]
            members.append(member)
        if mode == "chain":
            body["mode"] = mode
        if body["hold"] and rng.random() < 0.3:
            body["release_by"] = "%dms" % rng.choice([20, 200])
        return size, body, members

    def make(self, client):
        size, body, members = self.body()
        if size == LARGE_SIZE:
            lines = "".join(json.dumps(line) + "\n" for line in [body] + members)
            status, text = client.ask("POST", "/groups", lines, kind="application/x-ndjson")
        else:
            status, text = client.ask("POST", "/groups", json.dumps(dict(body, invocations=members)))
        if status != 201:
            raise Violation("POST /groups: %d %s" % (status, text[:300]))
        self.groups[json.loads(text)["id"]] = size

    def change(self, client):
        """Something of a group of late: what it was is no matter, as long as it is a decent answer."""
        if not self.groups:
            return
        id = self.rng.choice(list(self.groups)[-20:])
        what = self.rng.choice(["release", "release", "close", "retry", "retry", "cancel"])
        self.changes += 1
        if what == "retry":
            status, text = client.ask("GET", "/invocations?group=%s&status=failed&status=cancelled&limit=5" % id)
            rows = json.loads(text)["items"] if status == 200 else []
            for row in rows:
                status, text = client.ask("POST", "/invocations/%s/retry" % row["id"])
        elif what != "cancel" or self.rng.random() < 0.3:
            status, text = client.ask("POST", "/groups/%s/%s" % (id, what))
        else:
            return
        if status not in (200, 202, 409):
            raise Violation("%s of %s: %d %s" % (what, id, status, text[:300]))

    def feed(self, client, until):
        while time.monotonic() < until:
            if client.unfinished() < UNFINISHED:
                self.make(client)
            self.change(client)

    # --- rounds ---

    def round(self):
        slow = self.rng.random() < SLOW
        variables = service.slow_commits(1, 60, self.rng.randrange(1 << 30)) if slow else {}
        self.server.variables = variables
        self.server.start()
        stop = self.rng.random() < CLEAN_STOPS
        service.run_for(self.server, self.rng.uniform(*ROUND_SECONDS) * (3 if slow else 1), stop, self.feed)

    def killed_at_start(self):
        self.server.variables = {}
        self.server.spawn()
        time.sleep(self.rng.uniform(0, 0.1))
        self.server.kill()

    def drain(self):
        """What is held is released; then all of them end, whatever it takes, as long as it gets on."""
        self.server.variables = {}
        self.server.start()
        client = Client(self.server.port)
        for id in self.groups:
            client.ask("POST", "/groups/%s/release" % id)
        for group in self.unknown(client):
            client.ask("POST", "/groups/%s/release" % group)
        service.await_ends(client)
        return client

    def unknown(self, client):
        """Groups whose answer was lost."""
        rows = [row for row, _ in service.list_all(client) if row["status"] == "held"]
        return {row["group"] for row in rows if row["group"]} - set(self.groups)


class Audit(Faults):
    def __init__(self, run, client):
        super().__init__(client)
        self.run = run
        self.members = collections.defaultdict(list)
        for row, _ in self.rows:
            if row["group"]:
                self.members[row["group"]].append(row)

    def check(self):
        for name in os.listdir(self.run.server.marks):
            if name.startswith("unmet-"):
                self.fault(name[6:], "ran before what it comes after had succeeded")
        for id, size in self.run.groups.items():
            if len(self.members[id]) != size:
                self.fault(id, "was acknowledged with", size, "members and has", len(self.members[id]))
        for id in set(self.members) | set(self.run.groups):
            self.check_group(id, self.members[id])

    def check_group(self, id, members):
        group = json.loads(self.client.get("/groups/%s" % id))
        counts = collections.Counter(row["status"] for row in members)
        expected = "failed" if counts["failed"] else "cancelled" if counts["cancelled"] else "succeeded"
        if group["status"] not in FINAL:
            self.fault(id, "has not ended:", group)
        elif members and group["status"] != expected:
            self.fault(id, "is", group["status"], "and its members are", dict(counts))
        if {status: n for status, n in group["counts"].items() if n} != dict(counts):
            self.fault(id, "counts", group["counts"], "and its members are", dict(counts))
        if sorted(row["index"] for row in members) != list(range(group["total"])):
            self.fault(id, "has", group["total"], "members in all, and not their indexes")

    def check_groups(self, path):
        """After a clean stop."""
        database = sqlite3.connect(path)

        def none_of(query, *words):
            (n,) = database.execute("SELECT COUNT(*) FROM " + query).fetchone()
            if n:
                self.fault(n, *words)

        none_of("groups WHERE state & 32 = 0", "groups have not ended")
        none_of("groups_making", "groups are still being made")
        none_of("follow_ups", "steps are left")
        none_of("invocations i WHERE grp IS NOT NULL AND (SELECT COUNT(*) FROM completions c WHERE c.id = i.id "
                "AND c.failed = COALESCE(i.failed, 0)) <> 1", "ends are not there once")  # fmt: skip
        none_of("holds h JOIN invocations i USING (id) WHERE i.status = 8", "are held")
        none_of("dependencies d JOIN invocations i USING (id) WHERE d.state <> 2", "dependents are final, and keep others")
        none_of("members m LEFT JOIN invocations i USING (id) WHERE i.id IS NULL", "members are not there")
        for table in ("holds", "dependencies", "member_names"):
            none_of(table + " WHERE id NOT IN (SELECT id FROM invocations)", "rows of", table, "belong to nothing")
        database.close()


def check(run, kills):
    client = run.drain()
    audit = Audit(run, client)
    audit.check()
    audit.check_counts()
    run.server.stop()
    path = os.path.join(run.folder, "errand.db")
    audit.check_groups(path)
    audit.check_file(path)
    print("%d kills, %d groups acknowledged, %d there, %d members, %d changes"
          % (kills, len(run.groups), len(audit.members), len(audit.rows), run.changes))  # fmt: skip
    audit.report()
    return not audit.faults


def main():
    folder = service.prepare("groups", "group_tasks.c", {"errand.yaml": CONFIG})
    return service.kill_and_check(folder, Run, check, KILLED_AT_START)


if __name__ == "__main__":
    sys.exit(main())
