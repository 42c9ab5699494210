/* Inside the reading of a group: what group_submission.c (fields, members) and
 * group_graph.c (who comes after whom) share. */
#pragma once

#include "workers/group_submission.h"

/* What a member says of itself in its graph; absent: nothing. */
struct group_member {
    struct span name;  /* the JSON string */
    struct span after; /* the array */
};

struct group_reading {
    struct group_read *read; /* whose it is */
    struct submission_context context;
    struct span body;
    bool lines;
    int64_t member_bytes;
    enum { READING_HEAD, READING_MEMBERS, READING_GRAPH, READING_REFERENCES, READING_OVER } stage;

    const struct task *task;  /* of all members; NULL: each has its own */
    struct submission common; /* what is said of all members beside it */
    bool mode_given;

    const char *at;               /* of lines: where the next one begins */
    int line;                     /* its number, from 1 */
    struct json_iter it;          /* of a document: its members */
    int cap;                      /* of items and members */
    struct group_member *members; /* NULL: none says anything */
    struct group_member *saying;  /* the one that is being read */
    bool has_graph;               /* there are names, or members after members */

    /* What the items point into. */
    struct buf key, texts, names, common_args, scratch, pointer;
    int *member_pool;
    int64_t *id_pool;

    struct group_shared *shared; /* NULL: nothing is shared */

    int next; /* in READING_REFERENCES: the next member */
    struct group_name *by_name;
    struct group_name *name_pool;
    int *mark; /* mark[j] == i + 1: i comes after j */
};

/* group_head.c: reads them, and where the members stand in a document. */
void group_head_read(struct group_reading *reading, struct span text);

/* The task that a JSON value names; NULL: there is none. */
const struct task *group_reading_task(struct group_reading *reading, struct span name);

/* A fault in member `index`: its own pointers begin there. Releases them. */
void group_reading_faults(struct group_reading *reading, int index, struct faults *faults);
void group_reading_fault(struct group_reading *reading, int index, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* group_shared.c: what is shared, of which compose_check_common() has said that it may be. Does it fit
 * that task? Those references in it that the member does not cover go to `each`. */
struct reference;
typedef bool group_shared_each(void *of, const struct reference *reference);
void group_shared_read(struct group_reading *reading, struct span common);
void group_shared_check_task(struct group_reading *reading, const struct task *task);
void group_shared_check_references(struct group_reading *reading, int index, group_shared_each *each, void *of);
void group_shared_release(struct group_reading *reading);

/* Names and `after`, made what the store takes. */
void group_graph_resolve(struct group_reading *reading);

/* Are the references in its arguments to those it comes after? */
void group_graph_check_references(struct group_reading *reading, int index);
void group_graph_release(struct group_reading *reading);
