#!/bin/bash
# Prints the lines covered, a file and a folder at a time, after a run of the coverage build.
#
#   tools/coverage.sh build/coverage
set -euo pipefail
LC_ALL=C
find "$1"/obj/base "$1"/obj/store "$1"/obj/workers "$1"/obj/server -name '*.gcno' | sort |
    xargs gcov -n 2>/dev/null | awk '
/^File / { file = $2; gsub("\047", "", file) }
/^Lines executed:/ && file ~ /^(base|store|workers|server)\/[^.]*[.]c$/ {
    split($0, part, /[:% ]+/)
    lines = part[5]
    covered = int(part[3] * lines / 100 + 0.5)
    folder = file
    sub("/.*", "", folder)
    printf "%-32s %6d of %6d %6.1f %%\n", file, covered, lines, part[3] | "sort"
    sum[folder] += lines; hit[folder] += covered
    file = ""
}
END {
    close("sort")
    n = split("base store workers server", folders, " ")
    print ""
    for (i = 1; i <= n; i++) {
        folder = folders[i]
        if (sum[folder])
            printf "%-32s %6d of %6d %6.1f %%\n", folder "/", hit[folder], sum[folder], 100 * hit[folder] / sum[folder]
        all += sum[folder]; every += hit[folder]
    }
    if (!all) { print "nothing was measured"; exit 1 }
    printf "%-32s %6d of %6d %6.1f %%\n", "all", every, all, 100 * every / all
}'
