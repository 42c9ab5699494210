/* What requests wait for: a topic is a kind and an id, and whoever awaits it is
 * woken once when it is announced.
 *
 * To miss nothing: listen first, then read the row, and leave again if it is
 * already as wished. The committer commits first and announces after it.
 *
 * Threads: any. Requests are woken under the table's own lock, so that one that
 * has left is certainly not woken any more and may be freed. */
#pragma once

#include "base/buf.h"

struct request;
struct topics;

enum topic_kind {
    TOPIC_INVOCATION,       /* any change of an invocation */
    TOPIC_INVOCATION_FINAL, /* it is final, or gone */
    TOPIC_GROUP,            /* a member of it has become final, or the group itself has changed */
    TOPIC_MESSAGES,         /* with the id 0: somebody has sent a message, or is final, or gone */
};

struct topic {
    enum topic_kind kind;
    int64_t id;
};

/* One request that awaits one topic; embedded in its state, all zeros at first. */
struct listener {
    struct topics *topics; /* NULL: it has not listened since it left */
    struct request *rq;
    struct hearing *hearing; /* guarded by the table's lock; NULL: it has been woken */
    struct listener *next, *prev;
};

struct topics *topics_new(void);
void topics_free(struct topics *topics); /* takes NULL; nobody may be listening */

void topics_listen(struct topics *topics, struct listener *listener, struct request *rq, struct topic topic);

/* True if it still listened (then nobody will wake its request). */
bool topics_leave(struct listener *listener);

/* Does it listen still? False once it has been woken. */
bool topics_listens(struct listener *listener);

/* Does anybody listen to anything? Asked after a commit, before anything is
 * made of it; as cheap as one load. */
bool topics_awaited(struct topics *topics);

/* Wakes (request_wake_later) all who listen to one of these. */
void topics_announce(struct topics *topics, const struct topic *list, int count);
