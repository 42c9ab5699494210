/* Fires mutated requests at a live server, and checks that every answer is
 * HTTP with a status that is known, that its JSON is JSON, that connections go
 * on or are closed where that is right, and that /healthz answers in time.
 *
 *     storm URL COUNT SEED [TOKEN ADMIN_TOKEN]
 *
 * Many connections from one thread. A session is some requests sent at once
 * (pipelined) or in pieces; the answers to tame ones are counted and must all
 * come, a wild one (storm_requests.c) ends its session and its connection.
 * The bytes of a session that found a fault are left in STORM_FOUND (a folder;
 * the current one without it). Exit status 0: no fault. */
#include "base/clock.h"
#include "base/json.h"
#include "tests/fuzz/storm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LINKS = 48,
    PIPELINE_MAX = 24,
    FAULTS_MAX = 10,
    HANG_US = 30000000,  /* an answer that is due has come by then */
    HEALTH_US = 2000000, /* and that of /healthz by then */
    PROBE_US = 250000,
    ADDRESSES = 200, /* of ours, each with its own ports: closed ones rest for a minute */
    STATUSES = 600,
};

struct link {
    int fd;         /* -1: none */
    bool fresh;     /* nothing was answered on this connection yet */
    struct buf out; /* the session's requests */
    size_t sent;
    struct buf in; /* what came and is not yet taken */
    struct made due[PIPELINE_MAX];
    size_t starts[PIPELINE_MAX]; /* of the requests in `out` */
    int due_count, answered;
    int tried;                                     /* requests of which something was sent */
    size_t stop_at;                                /* the connection is given up after so many bytes */
    size_t piece;                                  /* bytes sent at a time; 0: all */
    bool half_close;                               /* once all is sent and the tame ones are answered */
    bool told_close;                               /* an answer said so */
    bool deaf;                                     /* what comes is left unread */
    bool probe;                                    /* for /healthz */
    int64_t next_piece_us, started_us, give_up_us; /* 0: none */
};

static struct {
    struct sockaddr_in address;
    struct maker maker;
    struct link links[LINKS], probe;
    int64_t wanted, made, tried, answers, sessions, connections, resets, closes, given_up, doubled;
    int64_t by_status[STATUSES];
    int64_t health_max_us, health_count;
    int faults;
} storm;

/* --- faults ---------------------------------------------------------------------- */

static void save(const struct link *link)
{
    char path[4096];
    const char *folder = getenv("STORM_FOUND");
    snprintf(path, sizeof path, "%s/storm-%d-%d", folder ? folder : ".", (int)getpid(), storm.faults);
    FILE *file = fopen(path, "wb");
    if (!file)
        return;
    fwrite(link->out.data, 1, link->out.len, file);
    fclose(file);
    printf("  its session: %s\n", path);
}

static void fault(const struct link *link, const char *text, struct span shown)
{
    if (storm.faults++ >= FAULTS_MAX)
        return; /* the sessions that are under way end */
    printf("FAULT: %s (request %d of %d, %s)\n", text, link->answered + 1, link->due_count,
           link->probe                           ? "/healthz"
           : link->due[link->due_count - 1].tame ? "all tame"
                                                 : "the last one wild");
    if (shown.len)
        printf("  %.*s\n", (int)(shown.len < 1000 ? shown.len : 1000), shown.p);
    if (link->answered < link->due_count) {
        size_t at = link->starts[link->answered], n = link->out.len - at;
        printf("  asked: %.*s\n", (int)(n < 600 ? n : 600), link->out.data + at);
    }
    save(link);
    fflush(stdout);
}

/* --- an answer -------------------------------------------------------------------- */

struct reply {
    int status;
    size_t head_len; /* with the empty line */
    bool close, chunked, has_length, json, lines;
    size_t length;
    struct span location, tag;
};

static bool is_known(int status)
{
    static const int known[] = {100, 200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 408,
                                409, 411, 413, 414, 415, 416, 417, 422, 429, 431, 501, 505};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i] == status)
            return true;
    return false;
}

static bool name_is(struct span name, const char *text)
{
    return name.len == strlen(text) && strncasecmp(name.p, text, name.len) == 0;
}

