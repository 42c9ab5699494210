#!/bin/sh
# Writes a generated C file, and only if its text changes, so that nothing is compiled for nothing.
#
#   tools/embed.sh migrations OUT FILE.sql...     texts, in the order given
#   tools/embed.sh assets OUT NAME=FILE...        bytes
#   tools/embed.sh version OUT                    from VERSION and git
set -eu
LC_ALL=C
export LC_ALL

migrations() {
    [ $# -gt 0 ] || { echo "store/sql holds no migration" >&2; exit 1; }
    echo '#include "store/migrations.h"'
    echo
    echo 'const char *const migrations[] = {'
    number=1
    for file; do
        case ${file##*/} in
        "$(printf %03d $number)"_*.sql) ;;
        *) echo "$file: expected a name that begins with $(printf %03d $number)_" >&2; exit 1 ;;
        esac
        sed 's/[\\"]/\\&/g; s/^/    "/; s/$/\\n"/; $s/$/,/' "$file"
        number=$((number + 1))
    done
    echo '};'
    echo "const int migrations_count = $#;"
}

assets() {
    echo '#include "server/resources/assets.h"'
    for pair; do
        name=${pair%%=*}
        file=${pair#*=}
        [ -s "$file" ] || { echo "$file is missing" >&2; exit 1; }
        echo
        echo "const unsigned char asset_${name}[] = {"
        od -An -v -tu1 "$file" | sed 's/  */,/g; s/^,//; s/$/,/'
        echo '};'
        echo "const size_t asset_${name}_size = sizeof asset_$name;"
    done
}

# The commit is that of this folder's own repository, not of one around it.
version() {
    commit=${ERRAND_COMMIT-}
    [ -n "$commit" ] || commit=$(GIT_OPTIONAL_LOCKS=0 GIT_CEILING_DIRECTORIES=$(dirname "$PWD") \
        git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null) || commit=unknown
    echo '#include "server/resources/version.h"'
    echo
    echo "const char errand_version[] = \"$(cat VERSION)\";"
    echo "const char errand_commit[] = \"$commit\";"
}

what=$1
out=$2
shift 2
trap 'rm -f "$out.$$"' EXIT
"$what" "$@" >"$out.$$"
if ! cmp -s "$out.$$" "$out"; then
    mv "$out.$$" "$out"
fi
