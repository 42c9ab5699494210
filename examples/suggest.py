#!/usr/bin/env python3
# examples/suggest.py: words like one that is not there. The texts are read once a child, not once an invocation.
import difflib
import pathlib
import re

from errand import serve, task

TEXTS = (pathlib.Path(__file__).resolve().parent / "text").glob("*.txt")
WORDS = {word for path in TEXTS for word in re.findall("[a-z]+", path.read_text().lower())}


@task
def suggest(word: str) -> list:
    return difflib.get_close_matches(word.lower(), sorted(WORDS))


serve()