static bool has(struct span value, const char *text)
{
    return memmem(value.p, value.len, text, strlen(text)) != NULL;
}

static void note(struct reply *r, struct span name, struct span value)
{
    if (name_is(name, "Content-Length")) {
        r->has_length = true;
        r->length = strtoull(value.p, NULL, 10);
    } else if (name_is(name, "Transfer-Encoding")) {
        r->chunked = name_is(value, "chunked");
    } else if (name_is(name, "Connection")) {
        r->close = strcasestr(value.p, "close") && strcasestr(value.p, "close") < value.p + value.len;
    } else if (name_is(name, "Content-Type")) {
        r->lines = has(value, "ndjson");
        r->json = !r->lines && has(value, "json");
    } else if (name_is(name, "Location")) {
        r->location = value;
    } else if (name_is(name, "ETag")) {
        r->tag = value;
    }
}

enum parsed { WHOLE, PARTIAL, BROKEN };

/* libmicrohttpd 0.9.75 refuses some headers by itself, and then sends the head of
 * its answer twice: the body that is announced begins with a head. The
 * connection ends there, so that this can be told from an answer of ours. */
static bool is_doubled(const struct reply *r, struct span rest)
{
    static const char start[] = "HTTP/1.1 4";
    return r->close && !r->json && r->has_length && rest.len > sizeof start &&
           memcmp(rest.p, start, sizeof start - 1) == 0;
}

static enum parsed read_head(struct span in, struct reply *r)
{
    static const char version[] = "HTTP/1.";
    *r = (struct reply){0};
    const char *end = memmem(in.p, in.len, "\r\n\r\n", 4);
    if (!end)
        return memcmp(in.p, version, in.len < 7 ? in.len : 7) == 0 && in.len < 65536 ? PARTIAL : BROKEN;
    if (end - in.p < 13 || memcmp(in.p, version, 7) != 0 || in.p[8] != ' ' || in.p[12] != ' ')
        return BROKEN;
    r->status = atoi(in.p + 9);
    r->head_len = (size_t)(end - in.p) + 4;
    for (const char *p = memmem(in.p, in.len, "\r\n", 2) + 2; p < end + 2;) {
        const char *stop = memmem(p, (size_t)(end + 2 - p), "\r\n", 2);
        const char *colon = memchr(p, ':', (size_t)(stop - p));
        if (!colon || colon == p || colon[1] != ' ')
            return BROKEN;
        for (const char *c = p; c < stop; c++)
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                return BROKEN;
        note(r, (struct span){p, (size_t)(colon - p)}, (struct span){colon + 2, (size_t)(stop - colon - 2)});
        p = stop + 2;
    }
    return WHOLE;
}

static enum parsed read_chunks(struct span in, struct buf *body, size_t *used)
{
    const char *p = in.p, *end = in.p + in.len;
    for (;;) {
        const char *line = memmem(p, (size_t)(end - p), "\r\n", 2);
        char *stop;
        if (!line)
            return end - p > 20 ? BROKEN : PARTIAL;
        size_t n = strtoul(p, &stop, 16);
        if (stop != line)
            return BROKEN;
        p = line + 2;
        if ((size_t)(end - p) < n + 2)
            return PARTIAL;
        if (p[n] != '\r' || p[n + 1] != '\n')
            return BROKEN;
        buf_add(body, p, n);
        p += n + 2;
        if (!n)
            break;
    }
    *used = (size_t)(p - in.p);
    return WHOLE;
}

static enum parsed read_body(struct span in, const struct reply *r, bool head, bool ended, struct buf *body,
                             size_t *used)
{
    *used = 0;
    if (head || r->status < 200 || r->status == 204 || r->status == 304)
        return WHOLE;
    if (r->chunked)
        return read_chunks(in, body, used);
    *used = r->has_length ? r->length : in.len;
    if (r->has_length ? in.len < r->length : !ended)
        return PARTIAL;
    buf_add(body, in.p, *used);
    return WHOLE;
}

