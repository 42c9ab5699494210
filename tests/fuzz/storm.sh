#!/bin/bash
# A storm of mutated requests at a live server, which must answer or refuse
# them all, stay alive, stop cleanly, leak nothing and leave no sanitizer report.
#
#   [ERRAND_BIN=FILE] tests/fuzz/storm.sh [REQUESTS=20000 [SEED]]
#
# Without ERRAND_BIN it is build/asan/errand, built if needed. OPEN=1: a server
# without tokens. Sessions that found a fault are left in build/fuzz/found/storm.
set -euo pipefail
cd "$(dirname "$0")/../.."
requests=${1:-20000}
seed=${2:-$RANDOM$RANDOM}

if [ -z "${ERRAND_BIN-}" ]; then
    make -s VARIANT=asan build/asan/errand
    ERRAND_BIN=$PWD/build/asan/errand
fi
make -s build/tests/storm build/examples/tasks.so

found=$PWD/build/fuzz/found/storm
folder=$(mktemp -d)
server=
# shellcheck disable=SC2317 # the trap calls it
stop() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap stop EXIT
mkdir -p "$found"

digest() {
    printf %s "$1" | sha256sum | cut -d' ' -f1
}

tokens=()
{
    if [ -z "${OPEN-}" ]; then
        tokens=(storm storm-admin)
        echo "tokens:"
        echo "  - {name: storm, sha256: $(digest storm), scopes: [read, submit, work]}"
        echo "  - {name: admin, sha256: $(digest storm-admin), scopes: [admin]}"
    fi
    cat <<END
listen: 127.0.0.1:0
store: ":memory:"
slots: 4
log: {level: warn}
retain_max: 1000
shutdown_timeout: 3s
kill_grace: 1s
hosts: [storm.example]
cors: {origins: ["https://app.example"]}
limits: {request_timeout: 5s, idle_timeout: 10s, result: 64KiB, log: 64KiB}
defaults: {backoff: {initial: 5ms, max: 50ms}}
tasks:
  noop: {kind: native, module: $PWD/build/examples/tasks.so}
  echo: {kind: native, module: $PWD/build/examples/tasks.so}
  add: {kind: native, module: $PWD/build/examples/tasks.so, params: {x: integer, y: {type: integer, default: 1}}}
  flaky: {kind: native, module: $PWD/build/examples/tasks.so, max_retries: 3}
  nap: {kind: native, module: $PWD/build/examples/tasks.so, function: sleep_task, params: {seconds: number}, timeout: 50ms}
  full: {kind: native, module: $PWD/build/examples/tasks.so, function: noop, max_queued: 2}
  far: {kind: remote, max_retries: 2, timeout: 2s}
  cat: {kind: command, run: [cat], timeout: 2s}
  say: {kind: command, run: [echo, "{text}"], params: {text: string}, timeout: 2s}
END
} >"$folder/errand.yaml"

plainly=()
[[ $ERRAND_BIN != */tsan/* ]] || plainly=(setarch -R)
native=handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0
ASAN_OPTIONS=log_path=$folder/asan:quarantine_size_mb=16:$native \
    UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=log_path=$folder/tsan:$native \
    "${plainly[@]}" "$ERRAND_BIN" serve --config "$folder/errand.yaml" >"$folder/out" 2>"$folder/log" </dev/null &
server=$!
for _ in $(seq 300); do
    url=$(sed -n 's/^listening on //p' "$folder/out")
    if [ -n "$url" ] || ! kill -0 "$server" 2>/dev/null; then break; fi
    sleep 0.1
done

rss() {
    awk '/^VmRSS/ { print $2 }' "/proc/$server/status" 2>/dev/null || echo 0
}
open_files() {
    find "/proc/$server/fd" 2>/dev/null | wc -l
}

status=0
fail() {
    echo "FAILED: $*"
    status=1
}

storm() {
    STORM_FOUND=$found build/tests/storm "$url" "$1" "$2" "${tokens[@]}" || fail "the storm found faults (seed $2)"
}

# A tenth warms it up, then its memory may hardly grow (but that of ThreadSanitizer itself does).
echo "seed $seed"
storm $((requests / 10)) "$seed"
before=$(rss)
files=$(open_files)
storm $((requests - requests / 10)) "$((seed + 1))"
after=$(rss)
echo "memory: $before kB after a tenth, $after kB at the end; open files: $files, $(open_files)"
if [ "$requests" -ge 200000 ] && [[ $ERRAND_BIN != */tsan/* ]] && [ "$after" -gt $((before * 5 / 4 + 16384)) ]; then
    fail "memory grew from $before kB to $after kB"
fi

kill -TERM "$server" 2>/dev/null || fail "the server is gone"
for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
kill -0 "$server" 2>/dev/null && fail "it did not stop within 30 s"
code=0
kill -9 "$server" 2>/dev/null || true
wait "$server" || code=$?
server=
[ "$code" -eq 0 ] || fail "the server's exit status is $code"
for report in "$folder"/asan* "$folder"/tsan*; do
    [ -s "$report" ] || continue
    grep -qv 'was not suspended. False leaks are possible' "$report" || continue
    cat "$report"
    cp "$report" "$found"
    fail "a sanitizer's report, kept in $found"
done
if [ -s "$folder/log" ]; then
    echo "its log, by kind:"
    sed -E 's/^[^ ]+ //; s/[0-9]+/N/g' "$folder/log" | cut -c1-160 | sort | uniq -c | sort -rn | head -n 20
    [ "$status" -eq 0 ] || cp "$folder/log" "$found/log"
fi
exit $status
