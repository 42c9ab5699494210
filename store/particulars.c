#include "store/particulars.h"

#include "store/submit.h"

#include <stdlib.h>

struct particulars *particulars_new(void)
{
    return xcalloc(1, sizeof(struct particulars));
}

void particulars_free(struct particulars *particulars)
{
    if (!particulars)
        return;
    buf_release(&particulars->argument_text);
    buf_release(&particulars->first.text);
    buf_release(&particulars->cached.result);
    free(particulars);
}

void submission_release(struct submission *s)
{
    particulars_free(s->particulars);
    s->particulars = NULL;
    free((void *)s->after);
    s->after = NULL;
    s->after_count = 0;
}
