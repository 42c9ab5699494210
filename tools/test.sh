#!/bin/bash
# Runs suites of tests and ends with the line "N passed, N failed".
#
#   [FILTER=PATTERN] [N=12] tools/test.sh BUILD SUITE...
#
# BUILD is build or build/VARIANT: what is tested is BUILD/errand (ERRAND_BIN). Suites:
#   unit, store   BUILD/tests/SUITE, Criterion programs
#   e2e           build/tests/e2e, a Criterion program that drives ERRAND_BIN
#   sim           BUILD/tests/sim, and the same with `compare`: a test each; STEPS=1000000 SEED=1
#   scripts       tests/e2e/test_*.sh and test_*.py, and what else is executable there: a test each
#   fuzz          BUILD/tests/replay_NAME over tests/fuzz/corpus/NAME: a test each
#   stress        BUILD/tests/store_bench stress 10, for TSan: a test
#   crash, slow   tests/crash/crash.py N, tests/crash/slow.py N: a test each
#   leases        tests/crash/leases.py for 20 s: a test
#   steps         tests/crash/steps.py N: a test
#   workflows     tests/crash/workflows.py N: a test
#   pools         tests/crash/pools.py N: a test
#   groups        tests/crash/groups.py N: a test
#   loops         tests/crash/loops.py N: a test
# A script may end with such a line itself; it is then added in place of its exit status.
#
# Failed is also: a suite that ran no test or did not finish, a program that exits with an error though its
# tests passed, and any report of a sanitizer (which Criterion does not notice).
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
limit=${TIMEOUT:-900}
passed=0
failed=0

export ERRAND_BIN=$PWD/$build/errand
export ERRAND_VARIANT=${build#build} # "", "/asan", ...: tests of speed and size keep out of variants
ERRAND_VARIANT=${ERRAND_VARIANT#/}
out=$build/tests/out
reports=$PWD/$build/reports
rm -rf "$reports" "$out"
mkdir -p "$reports" "$out"
# SIGSEGV and the like stay the program's own: it has a handler, and tests that use it.
export ASAN_OPTIONS=log_path=$reports/asan:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=log_path=$reports/tsan:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0
plainly=()
[ "$ERRAND_VARIANT" != tsan ] || plainly=(setarch -R) # its shadow memory wants fixed addresses

say() {
    printf '%-28s %s\n' "$1" "$2"
}

add() { # NAME PASSED FAILED OUTPUT
    passed=$((passed + $2))
    failed=$((failed + $3))
    if [ "$3" -gt 0 ]; then
        tail -n 300 "$4"
        say "$1" "FAILED ($2 passed, $3 failed; all its output: $4)"
    else
        say "$1" "$2 passed"
    fi
}

# Output goes to files: through a pipe, a process left behind would keep us waiting.
criterion() { # NAME PROGRAM
    local file=$out/$1 ok=0 bad=0 status=0
    : >"$file"
    if compgen -G "tests/$1/*.c" >/dev/null; then
        "${plainly[@]}" timeout -k 10 "$limit" "$2" ${FILTER:+--filter "$FILTER"} >"$file" 2>&1 </dev/null || status=$?
        if [[ $(grep -a 'Synthesis: Tested:' "$file" | tail -n 1) =~ Tested:\ ([0-9]+).*Passing:\ ([0-9]+) ]]; then
            ok=${BASH_REMATCH[2]}
            bad=$((BASH_REMATCH[1] - ok))
        else
            echo "$2 did not finish: exit status $status" >>"$file"
            bad=1
        fi
        if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
            echo "$2: exit status $status" >>"$file"
            bad=1
        fi
    fi
    if [ "$((ok + bad))" -eq 0 ] && [ -z "${FILTER-}" ]; then
        echo "$1 ran no test" >>"$file"
        bad=1
    fi
    add "$1" "$ok" "$bad" "$file"
}

command_test() { # NAME COMMAND...
    local name=$1 file=$out/${1//\//_} ok=0 bad=0 status=0
    shift
    "${plainly[@]}" timeout -k 10 "$limit" "$@" >"$file" 2>&1 </dev/null || status=$?
    if [[ $(tail -n 1 "$file") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
        ok=${BASH_REMATCH[1]}
        bad=${BASH_REMATCH[2]}
    elif [ "$status" -eq 0 ]; then
        ok=1
    fi
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$ok" -eq 0 ]; }; then
        echo "exit status $status" >>"$file"
        bad=1
    fi
    add "$name" "$ok" "$bad" "$file"
}

none() { # NAME
    echo "$1 ran no test" >"$out/$1"
    add "$1" 0 1 "$out/$1"
}

scripts() {
    local some='' file
    for file in tests/e2e/*; do
        case ${file##*/} in
        test_*.sh) command_test "$file" bash "$file" ;;
        test_*.py) command_test "$file" python3 "$file" ;;
        *.sh | *.py) [ -x "$file" ] || continue; command_test "$file" "$file" ;;
        *) continue ;;
        esac
        some=1
    done
    [ -n "$some" ] || none scripts
}

fuzz() {
    local some='' file name corpus
    for file in tests/fuzz/fuzz_*.c; do
        name=${file##*/fuzz_}
        name=${name%.c}
        corpus=tests/fuzz/corpus/$name
        command_test "replay of $corpus" "$build/tests/replay_$name" "$corpus"
        some=1
    done
    [ -n "$some" ] || none fuzz
}

sim() {
    local steps=${STEPS:-1000000} seed=${SEED:-1} file=$out/sim ok=0 status=0
    "$build/tests/sim" "$steps" "$seed" >"$file" 2>&1 </dev/null && ok=$((ok + 1)) || status=$?
    "$build/tests/sim" compare $((steps / 300)) "$seed" >>"$file" 2>&1 </dev/null && ok=$((ok + 1)) || status=$?
    [ "$status" -eq 0 ] || echo "exit status $status" >>"$file"
    add sim "$ok" $((2 - ok)) "$file"
}

for suite; do
    case $suite in
    unit | store) criterion "$suite" "$build/tests/$suite" ;;
    sim) [ -n "${FILTER-}" ] || sim ;;
    e2e) criterion e2e build/tests/e2e ;;
    scripts) [ -n "${FILTER-}" ] || scripts ;;
    fuzz) [ -n "${FILTER-}" ] || fuzz ;;
    stress) [ -n "${FILTER-}" ] || command_test stress "$build/tests/store_bench" stress 10 ;;
    leases) [ -n "${FILTER-}" ] || command_test leases python3 tests/crash/leases.py 20 ;;
    crash | slow | steps | workflows | pools | groups | loops) [ -n "${FILTER-}" ] || command_test "$suite" python3 "tests/crash/$suite.py" "${N:-12}" ;;
    *) echo "no such suite: $suite" >&2; exit 2 ;;
    esac
done

for report in "$reports"/*; do
    grep -qv 'was not suspended. False leaks are possible' "$report" 2>/dev/null || continue # no report: a note
    add "report of a sanitizer" 0 1 "$report"
done
[ "$passed" -gt 0 ] || [ "$failed" -gt 0 ] || failed=1

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
