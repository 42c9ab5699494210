#!/usr/bin/env python3
"""Measures build/errand against what this machine can do, in the same run.

    tests/bench/run.py [--quick] [NAME...]

Prints a line each: figure, ceiling, their ratio, the aim, and whether it is reached. Nothing fails for being slow:
the exit status is 0 unless something broke. --quick takes three minutes at most and makes smaller databases. NAMEs
pick lines: submit run bulk idle commands pools http_tasks leases children groups steps loops suspend on_disk memory backlog dashboards binary."""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import harness  # noqa: E402
import lines  # noqa: E402


def main():
    names = [line.__name__ for line in lines.ALL]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    if not set(options.names) <= set(names):
        parser.error("lines are: " + " ".join(names))
    if not os.path.exists(harness.ERRAND):
        sys.exit("there is no %s: make" % harness.ERRAND)
    harness.compile_programs()
    began, broken = time.monotonic(), []
    print("%d processors, load %.1f %.1f %.1f" % (os.cpu_count(), *os.getloadavg()))
    report = harness.Report()
    for line in lines.ALL:
        if options.names and line.__name__ not in options.names:
            continue
        try:
            line(report, options.quick)
        except (harness.Broken, OSError) as error:
            broken.append(line.__name__)
            print("%s broke: %s" % (line.__name__, error), flush=True)
        harness.end_all()
    print("%d of %d aims reached in %.0f s, load %.1f%s"
          % (report.lines - report.below, report.lines, time.monotonic() - began, os.getloadavg()[0],
             "; broke: " + ", ".join(broken) if broken else ""))  # fmt: skip
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
