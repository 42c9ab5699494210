#!/bin/bash
# Installs the Debian packages that are missing. Quick and without the network when all are there.
#
#   tools/deps.sh build|run|test|coverage|fuzz|bench|lint|all...
set -euo pipefail

# group, what must be there, the package that brings it
needs='
build cmd:cc gcc
build header:stdio.h libc6-dev
build cmd:pkg-config pkg-config
build lib:libmicrohttpd libmicrohttpd-dev
build lib:libcjson libcjson-dev
build lib:sqlite3 libsqlite3-dev
build lib:yaml-0.1 libyaml-dev
build lib:nettle nettle-dev
build lib:libpcre2-8 libpcre2-dev
build lib:libcurl libcurl4-gnutls-dev
build header:uthash.h uthash-dev
run cmd:python3 python3
run cmd:curl curl
run cmd:jq jq
run file:/usr/share/zoneinfo/Europe/Berlin tzdata
test lib:criterion libcriterion-dev
test cmd:curl curl
test cmd:jq jq
test cmd:python3 python3
test cmd:openssl openssl
test cmd:setarch util-linux
test cmd:node nodejs
test file:/usr/share/zoneinfo/Europe/Berlin tzdata
test file:/usr/lib/python3/dist-packages/croniter/__init__.py python3-croniter
coverage cmd:gcov gcc
bench cmd:wrk wrk
bench cmd:curl curl
bench cmd:python3 python3
fuzz cmd:clang clang
fuzz file:/usr/lib/llvm-14/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a libclang-rt-14-dev
lint cmd:clang-format-14 clang-format-14
lint cmd:clang-tidy clang-tidy
lint cmd:shellcheck shellcheck
lint cmd:mandoc mandoc
lint cmd:systemd-analyze systemd
lint cmd:node nodejs
lint cmd:npm npm
'

there() {
    case $1 in
    cmd:*) command -v "${1#*:}" ;;
    lib:*) pkg-config --exists "${1#*:}" ;;
    header:*) echo "#include <${1#*:}>" | cc -E -x c - ;;
    file:*) compgen -G "${1#*:}" ;;
    esac >/dev/null 2>&1
}

packages=()
while read -r group what package; do
    [[ " $* " == *" $group "* || " $* " == *" all "* ]] || continue
    there "$what" || packages+=("$package")
done < <(sed '/^$/d' <<<"$needs")
[ ${#packages[@]} -gt 0 ] || exit 0

echo "installing ${packages[*]}"
command -v apt-get >/dev/null || { echo "no apt-get here: install these, or what brings the same, by hand" >&2; exit 1; }
root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "run as root: apt-get install ${packages[*]}" >&2; exit 1; }
    root=(sudo)
fi
# apt says nothing unless it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    "$@" </dev/null >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}
quietly "${root[@]}" apt-get update -qq
quietly "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}"
