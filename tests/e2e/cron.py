#!/usr/bin/python3
"""/schedules/preview against croniter, over random expressions, start times and zones.

    cron.py [EXPRESSIONS [SEED]]

croniter says what a calendar on the wall would do, and Python's zoneinfo when a wall shows that. croniter is not asked
for times in a zone, because it goes wrong there: version 1.3.5 stays for ever at a time that the clock skips, and is an
hour late the day after one that comes twice. What is to happen then is stated here, by `moments()`, from design:

    hours as `*` or `*/N`       each minute that the wall shows, as often as it does
    a wall time that is skipped at the first moment after the gap; with gap=skip not at all
    one that comes twice        the first, the last or both, as fold says

Other differences: croniter does not find the first of March from February, knows no `?`, writes the last Friday L5, and takes backward ranges (none are made here).
This is Debian's Python (the line above), for whom make deps installs python3-croniter.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import urllib.parse
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from croniter import croniter

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
TIMES = 6
UTC = timezone.utc
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()


# --- what is asked ---------------------------------------------------------------

def name(rng, value, names, first):
    return rng.choice([str.upper, str.lower])(names[value - first]) if names and rng.random() < 0.3 else str(value)


def item(rng, low, high, names):
    start = rng.randint(low, high)
    kind = rng.random()
    if kind < 0.5:
        return name(rng, start, names, low) if not names or start - low < len(names) else str(start)
    if kind < 0.75:
        return "%d-%d" % (start, rng.randint(start, high))
    if kind < 0.9:
        return "%d-%d/%d" % (start, rng.randint(start, high), rng.randint(1, max(1, (high - low) // 3)))
    return "%d/%d" % (start, rng.randint(1, max(1, (high - low) // 2)))


def field(rng, low, high, star, names=None):
    kind = rng.random()
    if kind < star:
        return rng.choice("**?")
    if kind < star + 0.15:
        return "*/%d" % rng.randint(2, max(2, (high - low) // 2))
    return ",".join(item(rng, low, high, names) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def special(rng, fields):
    kind = rng.random()
    if kind < 0.04:
        fields[2] = "L"
    elif kind < 0.08:
        fields[2], fields[4] = "*", "%d#%d" % (rng.randint(0, 6), rng.randint(1, 4))
    elif kind < 0.12:
        fields[2], fields[4] = "*", "%dL" % rng.randint(0, 6)


def expression(rng):
    fields = [field(rng, 0, 59, 0.2), field(rng, 0, 23, 0.3), field(rng, 1, 31, 0.6),
              field(rng, 1, 12, 0.6, MONTHS), field(rng, 0, 7, 0.6, DAYS)]
    if rng.random() < 0.3:
        fields[1] = str(rng.randint(1, 3))  # where the clocks change
    special(rng, fields)
    return " ".join(fields)


def change_near(rng, zone):
    """A moment within two days before one at which the offset changes."""
    day = datetime(rng.randint(2000, 2090), rng.randint(1, 12), rng.randint(1, 28), tzinfo=UTC)
    while day.astimezone(zone).utcoffset() == (day + timedelta(days=1)).astimezone(zone).utcoffset():
        day += timedelta(days=1)
    return day - timedelta(seconds=rng.randint(0, 2 * 86400))


def moment(rng, zone):
    if rng.random() < 0.5:
        return change_near(rng, zone)
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randint(0, 90 * 365 * 86400))


# --- what is expected --------------------------------------------------------------

def shows(zone, utc):
    return utc.astimezone(zone).replace(tzinfo=None)


def gap_end(zone, low, high):
    """The first moment of a stretch, within [low, high]."""
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def moments(wall, zone, real_time, gap, fold):
    """When a schedule is due that says this time on the wall; and not before when a later one is."""
    both = [(wall - wall.replace(tzinfo=zone, fold=f).utcoffset()).replace(tzinfo=UTC) for f in (0, 1)]
    seen = sorted({utc for utc in both if shows(zone, utc) == wall})
    if not seen:
        end = gap_end(zone, min(both) - timedelta(hours=1), max(both) + timedelta(hours=1))
        return ([end] if not real_time and gap == "shift" else []), end
    if real_time or fold == "both":
        return seen, seen[0]
    return [seen[0] if fold == "first" else seen[-1]], seen[0]


def for_croniter(expr):
    fields = expr.replace("?", "*").split()
    if fields[4].endswith("L"):
        fields[4] = "L" + fields[4][:-1]
    return " ".join(fields)


def walls(expr, at):
    """From February it does not find the first of March: so it begins anew there."""
    while True:
        march = datetime(at.year, 3, 1)
        found = croniter(expr, at, max_years_between_matches=60).get_next(datetime)
        if at < march < found and croniter.match(expr, march):
            found = march
        elif at.month == 2 and march < found:
            found = croniter(expr, march, max_years_between_matches=60).get_next(datetime)
        at = found
        yield at


def expected(expr, zone, after, gap, fold):
    real_time = all(part.startswith(("*", "?")) for part in expr.split()[1].split(","))
    found = set()
    for wall in walls(for_croniter(expr), shows(zone, after) - timedelta(hours=3)):
        due, earliest = moments(wall, zone, real_time, gap, fold)
        found.update(utc for utc in due if utc > after)
        if len(found) > TIMES and earliest > sorted(found)[TIMES - 1]:
            return sorted(found)[:TIMES]


# --- comparing ------------------------------------------------------------------------

def compare(ask, count, seed):
    rng = random.Random(seed)
    failed = skipped = 0
    for _ in range(count):
        expr, name_of_zone = expression(rng), rng.choice(ZONES)
        zone = ZoneInfo(name_of_zone)
        after, gap, fold = moment(rng, zone), rng.choice(["shift", "skip"]), rng.choice(["first", "last", "both"])
        try:
            want = expected(expr, zone, after, gap, fold)
        except Exception as fault:  # it never comes, or croniter will not have it
            want = None
            skipped += 1
        have = ask(expr, name_of_zone, after, TIMES, gap, fold)
        if want is None:
            if have and "never" not in str(have) and len(have) == TIMES and skipped > count // 20:
                print("too many that croniter refuses, as", expr)
                failed += 1
            continue
        if have != want:
            failed += 1
            print(expr, name_of_zone, after.isoformat(), gap, fold)
            print("  have", have if isinstance(have, str) else [t.isoformat() for t in have])
            print("  want", [t.isoformat() for t in want])
            if failed > 20:
                break
    print("%d expressions, seed %d: %d that croniter refuses" % (count, seed, skipped))
    return count - skipped - failed, failed


# --- the server --------------------------------------------------------------------------

class Preview:
    """What a server says, on one connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, expr, zone, after, count, gap, fold):
        query = urllib.parse.urlencode({"cron": expr, "timezone": zone, "after": after.isoformat(), "count": count,
                                        "dst.gap": gap, "dst.fold": fold})
        self.connection.request("GET", "/schedules/preview?" + query)
        reply = self.connection.getresponse()
        said = json.loads(reply.read())
        if reply.status != 200:
            return said["detail"]
        assert said["words"], expr
        return [datetime.fromisoformat(time.replace("Z", "+00:00")) for time in said["items"]]


def main(count=10000, seed=1):
    binary = os.path.abspath(os.environ.get("ERRAND_BIN") or "build/errand")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "log"), "w") as log:
            server = subprocess.Popen([binary, "serve", "--listen", "127.0.0.1:0", "--store", ":memory:"], cwd=folder,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            port = int(server.stdout.readline().rpartition(":")[2])
            passed, failed = compare(Preview(port), int(count), int(seed))
        finally:
            server.terminate()
            status = server.wait(30)
    if status != 0:
        print("the server ended with", status)
        failed += 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
