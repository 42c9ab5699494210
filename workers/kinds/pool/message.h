/* What a child says: one line, checked and taken apart (workers/sdk/PROTOCOL.md).
 * Pure. */
#pragma once

#include "workers/kinds/attempt.h"
#include "workers/kinds/failure.h"

enum { PROTOCOL_VERSION = 1, CLIENT_CHARACTERS = 100 };

enum message_type {
    MESSAGE_NONE, /* an empty line */
    MESSAGE_READY,
    MESSAGE_DONE,
    MESSAGE_FAILED,
    MESSAGE_PROGRESS,
    MESSAGE_LOG,
    MESSAGE_REQUEST,
};

/* Spans are in the line, or in the arena. */
struct message {
    enum message_type type;
    int64_t run; /* 0: none is named, which only a log may do */
    int protocol;
    struct span client;
    struct span result; /* absent: null */
    struct failure_told error;
    double value;
    struct span text; /* of a log, or a note; absent: none */
    enum stream stream;
    int64_t seq;
    enum asked asked;
};

/* False with the reason: the child does not speak the protocol. Of a request only
 * type, run and seq are looked at. `arena` is empty and the caller's to release. */
bool message_read(struct span line, struct message *out, struct buf *arena, struct reason *why);
