#!/bin/bash
# sdk/test_errand.mjs, counted as tools/test.sh counts.
set -u
cd "$(dirname "$0")" || exit 1
node --test-reporter=tap sdk/test_errand.mjs >"${TMPDIR:-/tmp}/node_sdk.$$" 2>&1 </dev/null
status=$?
cat "${TMPDIR:-/tmp}/node_sdk.$$"
passed=$(sed -n 's/^# pass //p' "${TMPDIR:-/tmp}/node_sdk.$$" | tail -n 1)
rm -f "${TMPDIR:-/tmp}/node_sdk.$$"
