#!/bin/bash
# A short storm of mutated requests at the build under test; tests/fuzz/storm.sh
# has the long one.
set -euo pipefail
cd "$(dirname "$0")/../.."
export ERRAND_BIN=${ERRAND_BIN:-$PWD/build/errand}
exec tests/fuzz/storm.sh "${REQUESTS:-20000}"
