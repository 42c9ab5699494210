/* Inside what bodies ask that have no thread here: one request on its way, between asked.c,
 * which sends and answers it, and those that know what it is about.
 *
 *     asked.c           the way of a request: said, put off, said again, answered
 *     asked_record.c    what is put on record, and children
 *     asked_group.c     groups of children
 *     asked_waits.c     waiting for others, and for messages
 *
 * Threads: a request is read on the thread that asks, and is from then on whoever's has it: the
 * committer's, or the starter's. */
#pragma once

#include "base/json.h"
#include "store/message.h"
#include "store/read.h"
#include "store/step.h"
#include "workers/group_submission.h"
#include "workers/runner_internal.h"
#include "workers/submission.h"
#include "workers/suspension.h"
#include "workers/waits.h"

struct asked_call {
    struct question *question;
    struct run *run;
    struct asked_call *next; /* in one of the starter's lists */
    int64_t due_us;
    void (*act)(struct asked_call *call, struct reader *reader); /* on the starter's thread */
    int mark;                                                    /* patient_mark() when it was said */
    bool again;                                                  /* it was said before, and may be on disk */
    struct buf arena, text;
    union {
        struct op op;
        struct op_step step;
        struct op_message_out message;
        struct op_suspend suspend;
        struct op_submit submit;
        struct op_group making;
    };
    struct span name, value; /* of a step; the value is a message's, too */
    struct submission submission;
    struct group_read *group; /* that is submitted; NULL: none is */
    struct suspension_read suspension;
    struct wait_ask wait;
    enum { MODE_ALL, MODE_ANY } mode;
    int64_t *ids; /* that are waited for */
    int count;
    int64_t id;         /* of one that is looked at */
    int64_t after_seq;  /* of the inbox */
    int64_t timeout_ms; /* -1: none */
    int64_t until_us;   /* when that is over */
    bool last;          /* look at the inbox, and no more */
    bool waits;         /* it is the run's waiter */
};

/* --- asked.c ---------------------------------------------------------------------- */

/* Each ends the call, which is freed. */
void asked_answer(struct asked_call *call);
void asked_refuse(struct asked_call *call, const char *word, const char *why);
void asked_stopped(struct asked_call *call);
void asked_refuse_id(struct asked_call *call, enum err err, int64_t bad);

/* Of what was written, or could not be; `limit` says what of. */
void asked_refuse_write(struct asked_call *call, enum err err, const char *limit);

/* The starter does it as soon as it can; or in a second. */
void asked_give_starter(struct asked_call *call, void (*act)(struct asked_call *call, struct reader *reader));
void asked_give_starter_locked(struct asked_call *call); /* call->act */
void asked_give_starter_later(struct asked_call *call,
                              void (*act)(struct asked_call *call, struct reader *reader));

/* Nobody waits for it any more, or the disk is not waited for. */
bool asked_gives_up(struct asked_call *call);

/* Queues call->op; and what its done() says: it is said again later (true), or that was the answer. */
void asked_say(struct asked_call *call);
bool asked_put_off(struct asked_call *call, enum err err);
bool asked_put_off_reading(struct asked_call *call, enum err err);

/* The disk takes nothing, or the claim, which met a fault, was not on it. */
bool asked_is_refused_for_now(struct asked_call *call, enum err err);

/* Reads the request's own members into the call. False: it was refused. */
bool asked_read(struct asked_call *call, const struct key *fields);
bool asked_settle_faults(struct asked_call *call, struct faults *faults);
void asked_read_id(const struct keys_json *in, const struct keys_place *at, struct span value, void *target);
void asked_ignore(const struct keys_json *in, const struct keys_place *at, struct span value, void *target);

#define ASKED_IGNORED(word)                                        \
    {                                                              \
        .name = word, .type = KEY_OTHER, .read_json = asked_ignore \
    }
#define ASKED_WRAPPING ASKED_IGNORED("type"), ASKED_IGNORED("run"), ASKED_IGNORED("seq")

/* --- asked_record.c ----------------------------------------------------------------- */

void asked_step(struct asked_call *call);
void asked_steps(struct asked_call *call);
void asked_message(struct asked_call *call);
void asked_submit(struct asked_call *call);
void asked_look(struct asked_call *call);
void asked_suspend(struct asked_call *call);

/* --- asked_group.c -------------------------------------------------------------------- */

void asked_group(struct asked_call *call);

/* --- asked_waits.c -------------------------------------------------------------------- */

void asked_wait(struct asked_call *call);
void asked_inbox(struct asked_call *call);
