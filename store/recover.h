/* What was running when the last process died. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct store;

/* What the last process was running when it died, from the turn journal. */
struct casualty {
    int64_t id;
    int64_t lease;      /* of the turn that died */
    int attempt;        /* its number */
    int64_t started_at; /* 0: not known */
    bool pays;          /* the death was its doing, or it ran alone at an unexplained one */
    bool bystander;     /* the death was another's doing: it counts nothing */
    bool refused;       /* its claim was: the row is not of that turn */
    bool marked;        /* it was its doing: */
    int signal;         /* by this; 0: by exit(); -1: not known how */
    struct span log;    /* what it had logged last, to stderr, and the store never got */
};

/* Whoever failed too often becomes `worker_crashed`; asked once a casualty that
 * pays. Returns its max_recoveries. */
typedef int (*recoveries_fn)(void *context, int task);

/* Before store_start: what was running under this server is queued again at
 * once; other servers' turns are theirs. Casualties that pay spend
 * max_recoveries and fail as `worker_crashed` beyond it; the others, but for
 * bystanders, count an unexplained death (struct ready: suspect). Who is marked is
 * logged; what is left of logs is stored. */
MUST_USE enum err store_recover(struct store *store, const struct casualty *casualties, int count,
                                recoveries_fn max_recoveries, void *context);

/* For a disk that does not take writes at the start: store_recover(), or a new
 * task's number, was ERR_UNAVAILABLE. Readers are served meanwhile; `recover` is
 * called before each batch, with the committer's role, and until it is OK nothing
 * is committed. It tries both again. Before store_start. */
void store_recover_first(struct store *store, enum err (*recover)(void *context), void *context);
