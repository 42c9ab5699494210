/* What one child says and is told: its socket, its pipes, its own log. */
#include "workers/kinds/pool/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

enum {
    READ_BYTES = 64 << 10,
    READS_AT_ONCE = 16,   /* then others have their turn */
    READS_AT_END = 1024,  /* more than a pipe or a socket holds */
    GONE_AFTER_MS = 1000, /* it has closed its socket, and is to end by itself */
    SAID_MAX = 100,       /* lines of a pool's children in the server's log, in ten seconds */
    SAID_US = 10 * 1000 * 1000,
    SAID_BYTES = 2000,
    PRINTED_BYTES = 4096,
    LAST_LINE_BYTES = 400,
};

/* --- its own log ------------------------------------------------------------------------ */

/* Without a folder for logs it goes to the server's, some of it. */
static void say_line(struct child *child, enum stream stream, struct span text)
{
    struct pool *pool = child->pool;
    int64_t now_us = clock_mono_us();
    if (now_us - pool->said_us > SAID_US) {
        pool->said_us = now_us;
        pool->said = 0;
    }
    if (pool->said++ >= SAID_MAX)
        return;
    log_info(pool->said == SAID_MAX ? "workers say more, which is left out for a while" : "a worker says",
             LOG_STR("worker", child->name), LOG_STR("stream", stream == STREAM_STDOUT ? "stdout" : "stderr"),
             LOG_SPAN("text", utf8_cut(text, SAID_BYTES)));
}

void child_log(struct child *child, enum stream stream, struct span bytes)
{
    if (child->log) {
        log_file_write(child->log, bytes);
        return;
    }
    while (bytes.len) {
        const char *end = memchr(bytes.p, '\n', bytes.len);
        size_t n = end ? (size_t)(end - bytes.p) : bytes.len;
        if (n)
            say_line(child, stream, (struct span){bytes.p, n});
        n += end != NULL;
        bytes = (struct span){bytes.p + n, bytes.len - n};
    }
}

/* Of what it prints, as much as its last line may need. */
static void remember(struct child *child, struct span bytes)
{
    struct buf *printed = &child->printed;
    if (child->given)
        return;
    size_t n = bytes.len < PRINTED_BYTES ? bytes.len : PRINTED_BYTES;
    size_t over = printed->len + n > PRINTED_BYTES ? printed->len + n - PRINTED_BYTES : 0;
    if (over) {
        memmove(printed->data, printed->data + over, printed->len - over);
        printed->len -= over;
    }
    buf_add(printed, bytes.p + bytes.len - n, n);
}

struct span child_last_line(const struct child *child)
{
    struct span line = buf_span(&child->printed);
    while (line.len && (line.p[line.len - 1] == '\n' || line.p[line.len - 1] == '\r'))
        line.len--;
    const char *end = line.len ? memrchr(line.p, '\n', line.len) : NULL;
    if (end)
        line = (struct span){end + 1, line.len - (size_t)(end + 1 - line.p)};
    return utf8_cut(line, LAST_LINE_BYTES);
}

void child_note(struct child *child, const char *text)
{
    struct buf line = {0};
    if (!child->log)
        return;
    buf_addl(&line, "[errand ");
    time_add(&line, clock_now_ms());
    buf_addf(&line, ": %s]\n", text);
    child_log(child, STREAM_STDERR, buf_span(&line));
    buf_release(&line);
}

/* --- what it says -------------------------------------------------------------------------------------- */

static void become_ready(struct child *child, const struct message *message)
{
    if (child->state != CHILD_STARTING) {
        if (child->ready_us)
            child_break(child, "it has said `ready` twice");
        return; /* else it is told to end by now */
    }
    if (message->protocol > PROTOCOL_VERSION) {
        child_break(child, "it speaks version %d of the protocol, this server %d", message->protocol,
                    PROTOCOL_VERSION);
        return;
    }
    child->due_us = 0;
    child->ready_us = child->idle_us = clock_mono_us();
    child_set_state(child, CHILD_READY);
    minder_look_at(0);
    log_debug("a worker is ready", LOG_STR("worker", child->name), LOG_SPAN("client", message->client));
}

static void take_line(struct child *child, struct span line)
{
    struct message message;
    struct buf arena = {0};
    struct reason why;
    if (!message_read(line, &message, &arena, &why))
        child_break(child, "%s", why.text);
    else if (message.type == MESSAGE_READY)
        become_ready(child, &message);
    else if (message.type == MESSAGE_LOG && !message.run)
        child_log(child, message.stream, message.text);
    else if (message.type != MESSAGE_NONE && !child->ready_us)
        child_break(child, "it has said something before `ready`");
    else if (message.type != MESSAGE_NONE)
        body_message(child, &message, line);
    buf_release(&arena);
}

/* There are so many requests under way that it is heard when some are answered; one that has
 * ended is heard to its end. */
static bool is_choked(const struct child *child)
{
    return child->pool->held > HELD_BYTES_MAX && !child->is_dead;
}

static void take_lines(struct child *child)
{
    struct span line;
    while (child->reads && !is_choked(child) && lines_next(&child->in, &line))
        take_line(child, line);
    if (child->reads && !is_choked(child) && lines_are_too_long(&child->in))
        child_break(child, "a line of it has more than %d bytes", LINE_BYTES_MAX);
    lines_rest(&child->in);
}

