#!/usr/bin/env python3
"""Counts the words of a file in examples/text.

A command task: its arguments are JSON on stdin, its result is JSON on stdout
(`result: json` in errand.yaml), what it says on stderr is its log.
"""

import collections
import json
import pathlib
import re
import sys

TEXT = pathlib.Path(__file__).resolve().parent / "text"


def open_inside(name):
    """Opens a file of the folder; names come from clients and must not leave it."""
    path = (TEXT / name).resolve() if "\0" not in name else TEXT
    if TEXT not in path.parents or not path.is_file():
        sys.exit(f"there is no file {name!r} in {TEXT.name}/")
    return path.open(encoding="utf-8", errors="replace")


def main():
    args = json.load(sys.stdin)
    words = collections.Counter()
    lines = 0
    with open_inside(args["file"]) as file:
        for line in file:
            lines += 1
            words.update(re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", line.lower()))
    print(f"read {lines} lines", file=sys.stderr)
    most = sorted(words.items(), key=lambda item: (-item[1], item[0]))[: max(0, args["top"])]
    json.dump(
        {"file": args["file"], "lines": lines, "words": words.total(), "different": len(words), "top": dict(most)},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
