#include "workers/kinds/kinds.h"

/* A line a kind. KIND(native) stands for `const struct kind native_kind`. */
#define KINDS     \
    KIND(native)  \
    KIND(command) \
    KIND(process) \
    KIND(http)    \
    KIND(remote)

#define KIND(name) extern const struct kind name##_kind;
KINDS
#undef KIND

#define KIND(name) &name##_kind,
const struct kind *const kinds[] = {KINDS NULL};
_Static_assert(sizeof kinds / sizeof *kinds <= KINDS_MAX + 1, "more kinds than others have room for");

void kinds_end(void)
{
    for (const struct kind *const *kind = kinds; *kind; kind++)
        if ((*kind)->end)
            (*kind)->end();
}
