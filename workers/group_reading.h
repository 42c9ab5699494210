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

/* Names and `after`, made what the store takes. */
void group_graph_resolve(struct group_reading *reading);

/* Are the references in its arguments to those it comes after? */
void group_graph_check_references(struct group_reading *reading, int index);
void group_graph_release(struct group_reading *reading);
