#!/bin/bash
# Proves that includes point one way: from room to room, among headers without
# a circle, and in base/ and server/ also among files, a file being its .c and
# its .h together; and that each outside library has one home.
#
#   tools/layers.sh [FOLDER]     a tree like this one; here, unless given
set -euo pipefail
LC_ALL=C
cd "${1:-$(dirname "$0")/..}"

find base store workers server tests examples tools -name '*.[ch]' 2>/dev/null | sort |
    xargs -r grep -nHE '^[[:space:]]*#[[:space:]]*include' | awk '
BEGIN {
    # room: what it may include; a folder without a line of its own belongs to the one above it
    below["base"] = "base"
    below["store"] = "base store"
    below["workers/sdk"] = "workers/sdk"
    below["workers/tasks"] = "base workers/tasks"
    below["workers/kinds"] = "base workers/tasks workers/kinds workers/sdk workers/transfers workers/journal.h"
    below["workers/transfers"] = "base workers/transfers"
    below["workers/callbacks"] = "base store workers/transfers workers/callbacks workers/kinds/attempt.h"
    below["workers/queue"] = "base store workers/tasks workers/queue"
    below["workers"] = "base store workers"
    below["server/config"] = "base workers server/config"
    below["server/http"] = "base store server/config server/http"
    below["server/resources"] = "base store workers server/config server/http server/resources"
    below["server"] = "base store workers server/config server/http server/resources server"
    below["server/cli"] = "base store workers server/config server/http server/resources server server/cli"
    # header: where alone it may be included, as an anchored pattern of files
    home["store/internal.h"] = "(tests/)?store/.*|tests/bench/store_.*"
    home["store/reader.h"] = home["store/tx.h"] = home["store/transition.h"] = "(tests/)?store/.*|tests/sim/model_.*"
    home["store/follow_up.h"] = "(tests/)?store/.*"
    home["store/followers.h"] = "store/(followers|transition|transition_insert|transition_replace)[.]c"
    home["workers/kinds/kinds.h"] = "workers/kinds/kinds[.]c|workers/[^/]*|(server|tests)/.*"
    home["server/http/internal.h"] = "server/http/.*"
    library["microhttpd.h"] = "server/http/[a-z_]*[.][ch]"
    library["sqlite3.h"] = "store/drivers/sqlite[.]c"
    library["libpq-fe.h"] = "store/drivers/postgres[.]c"
    library["yaml.h"] = "base/yaml[.]c"
    library["pcre2.h"] = "workers/tasks/bounds[.]c"
    library["nettle/"] = "base/digest[.]c"
    library["dlfcn.h"] = "workers/kinds/native(_module)?[.]c|server/http/own_pages[.]c"
    home["workers/transfers/transfer.h"] = "workers/transfers/.*|workers/kinds/http/.*"
    home["store/callback.h"] = "(tests/)?store/.*"
    library["curl/"] = "workers/(kinds/http|transfers)/.*|server/cli/client[a-z_]*[.]c"
}
function fault(text) {
    print place ": " text
    faults++
}
# The innermost of the rooms above that the file is in, "" if in none.
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
# The kind that has the file for itself, "" if it is for all: kinds/NAME.c, .h, NAME_*.c, .h or kinds/NAME/.
function kind_of(path) {
    if (!sub("^workers/kinds/", "", path))
        return ""
    sub("[._/].*", "", path)
    return path ~ "^(kinds?|attempt|failure|pool|program)$" ? "" : path
}
# The file without its ending. What is internal to several files is no file of its own here.
function whole(path) {
    sub(/[.][ch]$/, "", path)
    return path ~ /internal$/ ? "" : path
}
function arrow(from, to) {
    if (from == to || !from || !to || (from, to) in where)
        return
    where[from, to] = place
    includes[from] = includes[from] " " to
    if (!(from in state))
        nodes[++node_count] = from
    state[from] = ""
}
# Walks from a file along its includes; a file met on its own way closes a circle.
function walk(node, way,    i, n, next_nodes) {
    state[node] = "on the way"
    n = split(includes[node], next_nodes, " ")
    for (i = 1; i <= n; i++) {
        if (state[next_nodes[i]] == "on the way") {
            place = where[node, next_nodes[i]]
            fault("closes a circle: " substr(way " " node, index(way " " node " ", " " next_nodes[i] " ") + 1) " " next_nodes[i])
        } else if (state[next_nodes[i]] == "") {
            walk(next_nodes[i], way " " node)
        }
    }
    state[node] = "done"
}
{
    split($0, part, ":")
    file = part[1]
    place = part[1] ":" part[2]
    room = room_of(file)
    checked++
    if (match($0, /"[^"]*"/)) {
        header = substr($0, RSTART + 1, RLENGTH - 2)
        if (room && header !~ "/")
            fault("include by path, not \"" header "\"")
        else if (room && !may_include(room, header))
            fault(room "/ must not include \"" header "\"")
        if (room && kind_of(header) != "" && kind_of(header) != kind_of(file))
            fault("\"" header "\" is for the kind " kind_of(header) " only")
        if (header in home && file !~ "^(" home[header] ")$")
            fault("\"" header "\" is for " home[header] " only")
        if (room && file ~ /[.]h$/)
            arrow(file, header)
        if (room ~ "^(base|server)")
            arrow(whole(file), whole(header))
    } else if (room && match($0, /<[^>]*>/)) {
        header = substr($0, RSTART + 1, RLENGTH - 2)
        for (name in library)
            if ((header == name || (name ~ "/$" && index(header, name) == 1)) && file !~ "^(" library[name] ")$")
                fault("<" header "> is for " library[name] " only")
    }
}
END {
    for (k = 1; k <= node_count; k++)
        if (state[nodes[k]] == "")
            walk(nodes[k], "")
    if (!checked)
        fault("no includes found: wrong folder?")
    else if (!faults)
        print checked " includes, all in order and without a circle"
    exit faults > 0
}'

# Every lock stands in the one table of them, with its file.
faults=0
while IFS=: read -r file line declaration; do
    name=${declaration#pthread_mutex_t }
    name=${name%%[ ;]*}
    grep -qF "| \`$name\` | \`$file\` |" docs/house.md || {
        echo "$file:$line: the lock $name is not in docs/house.md"
        faults=1
    }
done < <(grep -rnoE 'pthread_mutex_t [a-z_]+( =|;)' --include='*.[ch]' base store workers server)
while read -r name file; do
    grep -qE "pthread_mutex_t $name( =|;)" "$file" 2>/dev/null || {
        echo "docs/house.md: there is no lock $name in $file"
        faults=1
    }
done < <(sed -n '/^| lock |/,$s/^| `\([a-z_]*\)` | `\([^`]*\)` |.*/\1 \2/p' docs/house.md)
exit $faults
