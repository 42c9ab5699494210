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
    # folder: what it may include
    below["base"] = "base"
    below["store"] = "base store"
    below["workers"] = "base store workers"
    below["server"] = "base store workers server"
    # header: where alone it may be included, as an anchored pattern of files
    home["store/internal.h"] = "(tests/)?store/.*|tests/bench/store_.*"
    home["store/reader.h"] = "(tests/)?store/.*"
    library["microhttpd.h"] = "server/http/[a-z_]*[.][ch]"
    library["sqlite3.h"] = "store/db_sqlite[.]c"
    library["libpq-fe.h"] = "store/db_postgres[.]c"
    library["yaml.h"] = "base/yaml[.]c"
    library["nettle/"] = "base/digest[.]c"
    library["dlfcn.h"] = "workers/native[.]c"
    library["curl/"] = "workers/http[a-z_]*[.]c|server/cli/client[a-z_]*[.]c"
}
function fault(text) {
    print place ": " text
    faults++
}
{
    split($0, part, ":")
    file = part[1]
    place = part[1] ":" part[2]
    folder = file
    sub("/.*", "", folder)
    ours = folder in below
    checked++
    if (match($0, /"[^"]*"/)) {
        header = substr($0, RSTART + 1, RLENGTH - 2)
        if (ours && header !~ "/")
            fault("include by path, not \"" header "\"")
        else if (ours) {
            target = header
            sub("/.*", "", target)
            if (index(" " below[folder] " ", " " target " ") == 0)
                fault(folder "/ must not include \"" header "\"")
        }
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
