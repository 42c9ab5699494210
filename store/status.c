#include "store/status.h"

#define TO(status) STATUS_BIT(status)

static const struct {
    enum status status;
    const char *name;
    unsigned may_become;
} table[] = {
    {STATUS_HELD, "held",
     TO(STATUS_HELD) | TO(STATUS_SCHEDULED) | TO(STATUS_QUEUED) | TO(STATUS_FAILED) | TO(STATUS_CANCELLED)},
    {STATUS_SCHEDULED, "scheduled",
     TO(STATUS_SCHEDULED) | TO(STATUS_QUEUED) | TO(STATUS_FAILED) | TO(STATUS_CANCELLED)},
    {STATUS_QUEUED, "queued",
     TO(STATUS_SCHEDULED) | TO(STATUS_QUEUED) | TO(STATUS_RUNNING) | TO(STATUS_SUCCEEDED) | TO(STATUS_FAILED) |
         TO(STATUS_CANCELLED)}, /* succeeded: a start and its end in one write */
    {STATUS_RUNNING, "running",
     TO(STATUS_SCHEDULED) | TO(STATUS_QUEUED) | TO(STATUS_WAITING) | TO(STATUS_SUCCEEDED) | TO(STATUS_FAILED) |
         TO(STATUS_CANCELLED)},
    {STATUS_WAITING, "waiting",
     TO(STATUS_SCHEDULED) | TO(STATUS_QUEUED) | TO(STATUS_RUNNING) | TO(STATUS_SUCCEEDED) | TO(STATUS_FAILED) |
         TO(STATUS_CANCELLED)},
    {STATUS_SUCCEEDED, "succeeded", 0},
    {STATUS_FAILED, "failed", TO(STATUS_QUEUED) | TO(STATUS_HELD)},
    {STATUS_CANCELLED, "cancelled", TO(STATUS_QUEUED) | TO(STATUS_HELD)},
};

enum { COUNT = sizeof table / sizeof *table };

const char *status_name(enum status status)
{
    for (int i = 0; i < COUNT; i++)
        if (table[i].status == status)
            return table[i].name;
    return NULL;
}

bool status_parse(struct span text, enum status *status)
{
    for (int i = 0; i < COUNT; i++)
        if (span_is(text, table[i].name)) {
            *status = table[i].status;
            return true;
        }
    return false;
}

bool status_may_become(enum status from, enum status to)
{
    for (int i = 0; i < COUNT; i++)
        if (table[i].status == from)
            return (table[i].may_become & TO(to)) != 0;
    return false;
}

enum status status_at(int k)
{
    return k >= 0 && k < COUNT ? table[k].status : 0;
}
