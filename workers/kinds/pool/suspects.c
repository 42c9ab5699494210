/* Who was in a child that died with several in it, and runs alone next. */
#include "workers/kinds/pool/internal.h"

#include <stdlib.h>

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

enum { SUSPECTS_MAX = 10000 };

struct suspect {
    int64_t id;
    UT_hash_handle hh;
};

static struct suspect *suspects; /* the oldest first */

static void forget(struct suspect *suspect)
{
    HASH_DELETE(hh, suspects, suspect);
    free(suspect);
}

void suspects_add(int64_t id)
{
    struct suspect *suspect;
    HASH_FIND(hh, suspects, &id, sizeof id, suspect);
    if (suspect)
        return;
    if (HASH_COUNT(suspects) >= SUSPECTS_MAX) /* the oldest was cancelled, most likely */
        forget(suspects);
    suspect = xcalloc(1, sizeof *suspect);
    suspect->id = id;
    HASH_ADD(hh, suspects, id, sizeof suspect->id, suspect);
}

bool suspects_take(int64_t id)
{
    struct suspect *suspect;
    HASH_FIND(hh, suspects, &id, sizeof id, suspect);
    if (!suspect)
        return false;
    forget(suspect);
    return true;
}

void suspects_forget(void)
{
    struct suspect *suspect, *next;
    HASH_ITER (hh, suspects, suspect, next)
        forget(suspect);
}
