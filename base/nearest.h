/* "Did you mean ...?": the known name nearest to a word.
 *
 *     struct nearest near = nearest_to(word);
 *     for (...) nearest_try(&near, name);
 *     faults_add(..., "unknown key" NEAREST_FORMAT, NEAREST_ARGS(near));
 *
 * Threads: no shared state. Words and names over 64 bytes are never near. */
#pragma once

#include "base/buf.h"

struct nearest {
    struct span word;
    const char *name; /* the best so far, NULL if none is near enough */
    int distance;
};

static inline struct nearest nearest_to(struct span word)
{
    return (struct nearest){word, NULL, 0};
}

/* Keeps the name if it is nearer than the best so far: at most a third of its
 * letters typed wrong, or one is how the other begins (`int`, `integer`) or
 * ends (`retries`, `max_retries`). */
void nearest_try(struct nearest *near, const char *name);

/* For printf: "; did you mean `name`?", or nothing. */
#define NEAREST_FORMAT "%s%s%s"
#define NEAREST_ARGS(near) \
    (near).name ? "; did you mean `" : "", (near).name ? (near).name : "", (near).name ? "`?" : ""