static bool is_json(struct span text)
{
    return json_check(text.p, text.len, JSON_DEPTH_MAX, NULL) == OK;
}

static bool are_json(struct span text)
{
    while (text.len) {
        const char *newline = memchr(text.p, '\n', text.len);
        size_t n = newline ? (size_t)(newline - text.p) : text.len;
        if (!newline || !is_json((struct span){text.p, n}))
            return false;
        text.p += n + 1;
        text.len -= n + 1;
    }
    return true;
}

/* Arguments may be as deep as JSON may be, and stand a little deeper in an answer. */
static bool is_deep(struct span text)
{
    int depth = 0;
    for (size_t i = 0; i < text.len; i++)
        depth += text.p[i] == '[' || text.p[i] == '{';
    return depth > JSON_DEPTH_MAX - 3;
}

static void learn(const struct reply *r, struct span body)
{
    static const char prefix[] = "/invocations/", next[] = "\"next\":\"", token[] = "{\"token\":\"";
    struct known *known = &storm.maker.known;
    if (r->location.len > sizeof prefix - 1)
        known_add_id(known, (struct span){r->location.p + sizeof prefix - 1, r->location.len - sizeof prefix + 1});
    if (r->tag.p)
        known_add_tag(known, r->tag);
    const char *at = r->json && r->status == 200 ? memmem(body.p, body.len, next, sizeof next - 1) : NULL;
    if (at && at + sizeof next + 10 < body.p + body.len)
        known_add_cursor(known, (struct span){at + sizeof next - 1, 11});
    at = r->json && r->status == 200 ? memmem(body.p, body.len, token, sizeof token - 1) : NULL;
    if (at && at + sizeof token + 30 < body.p + body.len)
        known_add_lease(known, (struct span){at + sizeof token - 1, 30});
}

static const char *judge(const struct link *link, const struct reply *r, struct span body, bool head)
{
    const struct made *asked = link->answered < link->due_count ? &link->due[link->answered] : NULL;
    if (!is_known(r->status))
        return "a status that nobody expects";
    if (head || body.len == 0)
        return NULL;
    if (r->lines ? !are_json(body) : r->json && !is_deep(body) && !is_json(body))
        return "an answer that is no JSON";
    if (asked && asked->tame && !asked->may_close && r->status >= 400 && !r->json)
        return "an error that is no problem document";
    return NULL;
}

/* Takes one answer off what came. False: there is none (more), or a fault. */
static bool take_answer(struct link *link, bool ended)
{
    struct span in = buf_span(&link->in);
    struct reply r;
    struct buf body = {0};
    size_t used = 0;
    bool wild = link->answered >= link->due_count || !link->due[link->answered].tame;
    bool head = !wild && link->due[link->answered].head;
    if (link->deaf)
        link->in.len = 0;
    if (!link->in.len)
        return false;
    enum parsed parsed = read_head(in, &r);
    if (parsed == WHOLE && is_doubled(&r, (struct span){in.p + r.head_len, in.len - r.head_len})) {
        storm.doubled++;
        link->told_close = true;
        storm.by_status[r.status]++;
        link->in.len = 0;
        link->deaf = true; /* nothing of use comes any more */
        return false;
    }
    if (parsed == WHOLE)
        parsed = read_body((struct span){in.p + r.head_len, in.len - r.head_len}, &r, head, ended, &body, &used);
    if (parsed == WHOLE) {
        const char *wrong = judge(link, &r, buf_span(&body), head);
        if (wrong)
            fault(link, wrong, in);
        learn(&r, buf_span(&body));
        storm.by_status[r.status < STATUSES ? r.status : 0]++;
        link->told_close |= r.close;
        link->fresh = false;
        if (r.status >= 200) {
            storm.answers++;
            link->answered += !wild;
        }
        memmove(link->in.data, link->in.data + r.head_len + used, in.len - r.head_len - used);
        link->in.len -= r.head_len + used;
    } else if (parsed == BROKEN) {
        fault(link, "an answer that is no HTTP", in);
        link->in.len = 0;
    }
    buf_release(&body);
    return parsed == WHOLE;
}

/* --- a session ----------------------------------------------------------------------- */

