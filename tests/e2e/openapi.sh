#!/bin/bash
# openapi.yaml and the server say the same: every route of server/routes.c is
# documented and the reverse, and what the server answers in the end-to-end
# tests has the documented statuses, types and shapes; and what the schemas
# allow of requests it takes, what they forbid it refuses.
set -euo pipefail
cd "$(dirname "$0")/../.."

documented() {
    awk '/^paths:/ { on = 1; next } /^[a-z]/ { on = 0 }
         on && /^  \// { path = $1; sub(/:$/, "", path) }
         on && /^    (get|post|put|patch|delete):/ { method = toupper($1); sub(/:$/, "", method); print method, path }' openapi.yaml | sort
}

routed() {
    grep -oE 'METHOD_[A-Z]+, *"[^"]+"' server/routes.c | sed -E 's/METHOD_([A-Z]+), *"(.*)"/\1 \2/' | sort
}

[ "$(routed | wc -l)" -gt 20 ] || { echo "server/routes.c is not read rightly"; exit 1; }
if ! diff <(routed) <(documented); then
    echo "server/routes.c (<) and openapi.yaml (>) differ"
    exit 1
fi
echo "$(routed | wc -l) routes, all documented"

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "SKIPPED: node and npm are not here, so no answer was validated"
    exit 0
fi
modules=build/tests/node
mkdir -p "$modules"
if ! cmp -s tests/e2e/node/package-lock.json "$modules/package-lock.json" || [ ! -d "$modules/node_modules/ajv" ]; then
    cp tests/e2e/node/package.json tests/e2e/node/package-lock.json "$modules"
    if ! (cd "$modules" && npm ci --silent --no-audit --no-fund --ignore-scripts); then
        rm -f "$modules/package-lock.json"
        echo "SKIPPED: npm could not install ajv, so no answer was validated"
        exit 0
    fi
fi

record=$PWD/build/tests/record.ndjson
rm -f "$record"
[ -x build/tests/e2e ] || make --no-print-directory build/tests/e2e
# Whether the tests pass is their own matter; here only what was said counts.
ERRAND_RECORD=$record timeout 600 build/tests/e2e --filter '@(submit|read|alter|auth|streams|leases|turns|wait_url|suspend|messages|children|groups|holds|callbacks|schedules|loops|sets|unique|cache|deadline|search|history)/*' >build/tests/record.log 2>&1 ||
    echo "(some of the recorded tests failed)"
NODE_PATH=$modules/node_modules node tests/e2e/node/validate.cjs openapi.yaml "$record"
NODE_PATH=$modules/node_modules node tests/e2e/node/agree.cjs openapi.yaml "${ERRAND_BIN:-build/errand}"
