#!/bin/bash
# examples/purchase.sh: charge, ask, sleep until somebody answers or three days are over, ship.
set -euo pipefail
say() { curl -fsS --retry 9 --retry-all-errors --json "$2" "${@:3}" "$ERRAND_LEASE_URL/$1"; }
step() { # NAME COMMAND...: its output, recorded once; a later turn gets it and runs nothing
    curl -fsS "$ERRAND_LEASE_URL/steps" | jq -er --arg name "$1" '.items[] | select(.name == $name).value' ||
        say "steps/$1" "$("${@:2}" | jq -Rs '{value: rtrimstr("\n")}')" -X PUT | jq -r .value
}
number=$(jq .number)
receipt=$(step charge echo "card charged for order $number")
if [ -z "${ERRAND_WOKEN-}" ]; then
    say messages "{\"ask\": \"ship order $number?\"}"
    say suspend '{"on": {"inbox": true, "until": "3d"}}' # ends this turn: no process is left
elif [ "$(jq '.messages[0].body.approved' <<<"$ERRAND_WOKEN")" = true ]; then
    step ship echo "$receipt, order $number shipped"
else
    step refund echo "$receipt, and refunded"
fi
