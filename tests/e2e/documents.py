#!/usr/bin/env python3
"""Every example of README.md and docs/*.md works: their ```sh blocks are run
against a server that serves the examples as `make run` does, and their answers
are those of the blocks that follow. Ids, times and what depends on the moment
are placeholders; a block that says `# examples/FILE:` at its start is that file; ```c, ```yaml, ```bash, ```python and
```js blocks are files that those find beside them, all of one language in one file, unless they say `# FILE:` or
`# examples/FILE:` at their start (`//` in place of `#` in js); ```console blocks are for people and are not run."""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
ERRAND = os.path.realpath(os.environ.get("ERRAND_BIN") or os.path.join(ROOT, "build", "errand"))
ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{13}\b")
PATH = re.compile(r"/\S*/(?=errand\.yaml)")
FILES = {"c": "greet.c", "yaml": "errand.yaml", "bash": "worker.sh", "python": "tasks.py", "js": "tasks.mjs"}
NAMED = re.compile(r"(?:#!.*\n)?(?:#|//) (?:examples/)?([\w.]+):")
TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def blocks(text):
    """(language, text) of every fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)


def settled(text):
    return PATH.sub("FOLDER/", TIME.sub("TIME", ID.sub("ID", text)))


def same(kind, wanted, got):
    wanted, got = settled(wanted), settled(got)
    if kind == "json":
        try:
            return json.loads(wanted) == json.loads(got)
        except ValueError:
            return False
    return wanted == got


def start(folder):
    process = subprocess.Popen(
        [ERRAND, "serve", "--config", os.path.join(ROOT, "examples", "errand.yaml"),
         "--store", os.path.join(folder, "errand.db"), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=open(os.path.join(folder, "log"), "w"), text=True, cwd=folder)
    line = process.stdout.readline()
    port = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
    if not port:
        sys.exit("the server did not start: " + open(os.path.join(folder, "log")).read())
    return process, port.group(1)


def run(document):
    """How many examples of the document worked, and how many did not."""
    passed = failed = 0
    whole = open(document).read()
    found = blocks(whole)
    name = os.path.relpath(document, ROOT)
    if re.search(r"\$ERRAND\b", whole) and "export ERRAND=" not in whole:
        print("%s uses $ERRAND, and does not say what that is" % name)
        failed += 1
    for _, text in found:
        example = re.match(r"(?:#!.*\n)?(?:#|//) (examples/\S+):", text)
        if example and open(os.path.join(ROOT, example.group(1))).read() != text:
            print("%s does not have %s as it is" % (name, example.group(1)))
            failed += 1
    with tempfile.TemporaryDirectory() as folder:
        for language, text in found:
            if language in FILES:
                name_of_block = NAMED.match(text)
                with open(os.path.join(folder, name_of_block.group(1) if name_of_block else FILES[language]), "a") as file:
                    file.write(text)
        process, port = start(folder)
        last_id = "0" * 13
        environment = dict(os.environ, ERRAND=ROOT)
        environment.pop("ERRAND_CONFIG", None)
        try:
            for index, (language, text) in enumerate(found):
                if language != "sh":
                    continue
                script = ID.sub(last_id, text.replace("127.0.0.1:8080", "127.0.0.1:" + port))
                script = script.replace('"$ERRAND/build/errand"', '"%s"' % ERRAND)
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment,
                                      capture_output=True, text=True, timeout=120)
                ids = ID.findall(done.stdout)
                last_id = ids[0] if ids else last_id
                kind, wanted = found[index + 1] if index + 1 < len(found) else ("", "")
                good = done.returncode == 0 and (kind not in ("json", "text") or same(kind, wanted, done.stdout))
                passed, failed = passed + good, failed + (not good)
                if not good:
                    print("%s:\n%s\nexit status %d\n%s%s\ninstead of\n%s" %
                          (name, text, done.returncode, done.stdout, done.stderr, wanted))
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    if status != 0:
        print("%s: the server ended with %d" % (name, status))
        failed += 1
    for path in re.findall(r"\]\(([^)#:]+)\)", whole):
        if not os.path.exists(os.path.join(os.path.dirname(document), path)):
            print("%s points to %s, which is not there" % (name, path))
            failed += 1
    return passed, failed


def main():
    documents = [os.path.join(ROOT, "README.md")] + sorted(glob.glob(os.path.join(ROOT, "docs", "*.md")))
    counts = [run(document) for document in documents]
    passed, failed = sum(count[0] for count in counts), sum(count[1] for count in counts)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