/* Its end is soon seen; one that only closes its socket is made to end. */
static void hang_up(struct child *child)
{
    child->reads = false;
    if (child->state == CHILD_DYING || child->stage == 2)
        return;
    child->stage = 1;
    child->due_us = clock_mono_us() + GONE_AFTER_MS * 1000;
    minder_look_at(child->due_us);
    child_set_state(child, child->state == CHILD_CLOSING ? CHILD_CLOSING : CHILD_DYING);
}

static void read_socket(struct child *child, int reads)
{
    static char bytes[READ_BYTES]; /* the minder's */
    struct watch *watch = &child->watches[WATCH_SOCKET];
    for (int i = 0; i < reads && child->reads && !is_choked(child) && watch->fd >= 0; i++) {
        ssize_t n = recv(watch->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            hang_up(child);
            return;
        }
        lines_add(&child->in, (struct span){bytes, (size_t)n});
        take_lines(child);
    }
}

/* What it prints while it holds one is that one's. */
static void take_output(struct child *child, enum stream stream, struct span bytes)
{
    struct body *body, *only = NULL;
    int count = 0;
    DL_FOREACH (child->bodies, body)
        if (!body->over) {
            only = body;
            count++;
        }
    if (count != 1) {
        remember(child, bytes);
        child_log(child, stream, bytes);
        return;
    }
    attempt_log(only->attempt, stream, bytes);
    minder_look_at(0); /* its log is sent on in a while */
}

static void read_pipe(struct child *child, enum watched what, int reads)
{
    static char bytes[READ_BYTES];
    struct watch *watch = &child->watches[what];
    for (int i = 0; i < reads && watch->fd >= 0; i++) {
        ssize_t n = read(watch->fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            minder_unwatch(watch);
        else
            take_output(child, what == WATCH_OUT ? STREAM_STDOUT : STREAM_STDERR, (struct span){bytes, (size_t)n});
    }
}

/* --- what it is told --------------------------------------------------------------------------------- */

/* What is left in a socket that is not read would wake for ever, and so would its end. */
static void watch_socket(struct child *child)
{
    struct watch *watch = &child->watches[WATCH_SOCKET];
    bool reads = child->reads && !is_choked(child);
    uint32_t events = (reads ? EPOLLIN : 0) | (child->writing ? EPOLLOUT : 0);
    if (watch->fd < 0 || events == child->watched)
        return;
    child->watched = events;
    if (events)
        minder_watch(watch, events);
    else
        minder_mute(watch);
}

static void ask_to_write(struct child *child, bool wanted)
{
    child->writing = wanted;
    watch_socket(child);
}

static void send_on(struct child *child)
{
    int fd = child->watches[WATCH_SOCKET].fd;
    while (fd >= 0 && child->sent < child->out.len) {
        ssize_t n =
            send(fd, child->out.data + child->sent, child->out.len - child->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            ask_to_write(child, true);
            return;
        }
        if (n < 0)
            break; /* nobody is there any more, as is soon seen */
        child->sent += (size_t)n;
    }
    child->sent = 0;
    if (child->out.cap > READ_BYTES)
        buf_release(&child->out);
    child->out.len = 0;
    ask_to_write(child, false);
}

/* One that always leaves something unread would have it all kept. */
static void forget_sent(struct child *child)
{
    struct buf *out = &child->out;
    if (child->sent < out->len / 2 || !child->sent)
        return;
    memmove(out->data, out->data + child->sent, out->len - child->sent);
    out->len -= child->sent;
    child->sent = 0;
}

void child_say(struct child *child, struct buf *line)
{
    size_t unread = child->out.len - child->sent;
    if (child->state != CHILD_DYING && unread + line->len > UNREAD_BYTES_MAX) {
        child_break(child, "it does not read what it is told");
    } else if (child->state != CHILD_DYING) {
        forget_sent(child);
        buf_add_span(&child->out, buf_span(line));
        buf_addc(&child->out, '\n');
        if (!unread)
            send_on(child);
    }
    buf_release(line);
}

/* --- events ------------------------------------------------------------------------- */

void child_read_on(struct child *child)
{
    if (!child->reads || is_choked(child))
        return;
    take_lines(child);
    watch_socket(child);
}

void child_read_rest(struct child *child)
{
    child->is_dead = true;
    read_pipe(child, WATCH_OUT, READS_AT_END);
    read_pipe(child, WATCH_ERR, READS_AT_END);
    take_lines(child);
    read_socket(child, READS_AT_END);
}

/* What it printed before it said something comes before that. */
void child_read(struct child *child, enum watched what, uint32_t events)
{
    read_pipe(child, WATCH_OUT, READS_AT_ONCE);
    read_pipe(child, WATCH_ERR, READS_AT_ONCE);
    if (what != WATCH_SOCKET)
        return;
    if (events & EPOLLOUT)
        send_on(child);
    read_socket(child, READS_AT_ONCE);
    if (child->reads) {
        watch_socket(child);
    } else {
        minder_unwatch(&child->watches[WATCH_SOCKET]);
        child->writing = false;
    }
}
