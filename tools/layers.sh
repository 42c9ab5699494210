#!/bin/bash
# Proves that includes point one way and that each outside library has one home.
#
#   tools/layers.sh [FOLDER]     a tree like this one; here, unless given
set -euo pipefail
LC_ALL=C
cd "${1:-$(dirname "$0")/..}"

find base store workers server tests examples tools -name '*.[ch]' 2>/dev/null | sort |
    xargs -r grep -nHE '^[[:space:]]*#[[:space:]]*include' | awk '
BEGIN {
    # folder, or a room in it with a rule of its own: what it may include
    below["base"] = "base"
    below["store"] = "base store"
    below["workers/sdk"] = "workers/sdk"
    below["workers/tasks"] = "base workers/tasks"
    below["workers/kinds"] = "base workers/tasks workers/kinds workers/sdk workers/journal.h"
    below["workers"] = "base store workers"
    below["server"] = "base store workers server"
    # header: where alone it may be included, as an anchored pattern of files
    home["store/internal.h"] = "(tests/)?store/.*|tests/bench/store_.*"
    home["store/reader.h"] = home["store/tx.h"] = home["store/transition.h"] = "(tests/)?store/.*"
    home["store/follow_up.h"] = "(tests/)?store/.*"
    home["workers/kinds/kinds.h"] = "workers/kinds/kinds[.]c|workers/[^/]*|(server|tests)/.*"
    library["microhttpd.h"] = "server/http[a-z_]*[.][ch]"
    library["sqlite3.h"] = "store/drivers/sqlite[.]c"
    library["libpq-fe.h"] = "store/drivers/postgres[.]c"
    library["yaml.h"] = "base/yaml[.]c"
    library["nettle/"] = "base/digest[.]c"
    library["dlfcn.h"] = "workers/kinds/native[.]c"
    library["curl/"] = "workers/kinds/http([.]|/).*|server/client[a-z_]*[.]c"
}
function fault(text) {
    print place ": " text
    faults++
}
# The innermost of the folders above that the file is in, "" if in none.
function room_of(path) {
    while (sub("/[^/]*$", "", path))
        if (path in below)
            return path
    return ""
}
function may_include(room, header,    part, n, i) {
    n = split(below[room], part, " ")
    for (i = 1; i <= n; i++)
        if (header == part[i] || index(header, part[i] "/") == 1)
            return 1
    return 0
}
# The kind that has the file for itself, "" if it is for all: kinds/NAME.c, .h or kinds/NAME/.
function kind_of(path) {
    if (!sub("^workers/kinds/", "", path))
        return ""
    sub("[./].*", "", path)
    return path ~ "^(kinds?|attempt)$" ? "" : path
}
{
    split($0, part, ":")
    file = part[1]
    place = part[1] ":" part[2]
    room = room_of(file)
    ours = room != ""
    checked++
    if (match($0, /"[^"]*"/)) {
        header = substr($0, RSTART + 1, RLENGTH - 2)
        if (ours && header !~ "/")
            fault("include by path, not \"" header "\"")
        else if (ours && !may_include(room, header))
            fault(room "/ must not include \"" header "\"")
        if (ours && kind_of(header) != "" && kind_of(header) != kind_of(file))
            fault("\"" header "\" is for the kind " kind_of(header) " only")
        if (header in home && file !~ "^(" home[header] ")$")
            fault("\"" header "\" is for " home[header] " only")
    } else if (ours && match($0, /<[^>]*>/)) {
        header = substr($0, RSTART + 1, RLENGTH - 2)
        for (name in library)
            if ((header == name || (name ~ "/$" && index(header, name) == 1)) && file !~ "^(" library[name] ")$")
                fault("<" header "> is for " library[name] " only")
    }
}
END {
    if (!checked)
        fault("no includes found: wrong folder?")
    else if (!faults)
        print checked " includes, all in order"
    exit faults > 0
}'
