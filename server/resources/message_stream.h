/* Messages as an event stream: what is there, then what comes.
 *
 *     event: message  id: its seq  data: the message
 *     event: error    data: {invocation, error}: it has failed for good
 *     event: end      data: {invocation, status}: it is final, or "deleted"
 *
 * An end comes after the last message of its invocation, and has no id: who comes
 * again with Last-Event-ID misses no message and gets none twice, misses no end,
 * and may get some ends again. A stream of one invocation or of one tree ends when
 * all of it is final. */
#pragma once

#include "server/resources/message_scope.h"

/* Fills the answer. 429 if as many requests wait or follow as may. HTTP thread. */
enum next message_stream_begin(struct request *rq, const struct message_scope *scope);
