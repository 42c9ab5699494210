#!/bin/bash
# sdk/test_errand.mjs, counted as tools/test.sh counts.
set -u
cd "$(dirname "$0")" || exit 1
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
node --test-reporter=tap sdk/test_errand.mjs >"$output" 2>&1 </dev/null || status=$?
cat "$output"
passed=$(sed -n 's/^# pass //p' "$output")
failed=$(awk '/^# (fail|cancelled) / { n += $3 } END { print n + 0 }' "$output")
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "${passed:-0} passed, $failed failed"
exit "$status"