static void hang_up(struct link *link, bool abruptly)
{
    if (link->fd < 0)
        return;
    if (abruptly)
        setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(link->fd);
    link->fd = -1;
}

static bool dial(struct link *link)
{
    int one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)chance_below(&storm.maker.chance, ADDRESSES));
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(link->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(link->fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        connect(link->fd, (struct sockaddr *)&storm.address, sizeof storm.address) != 0) {
        printf("FAULT: the server takes no connection: %s\n", strerror(errno));
        storm.faults = FAULTS_MAX;
        hang_up(link, false);
        return false;
    }
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
    storm.connections++;
    link->fresh = true;
    return true;
}

static void add_request(struct link *link, bool wild)
{
    link->starts[link->due_count] = link->out.len;
    link->due[link->due_count++] =
        wild ? make_wild(&storm.maker, &link->out) : make_tame(&storm.maker, &link->out);
    storm.made++;
}

static void choose_pace(struct link *link, int64_t now_us)
{
    struct chance *c = &storm.maker.chance;
    bool wild = !link->due[link->due_count - 1].tame, waits = false;
    for (int i = 0; i < link->due_count; i++)
        waits |= link->due[i].waits;
    link->stop_at = SIZE_MAX;
    /* At most 400 pieces, about a second: far from the server's patience. */
    link->piece = chance_one_in(c, 40) ? 1 + link->out.len / 400 + chance_below(c, 200) : 0;
    link->give_up_us = 0;
    link->half_close = wild && !chance_one_in(c, 8);
    if (chance_one_in(c, 60))
        link->stop_at = chance_below(c, link->out.len + 1);
    else if (waits || (wild && !link->half_close))
        link->give_up_us = now_us + 20000 + (int64_t)chance_below(c, 100000);
}

static void begin(struct link *link, int64_t now_us)
{
    struct chance *c = &storm.maker.chance;
    if (link->fd >= 0 && (link->told_close || link->in.len || chance_one_in(c, 20)))
        hang_up(link, chance_one_in(c, 2));
    link->out.len = link->sent = link->in.len = 0;
    link->due_count = link->answered = link->tried = 0;
    link->told_close = link->deaf = false;
    if (link->fd < 0 && !dial(link))
        return;
    size_t n = 1 + chance_below(c, chance_one_in(c, 3) ? PIPELINE_MAX : 4);
    bool wild = chance_one_in(c, 3);
    for (size_t i = 0; i < n && storm.made < storm.wanted; i++)
        add_request(link, wild && i == n - 1);
    if (!link->due_count)
        add_request(link, false);
    choose_pace(link, now_us);
    link->started_us = now_us;
    link->next_piece_us = 0;
    storm.sessions++;
}

static bool wants_to_send(const struct link *link, int64_t now_us)
{
    return link->sent < link->out.len && now_us >= link->next_piece_us;
}

/* False: the connection is gone. */
static bool send_some(struct link *link, int64_t now_us)
{
    size_t until = link->stop_at < link->out.len ? link->stop_at : link->out.len;
    while (link->sent < until) {
        size_t n = until - link->sent;
        if (link->piece && n > link->piece)
            n = link->piece;
        ssize_t done = send(link->fd, link->out.data + link->sent, n, MSG_NOSIGNAL);
        if (done < 0)
            return errno == EAGAIN || errno == EPIPE || errno == ECONNRESET; /* the reading side sees why */
        link->sent += (size_t)done;
        if (link->piece) {
            link->next_piece_us = now_us + (int64_t)chance_below(&storm.maker.chance, 5000);
            break;
        }
    }
    while (link->tried < link->due_count && link->sent > link->starts[link->tried])
        link->tried++;
    return link->sent < link->stop_at;
}

/* Could the server have had a reason to close after what it was sent? */
static bool may_be_closed(const struct link *link)
{
    for (int i = 0; i <= link->answered && i < link->due_count; i++)
        if (link->due[i].may_close)
            return true;
    return link->told_close;
}

static bool has_wild(const struct link *link)
{
    return link->due_count && !link->due[link->due_count - 1].tame;
}

