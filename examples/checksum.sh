#!/bin/sh
# Size and checksum of a file in examples/text. A command task: stdout is the
# result as text, an exit code other than 0 is a failure of type exit:N.
set -eu

# The name comes from a client and must not leave the folder.
case ${1:-} in
'' | */* | .*)
    echo "\`${1:-}' is not the name of a file in text/" >&2
    exit 2
    ;;
esac

file=$(dirname "$0")/text/$1
if [ ! -f "$file" ] || [ -L "$file" ]; then
    echo "there is no file $1 in text/" >&2
    exit 3
fi
size=$(wc -c <"$file")
sum=$(sha256sum <"$file")
printf '%d bytes, sha256 %s' "$size" "${sum%% *}"
