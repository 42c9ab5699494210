#include "workers/isolated_internal.h"

#include "base/json.h"
#include "base/lines.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

enum { SEQ_BYTES = 64 /* what a question's end has, at most */ };

/* On the stack of who asks. */
struct wire_question {
    int64_t seq;
    bool is_answered;
    struct buf answer;
    pthread_cond_t comes;
    struct wire_question *prev, *next;
};

void wire_init(struct wire *wire, int fd)
{
    *wire = (struct wire){.fd = fd, .pid = getpid(), .line_bytes = LINE_BYTES_MAX};
    pthread_mutex_init(&wire->say_lock, NULL);
    pthread_mutex_init(&wire->ask_lock, NULL);
}

void wire_release(struct wire *wire)
{
    pthread_mutex_destroy(&wire->say_lock);
    pthread_mutex_destroy(&wire->ask_lock);
    close(wire->fd);
}

bool wire_is_ours(const struct wire *wire)
{
    return getpid() == wire->pid;
}

/* --- lines out ---------------------------------------------------------------------- */

void wire_begin(struct buf *line, const char *type, int64_t run)
{
    buf_addf(line, "{\"type\":\"%s\",\"run\":%" PRId64, type, run);
}

bool wire_is_too_long(const struct wire *wire, const struct buf *line)
{
    return line->len + SEQ_BYTES > wire->line_bytes;
}

/* Who is not heard any more has nobody to work for. */
static void send_all(int fd, struct span bytes)
{
    while (bytes.len) {
        ssize_t n = send(fd, bytes.p, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            _exit(0);
        if (n > 0)
            bytes = (struct span){bytes.p + n, bytes.len - (size_t)n};
    }
}

void wire_say(struct wire *wire, struct buf *line)
{
    buf_addc(line, '\n');
    if (wire_is_ours(wire)) {
        pthread_mutex_lock(&wire->say_lock);
        send_all(wire->fd, buf_span(line));
        pthread_mutex_unlock(&wire->say_lock);
    }
    buf_release(line);
}

/* --- questions ---------------------------------------------------------------------- */

void wire_ask(struct wire *wire, struct buf *line, struct buf *answer)
{
    struct wire_question question = {0};
    if (!wire_is_ours(wire)) {
        buf_release(line);
        buf_addl(
            answer,
            "{\"error\":{\"type\":\"refused\",\"message\":\"the server does not know a copy of its child\"}}");
        return;
    }
    pthread_cond_init(&question.comes, NULL);
    pthread_mutex_lock(&wire->ask_lock);
    question.seq = ++wire->last_seq;
    DL_APPEND(wire->questions, &question);
    pthread_mutex_unlock(&wire->ask_lock);
    buf_addf(line, ",\"seq\":%" PRId64 "}", question.seq);
    wire_say(wire, line);
    pthread_mutex_lock(&wire->ask_lock);
    while (!question.is_answered)
        pthread_cond_wait(&question.comes, &wire->ask_lock);
    pthread_mutex_unlock(&wire->ask_lock);
    pthread_cond_destroy(&question.comes);
    *answer = question.answer;
}

void wire_answered(struct wire *wire, struct span line)
{
    struct span number = json_get(line, "seq");
    struct wire_question *question;
    int64_t seq;
    if (!number.p || !json_int64(number, &seq))
        return;
    pthread_mutex_lock(&wire->ask_lock);
    DL_SEARCH_SCALAR(wire->questions, question, seq, seq);
    if (question) {
        DL_DELETE(wire->questions, question);
        buf_add_span(&question->answer, line);
        question->is_answered = true;
        pthread_cond_signal(&question->comes);
    }
    pthread_mutex_unlock(&wire->ask_lock);
}
