/* Outcomes and faults, one enum for the whole program.
 *
 * OK is 0. Outcomes are the caller's to handle and are not logged. Faults
 * (ERR_DB, ERR_IO, ERR_UNAVAILABLE) are logged once, where they arise, and
 * passed up unchanged. Detail for a person is an out-parameter, never
 * thread-local: a parked request changes threads. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

enum err {
    OK = 0,
    /* outcomes */
    ERR_NOT_FOUND, /* no such thing */
    ERR_CONFLICT,  /* its state does not allow the change */
    ERR_INVALID,   /* the input is wrong */
    ERR_LIMIT,     /* the input is larger than a limit */
    ERR_BUSY,      /* taken by someone else */
    ERR_MISMATCH,  /* an idempotency key came again with another body */
    /* faults */
    ERR_UNAVAILABLE, /* not committed, or not known to be: try again */
    ERR_DB,          /* the database failed */
    ERR_IO,          /* the operating system failed */
};

static inline bool err_is_fault(enum err err)
{
    return err >= ERR_UNAVAILABLE;
}

#define MUST_USE __attribute__((warn_unused_result))

/* A sentence for a person. A NULL reason is allowed everywhere. */
struct reason {
    char text[512];
};

/* Writes the sentence, cut to fit. Returns nothing, touches nothing else. */
void reason_set(struct reason *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A word for logs: "ok", "not_found", "conflict", ... Static storage. */
const char *err_name(enum err err);
