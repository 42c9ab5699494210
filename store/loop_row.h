/* Inside the store: a loop as those who write it see it. */
#pragma once

#include "store/loop.h"
#include "store/tx.h"

/* Bits of a loop's flags. On disk: they never change. */
enum {
    LOOP_ARGS_OUTSIDE = 1,
    LOOP_RESULT_OUTSIDE = 2,
    LOOP_INBOX = 4,   /* it has had messages */
    LOOP_PATCHED = 8, /* its arguments hold for the next iteration, whatever the current one gives */
};

/* Spans live until the listeners of the batch have returned. */
struct loop {
    int64_t id;
    enum loop_status status;
    int task;
    enum loop_next next;
    bool continues;
    int priority, max_retries;
    int64_t retention_ms, delay_ms, timeout_ms, max_iterations;
    struct span labels, args, result;
    unsigned flags;
    int64_t iteration, invocation; /* 0: none is made */
    int64_t inbox_read;
    struct span error;
    int64_t finished_at;
    int64_t set;              /* 0: none */
    int64_t slot, slot_since; /* -1: none */
    int64_t ticket, due_at;   /* 0: none */
};

MUST_USE enum err loop_read(struct tx *tx, int64_t id, struct loop *out); /* ERR_NOT_FOUND */
MUST_USE enum err loop_find(struct db *db, struct loop_ref ref, int64_t *id);

/* What each iteration changes; and the rest, which indexes know. */
MUST_USE enum err loop_write_turn(struct tx *tx, const struct loop *loop);
MUST_USE enum err loop_write_state(struct tx *tx, const struct loop *loop);

/* The arguments of the next iteration, wherever they stand; and others in their place. */
MUST_USE enum err loop_args(struct tx *tx, const struct loop *loop, struct span *out);
MUST_USE enum err loop_set_args(struct tx *tx, struct loop *loop, struct span args);
MUST_USE enum err loop_set_result(struct tx *tx, struct loop *loop, struct span result);

/* Tells those who listen that something of it has changed. */
struct change *loop_note(struct tx *tx, const struct loop *loop);
