#!/bin/bash
# What is not C's compiler to find: openapi.yaml, the man page, the unit file, the scripts, and a few
# habits of C that clang-tidy knows. Says every fault; exit status 1 if there is any.
set -u
cd "$(dirname "$0")/.." || exit 1
build=build/lint
mkdir -p "$build"
faults=0

step() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$build/$name.log" 2>&1; then
        printf '%-12s ok\n' "$name"
    else
        tail -n 200 "$build/$name.log"
        printf '%-12s FAILED\n' "$name"
        faults=$((faults + 1))
    fi
}

# Redocly as tools/node/package-lock.json pins it, installed again when that changes.
openapi() {
    if ! cmp -s tools/node/package-lock.json build/node/installed; then
        rm -rf build/node
        mkdir -p build/node
        cp tools/node/package.json tools/node/package-lock.json build/node/
        (cd build/node && npm ci --ignore-scripts --no-audit --no-fund) || return 1
        cp tools/node/package-lock.json build/node/installed
    fi
    REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
        build/node/node_modules/.bin/redocly lint --config .redocly.yaml openapi.yaml
}

# Every function of a native task stands in it, and every key of the configuration with its default.
man_page() {
    local name lacks=0
    mandoc -Tlint -W warning errand.1 || return 1
    while read -r name; do
        grep -q "^\.It Fn $name " errand.1 || { echo "errand.1 lacks: .It Fn $name"; lacks=1; }
    done < <(sed -n 's/^\(static inline .*[ *]\)\?\(errand_[a-z0-9_]*\)(struct errand_call.*/\2/p' \
        workers/sdk/errand_task.h)
    [ "$lacks" -eq 0 ] || return 1
    build/errand check --defaults >"$build/defaults" || return 1
    sed 's/\\(dq/"/g; s/\\&//g' errand.1 | awk '
        NR == FNR { if ($1 == ".It" && $2 == "Ic") page[$3] = page[$3] "\n" $0 "\n"; next }
        { sub(/  *# .*/, "") }
        match($0, /^(# *| *)[a-z_]+:/) {
            optional = /^#/
            sub(/^[# ]*/, "")
            key = value = $0
            sub(/:.*/, "", key)
            sub(/^[^:]*: */, "", value)
            line = ".It Ic " key (value != "" && !optional ? " : Cm " value : "")
            if (index(page[key], "\n" line (optional || value == "" ? "" : "\n")) == 0) {
                print "errand.1 lacks: " line
                missing++
            }
        }
        END { exit missing > 0 }' - "$build/defaults"
}

# systemd-analyze exits 0 on unknown keys: any output is a fault. The program must be there, so that
# another stands in for it.
unit_file() {
    ln -sf /bin/true "$build/errand"
    sed "s|@BINDIR@|$PWD/$build|" contrib/errand.service >"$build/errand.service"
    local said
    said=$(systemd-analyze --man=no verify "$build/errand.service" 2>&1) || said="$said (failed)"
    [ -z "$said" ] || { echo "$said"; return 1; }
}

scripts() {
    # shellcheck disable=SC2046
    shellcheck -x tools/*.sh .ci/run $(find tests examples contrib -name '*.sh')
}

# The checks are in .clang-tidy.
c_habits() {
    # shellcheck disable=SC2016
    find base store workers server -name '*.c' | sort | xargs -P 2 -n 8 sh -c \
        'clang-tidy --quiet "$@" -- -std=gnu11 -D_GNU_SOURCE -I. 2>/dev/null' sh
}

node_major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$node_major" -ge 20 ]; then
    step openapi openapi
else
    echo "openapi      left out: Redocly needs Node.js 20, here is $node_major"
fi
step man_page man_page
step unit_file unit_file
step scripts scripts
step c_habits c_habits
[ "$faults" -eq 0 ]