static int tame_count(const struct link *link)
{
    return link->due_count - has_wild(link);
}

static void end(struct link *link, int64_t now_us)
{
    storm.tried += link->tried;
    if (storm.tried < storm.wanted && storm.faults < FAULTS_MAX)
        begin(link, now_us);
    else
        hang_up(link, false);
}

static void closed(struct link *link, bool reset, int64_t now_us)
{
    bool mid_answer = link->in.len > 0;
    while (take_answer(link, true))
        ;
    storm.resets += reset;
    storm.closes += !reset;
    mid_answer &= link->in.len > 0;
    if (!may_be_closed(link) && !(link->answered == tame_count(link) && has_wild(link)))
        fault(link, reset ? "the connection was reset" : "the connection was closed", buf_span(&link->in));
    else if (mid_answer && !reset && !may_be_closed(link))
        fault(link, "an answer that ends too early", buf_span(&link->in));
    hang_up(link, false);
    end(link, now_us);
}

/* False: the session ended. */
static bool receive(struct link *link, int64_t now_us)
{
    for (;;) {
        buf_reserve(&link->in, 65536);
        ssize_t n = recv(link->fd, link->in.data + link->in.len, 65536, 0);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            closed(link, n < 0, now_us);
            return false;
        }
        link->in.len += (size_t)n;
        while (take_answer(link, false))
            ;
        if (link->answered == link->due_count && link->sent == link->out.len) {
            end(link, now_us);
            return false;
        }
    }
}

static bool may_wait(const struct link *link)
{
    size_t at = link->starts[link->due_count - 1], n = link->out.len - at;
    return memmem(link->out.data + at, n, "wait", 4) || memmem(link->out.data + at, n, "follow", 6);
}

/* The server sees most ends at once, and those that came together with the bytes
 * before them a second later: some are waited for. */
static void half_close(struct link *link, int64_t now_us)
{
    shutdown(link->fd, SHUT_WR);
    link->half_close = false;
    if (may_wait(link) || !chance_one_in(&storm.maker.chance, 100))
        link->give_up_us = now_us + 30000;
}

static void check_time(struct link *link, int64_t now_us)
{
    if (link->half_close && link->sent == link->out.len && link->answered == tame_count(link))
        half_close(link, now_us);
    if (link->give_up_us && now_us > link->give_up_us && link->sent == link->out.len) {
        storm.given_up++;
        hang_up(link, chance_one_in(&storm.maker.chance, 2));
        end(link, now_us);
    } else if (now_us - link->started_us > HANG_US) {
        fault(link, "no answer in time", buf_span(&link->in));
        hang_up(link, false);
        end(link, now_us);
    }
}

static void serve(struct link *link, short events, int64_t now_us)
{
    if ((events & (POLLIN | POLLHUP | POLLERR)) && !receive(link, now_us))
        return;
    if (wants_to_send(link, now_us) && !send_some(link, now_us)) {
        storm.given_up++;
        hang_up(link, chance_one_in(&storm.maker.chance, 2));
        end(link, now_us);
        return;
    }
    check_time(link, now_us);
}

/* --- /healthz ---------------------------------------------------------------------------- */

static void ask_health(struct link *probe, int64_t now_us)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (probe->fd < 0 && !dial(probe))
        return;
    probe->out.len = probe->in.len = 0;
    buf_addl(&probe->out, request);
    probe->due[0] = (struct made){.tame = true};
    probe->starts[0] = 0;
    probe->due_count = 1;
    probe->answered = 0;
    probe->started_us = now_us;
    if (send(probe->fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1)
        fault(probe, "/healthz could not be asked", SPAN(""));
}

static void check_health(struct link *probe, int64_t now_us)
{
    char block[4096];
    int64_t took_us = now_us - probe->started_us;
    if (probe->answered == probe->due_count) {
        if (took_us > PROBE_US)
            ask_health(probe, now_us);
        return;
    }
    ssize_t n = recv(probe->fd, block, sizeof block, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        fault(probe, "/healthz was not answered: the connection is gone", SPAN(""));
        hang_up(probe, false);
        probe->answered = probe->due_count;
    } else if (n > 0) {
        buf_add(&probe->in, block, (size_t)n);
        if (take_answer(probe, false)) {
            storm.health_count++;
            if (took_us > storm.health_max_us)
                storm.health_max_us = took_us;
        }
    }
    if (took_us > HEALTH_US && probe->answered < probe->due_count) {
        fault(probe, "/healthz took more than 2 s", SPAN(""));
        hang_up(probe, false);
        probe->answered = probe->due_count;
    }
}

