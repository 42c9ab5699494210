/* The parameters of a request's query, for handlers: each reads one, and adds a
 * fault for a value that is wrong.
 *
 * Threads: the one that has the request. */
#pragma once

#include "base/faults.h"
#include "server/http/request.h"

/* The parameter of that name (the first), or an absent span. */
struct span parameters_get(const struct request *rq, const char *name);

/* Faults for every parameter that is not in `known` (NULL-terminated; a name
 * ending in '.' is a prefix), each with its nearest known name, and for every
 * one that is there twice and not in `repeatable` (may be NULL). */
void parameters_check(const struct request *rq, const char *const *known, const char *const *repeatable,
                      struct faults *faults);

/* None at all: false with 400 answered. */
bool parameters_are_none(struct request *rq);

/* The parameter as an index of `words` (NULL-terminated), `absent` if it is not
 * there; a fault if it is none of them. */
int parameters_word(const struct request *rq, const char *name, const char *const *words, int absent,
                    struct faults *faults);

/* A whole number of min..max. */
int64_t parameters_int(const struct request *rq, const char *name, int64_t min, int64_t max, int64_t absent,
                       struct faults *faults);

/* `wait` in milliseconds, 0 if it is not there. */
int64_t parameters_wait(const struct request *rq, struct faults *faults);
