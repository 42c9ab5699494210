#!/bin/sh
# Serves the examples from build/run; `make run` builds first.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build/run
cat <<'HINT'
Submit a task from another terminal:

    curl --json '{"task": "add", "args": {"x": 1, "y": 2}}' 'http://127.0.0.1:8080/tasks'

HINT
exec build/errand serve --config examples/errand.yaml --store "$PWD/build/run/errand.db"