/* --- the loop ------------------------------------------------------------------------------- */

static int prepare(struct pollfd *fds, struct link **of, int64_t now_us)
{
    int n = 0;
    for (int i = 0; i < LINKS; i++) {
        struct link *link = &storm.links[i];
        if (link->fd < 0)
            continue;
        of[n] = link;
        fds[n++] = (struct pollfd){link->fd, (short)(POLLIN | (wants_to_send(link, now_us) ? POLLOUT : 0)), 0};
    }
    if (storm.probe.fd >= 0)
        fds[n] = (struct pollfd){storm.probe.fd, POLLIN, 0};
    return n;
}

static void run(void)
{
    struct pollfd fds[LINKS + 1];
    struct link *of[LINKS];
    int64_t now_us = clock_mono_us();
    storm.probe = (struct link){.fd = -1, .probe = true};
    for (int i = 0; i < LINKS; i++) {
        storm.links[i].fd = -1;
        begin(&storm.links[i], now_us);
    }
    for (int n; (n = prepare(fds, of, clock_mono_us())) > 0;) {
        poll(fds, (nfds_t)(n + (storm.probe.fd >= 0)), 2);
        now_us = clock_mono_us();
        check_health(&storm.probe, now_us);
        for (int i = 0; i < n; i++)
            serve(of[i], fds[i].revents, now_us);
    }
    hang_up(&storm.probe, false);
    for (int i = 0; i < LINKS; i++) {
        buf_release(&storm.links[i].out);
        buf_release(&storm.links[i].in);
    }
    buf_release(&storm.probe.out);
    buf_release(&storm.probe.in);
}

static void report(int64_t took_us)
{
    double seconds = (double)took_us / 1e6;
    for (int i = 0; i < STATUSES; i++)
        if (storm.by_status[i])
            printf("%5d %10lld\n", i, (long long)storm.by_status[i]);
    printf("%lld requests, %lld answers, %lld sessions, %lld connections\n", (long long)storm.tried,
           (long long)storm.answers, (long long)storm.sessions, (long long)storm.connections);
    printf("closed by the server %lld, reset %lld, given up %lld; libmicrohttpd's head twice %lld\n",
           (long long)storm.closes, (long long)storm.resets, (long long)storm.given_up, (long long)storm.doubled);
    printf("/healthz %lld times, at most %.1f ms\n", (long long)storm.health_count,
           (double)storm.health_max_us / 1e3);
    printf("%.0f requests/s in %.1f s, %d faults\n", (double)storm.tried / seconds, seconds, storm.faults);
}

static bool read_url(const char *url)
{
    char host[64];
    int port;
    storm.address.sin_family = AF_INET;
    if (sscanf(url, "http://%63[0-9.]:%d", host, &port) != 2 ||
        inet_pton(AF_INET, host, &storm.address.sin_addr) != 1)
        return false;
    storm.address.sin_port = htons((uint16_t)port);
    return true;
}

int main(int argc, char **argv)
{
    if ((argc != 4 && argc != 6) || !read_url(argv[1])) {
        fprintf(stderr, "usage: storm http://ADDRESS:PORT COUNT SEED [TOKEN ADMIN_TOKEN]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    storm.wanted = atoll(argv[2]);
    storm.maker.chance.state = strtoull(argv[3], NULL, 10);
    storm.maker.token = argc == 6 ? argv[4] : NULL;
    storm.maker.admin_token = argc == 6 ? argv[5] : NULL;
    int64_t start_us = clock_mono_us();
    run();
    report(clock_mono_us() - start_us);
    maker_release(&storm.maker);
    return storm.faults > 0 || storm.answers == 0;
}
