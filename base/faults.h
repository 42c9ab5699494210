/* A list of faults: everything that is wrong with one input, each with the
 * place where it is. A request's faults carry a JSON Pointer (RFC 6901), a
 * configuration's also carry a line.
 *
 * Threads: a list belongs to one thread at a time. At most FAULTS_MAX are
 * kept; `total` counts them all. */
#pragma once

#include "base/buf.h"

enum { FAULTS_MAX = 100 };

struct fault {
    char *pointer; /* "/args/x"; "" is the whole */
    char *detail;  /* a sentence */
    int line;      /* 1-based, 0 where there are no lines */
};

struct faults {
    struct fault *items;
    int count;
    int total;
};

/* Copies the pointer (cut at 1000 bytes), formats the detail (cut at 500 bytes;
 * control characters and broken UTF-8 replaced, so that it can be shown). */
void faults_add(struct faults *f, int line, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* As faults_add, for a member: the pointer is `parent` + "/" + the escaped key. */
void faults_add_member(struct faults *f, int line, const char *parent, struct span key, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Frees everything and leaves an empty list. */
void faults_release(struct faults *f);

/* Appends "/" and the key with ~ and / escaped (RFC 6901). */
void pointer_add(struct buf *out, struct span key);
