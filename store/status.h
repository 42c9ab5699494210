/* The states of an invocation, and which may become which: one table.
 *
 * The numbers are on disk and in the partial indexes; they never change. SQL
 * texts name them: SQL_QUEUED is the number as text. */
#pragma once

#include "base/buf.h"

#define STATUS_NUMBER_SCHEDULED 1
#define STATUS_NUMBER_QUEUED 2
#define STATUS_NUMBER_RUNNING 3
#define STATUS_NUMBER_WAITING 4
#define STATUS_NUMBER_SUCCEEDED 5
#define STATUS_NUMBER_FAILED 6
#define STATUS_NUMBER_CANCELLED 7
#define STATUS_NUMBER_HELD 8

#define SQL_NUMBER(number) SQL_NUMBER_TEXT(number)
#define SQL_NUMBER_TEXT(number) #number
#define SQL_SCHEDULED SQL_NUMBER(STATUS_NUMBER_SCHEDULED)
#define SQL_QUEUED SQL_NUMBER(STATUS_NUMBER_QUEUED)
#define SQL_RUNNING SQL_NUMBER(STATUS_NUMBER_RUNNING)
#define SQL_WAITING SQL_NUMBER(STATUS_NUMBER_WAITING)
#define SQL_SUCCEEDED SQL_NUMBER(STATUS_NUMBER_SUCCEEDED)
#define SQL_FAILED SQL_NUMBER(STATUS_NUMBER_FAILED)
#define SQL_CANCELLED SQL_NUMBER(STATUS_NUMBER_CANCELLED)
#define SQL_HELD SQL_NUMBER(STATUS_NUMBER_HELD)
#define SQL_FINALS SQL_SUCCEEDED ", " SQL_FAILED ", " SQL_CANCELLED

enum status {
    STATUS_SCHEDULED = STATUS_NUMBER_SCHEDULED, /* eligible at run_at */
    STATUS_QUEUED = STATUS_NUMBER_QUEUED,       /* eligible now */
    STATUS_RUNNING = STATUS_NUMBER_RUNNING,     /* a turn is in progress, under a lease */
    STATUS_WAITING = STATUS_NUMBER_WAITING,     /* for others' results, a message or a time; holds no slot */
    STATUS_SUCCEEDED = STATUS_NUMBER_SUCCEEDED, /* final, as are the two that follow */
    STATUS_FAILED = STATUS_NUMBER_FAILED,
    STATUS_CANCELLED = STATUS_NUMBER_CANCELLED,
    STATUS_HELD = STATUS_NUMBER_HELD, /* not eligible until something releases it */
};

enum { STATUS_SLOTS = 9 /* one past the highest, for arrays */ };

/* Sets of them: bits 1 << status. */
#define STATUS_BIT(status) (1u << (status))
enum {
    STATUS_ANY = (1 << STATUS_SLOTS) - 1,
    STATUS_FINALS = 1 << STATUS_SUCCEEDED | 1 << STATUS_FAILED | 1 << STATUS_CANCELLED,
};

/* "scheduled", ...; NULL for a number that is no status or that nothing has yet. */
const char *status_name(enum status status);
bool status_parse(struct span text, enum status *status);

/* May an invocation go from one to the other? From final states only a retry
 * leads out, to queued. */
bool status_may_become(enum status from, enum status to);

static inline bool status_is_final(enum status status)
{
    return (STATUS_FINALS & STATUS_BIT(status)) != 0;
}

/* Is a turn under way, whether it waits or not? */
#define SQL_IN_TURN "IN (" SQL_RUNNING ", " SQL_WAITING ")"
static inline bool status_in_turn(enum status status)
{
    return status == STATUS_RUNNING || status == STATUS_WAITING;
}

/* The k-th status in the order above, 0 when k is past the last: for loops. */
enum status status_at(int k);
