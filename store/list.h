/* Reading many: filters and keyset pages. */
#pragma once

#include "store/loop.h"
#include "store/read.h"
#include "store/submit.h"

enum { FILTER_ARGUMENTS_MAX = 8 };

struct filter {
    unsigned statuses;  /* bits 1 << enum status; 0: any */
    int task;           /* 0: any; -1: none can match */
    struct span worker; /* absent: any */
    struct span error;  /* a type, or a prefix and `*`; absent: any */
    struct span label_names[LABELS_MAX], label_values[LABELS_MAX];
    int label_count;
    struct span key_owner, key;
    struct span arg_paths[FILTER_ARGUMENTS_MAX], arg_values[FILTER_ARGUMENTS_MAX]; /* texts of scalars */
    int arg_count;
    int arg_indexed; /* one past that of them which the task has an index of; 0: it has of none */
    /* Has such an invocation, with these arguments as they were sent, the others? NULL without arguments. */
    bool (*args_match)(const struct filter *filter, int task, struct span args);
    const void *args_context;
    int64_t parent;                        /* whose children; 0: any */
    int64_t group;                         /* whose members; 0: any */
    struct loop_ref loop;                  /* whose iterations; zeros: any */
    int64_t created_after, created_before; /* both exclusive; 0: any */
};

struct list_query {
    struct filter filter;
    bool oldest_first;
    int64_t cursor; /* ids after this one in the order; 0: from the start */
    int limit;
    enum view view;
    int64_t scan_until_us; /* clock_mono_us at which an unindexed scan gives up; 0: never */
};

/* Return false to stop: the row is not counted as given. */
typedef bool (*row_fn)(void *context, const struct invocation *row);

/* Walks the rows of a page in order. *next is the cursor of the next page, 0
 * if there is none; a page may be short, even empty, and not the last. */
MUST_USE enum err reader_list(struct reader *reader, const struct list_query *query, row_fn row, void *context,
                              int64_t *next);

/* Is the query surely short (served in order by an index)? Otherwise it
 * belongs on a reader thread. */
bool filter_is_indexed(const struct filter *filter);
