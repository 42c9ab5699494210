#!/bin/bash
# Runs libFuzzer targets for a while; the corpora grow in build/fuzz/corpus, not in the repository.
#
#   TIME=60 [RUNS=N] tools/fuzz.sh FOLDER [NAME...]
set -u
cd "$(dirname "$0")/.." || exit 1
folder=$1
shift
names=("$@")
[ $# -gt 0 ] || mapfile -t names < <(ls "$folder")
passed=0
failed=0
# A crash must be seen as one: the targets are built with -fno-sanitize-recover.
export UBSAN_OPTIONS=print_stacktrace=1

for name in "${names[@]}"; do
    seeds=tests/fuzz/corpus/$name
    corpus=build/fuzz/corpus/$name
    found=build/fuzz/found/$name
    log=build/fuzz/$name.log
    mkdir -p "$corpus" "$found"
    options=(-print_final_stats=1 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$found/")
    if [ -n "${RUNS-}" ]; then options+=(-runs="$RUNS"); else options+=(-max_total_time="${TIME:-60}"); fi
    [ ! -e "tests/fuzz/$name.dict" ] || options+=(-dict="tests/fuzz/$name.dict")
    folders=("$corpus")
    [ ! -d "$seeds" ] || folders+=("$seeds")
    if "$folder/$name" "${options[@]}" "${folders[@]}" >"$log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        printf '%-20s %s inputs tried\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    else
        failed=$((failed + 1))
        tail -n 60 "$log"
        printf '%-20s FAILED, its input is in %s\n' "$name" "$found"
    fi
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
