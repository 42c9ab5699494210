/* A grammar of requests for every route, and what can go wrong with them.
 *
 * Tame requests have a body as long as they say and a header of whole lines:
 * what is in them may be anything. Wild ones are tame ones whose bytes were
 * mutated, so that even their end is a matter of opinion. */
#include "tests/fuzz/storm.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define PICK(chance, array) ((array)[chance_below(chance, COUNT(array))])

/* --- chance ---------------------------------------------------------------------- */

uint64_t chance_next(struct chance *chance)
{
    uint64_t z = chance->state += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

size_t chance_below(struct chance *chance, size_t n)
{
    return (size_t)(chance_next(chance) % n);
}

bool chance_one_in(struct chance *chance, size_t n)
{
    return chance_below(chance, n) == 0;
}

/* --- what is known ------------------------------------------------------------------ */

void known_add_id(struct known *known, struct span id)
{
    if (id.len != 13)
        return;
    char *at = known->ids[known->id_count++ % KNOWN_IDS];
    memcpy(at, id.p, 13);
    at[13] = '\0';
}

static void remember(char texts[KNOWN_TEXTS][KNOWN_BYTES], size_t *count, struct span text)
{
    if (text.len >= KNOWN_BYTES)
        return;
    char *at = texts[(*count)++ % KNOWN_TEXTS];
    memcpy(at, text.p, text.len);
    at[text.len] = '\0';
}

void known_add_cursor(struct known *known, struct span cursor)
{
    remember(known->cursors, &known->cursor_count, cursor);
}

void known_add_tag(struct known *known, struct span tag)
{
    remember(known->tags, &known->tag_count, tag);
}

void known_add_lease(struct known *known, struct span token)
{
    remember(known->leases, &known->lease_count, token);
}

static const char *recall(struct chance *chance, char texts[KNOWN_TEXTS][KNOWN_BYTES], size_t count)
{
    return count ? texts[chance_below(chance, count < KNOWN_TEXTS ? count : KNOWN_TEXTS)] : "AAAAAAAAAAA";
}

static const char *some_id(struct maker *m)
{
    static const char *const odd[] = {"0000000000000",
                                      "ZZZZZZZZZZZZZ",
                                      "7ZZZZZZZZZZZZ",
                                      "0BYZ2H9QW4G00",
                                      "x",
                                      "%00",
                                      "%2e%2e",
                                      "0byz2h9qw4g00",
                                      "%FF%FE",
                                      "..",
                                      "%",
                                      "0BYZ2H9QW4G000000000000"};
    size_t count = m->known.id_count < KNOWN_IDS ? m->known.id_count : KNOWN_IDS;
    if (!count || chance_one_in(&m->chance, 20))
        return PICK(&m->chance, odd);
    return m->known.ids[chance_below(&m->chance, count)];
}

/* --- values --------------------------------------------------------------------------- */

static const char *const task_names[] = {"noop", "echo", "add", "flaky",     "cat", "say", "full",
                                         "nap",  "gone", "",    "\\u0061dd", "far", "far"};

static const char *const numbers[] = {
    "0",
    "1",
    "-1",
    "2",
    "127",
    "128",
    "1000",
    "1001",
    "2147483647",
    "2147483648",
    "-0",
    "1e3",
    "1.5",
    "1e999",
    "-1e999",
    "0.1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "123456789012345678901234567890",
    "01",
    "+1",
    "1.",
    ".5",
    "0x10",
    "NaN",
    "1e-400",
};

static const char *const durations[] = {"\"1ms\"",
                                        "\"10ms\"",
                                        "\"1s\"",
                                        "\"1h30m\"",
                                        "\"7d\"",
                                        "\"0s\"",
                                        "\"-1s\"",
                                        "\"1\"",
                                        "\"\"",
                                        "\"1.5s\"",
                                        "30",
                                        "null",
                                        "\"999999999999999999d\"",
                                        "\"0.0000000001ms\"",
                                        "\"1s1s1s1s\"",
                                        "\"s\"",
                                        "\"292471208y\"",
                                        "\"106751991167d\"",
                                        "\"9223372036854775807ms\""};

static const char *const times[] = {"\"2026-01-31T12:00:00Z\"",
                                    "\"2999-12-31T23:59:59.999Z\"",
                                    "\"1969-12-31T23:59:59Z\"",
                                    "\"0000-01-01T00:00:00Z\"",
                                    "\"9999-12-31T23:59:60Z\"",
                                    "\"2026-02-30T00:00:00Z\"",
                                    "\"2026-01-31T12:00:00+99:99\"",
                                    "\"2026-01-31T12:00:00.123456789012-05:00\"",
                                    "\"now\"",
                                    "0",
                                    "null",
                                    "\"\""};

static const char *const strings[] = {
    "\"\"",
    "\"a\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\xc3\xa9\"",
    "\"\xff\"",
    "\"\xed\xa0\x80\"",
    "\"\xc0\xaf\"",
    "\"{x}\"",
    "\"a\\nb\"",
    "\"a\nb\"",
    "\"\\\"",
    "\"'; DROP TABLE invocations; --\"",
    "\"$(id)\"",
    "\"%s%n\"",
    "\"*\"",
    "\"exit:*\"",
    "\"../../etc/passwd\"",
};

/* Half of the time what is right. */
#define PICK_OR(chance, right, array) (chance_one_in((chance), 2) ? (right) : PICK((chance), (array)))

static const char *const keywords[] = {"true", "false", "null", "True", "nul", "{}", "[]", "{\"$result\":true}"};

static void add_value(struct maker *m, struct buf *out, int depth);

static void add_text(struct maker *m, struct buf *out)
{
    if (!chance_one_in(&m->chance, 4)) {
        buf_adds(out, PICK(&m->chance, strings));
        return;
    }
    size_t n = chance_one_in(&m->chance, 40) ? chance_below(&m->chance, 20000) : chance_below(&m->chance, 300);
    buf_addc(out, '"');
    for (size_t i = 0; i < n; i++)
        buf_addc(out, (char)('a' + i % 26));
    buf_addc(out, '"');
}

static void add_object(struct maker *m, struct buf *out, int depth)
{
    size_t n = chance_below(&m->chance, 5);
    buf_addc(out, '{');
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i ? "," : "");
        if (chance_one_in(&m->chance, 10))
            add_text(m, out);
        else
            buf_addf(out, "\"%c\"", (char)('v' + chance_below(&m->chance, 5)));
        buf_addc(out, ':');
        add_value(m, out, depth + 1);
    }
    buf_addc(out, '}');
}

static void add_nested(struct maker *m, struct buf *out)
{
    static const size_t depths[] = {10, 60, 62, 63, 64, 65, 200, 5000};
    size_t depth = PICK(&m->chance, depths);
    bool objects = chance_one_in(&m->chance, 2);
    for (size_t i = 0; i < depth; i++)
        buf_adds(out, objects ? "{\"a\":" : "[");
    buf_adds(out, objects ? "1" : "");
    for (size_t i = chance_one_in(&m->chance, 10); i < depth; i++)
        buf_addc(out, objects ? '}' : ']');
}

static void add_value(struct maker *m, struct buf *out, int depth)
{
    switch (chance_below(&m->chance, depth > 4 ? 6 : 10)) {
    case 0:
    case 1:
    case 2: buf_adds(out, PICK(&m->chance, numbers)); break;
    case 3:
    case 4: add_text(m, out); break;
    case 5: buf_adds(out, PICK(&m->chance, keywords)); break;
    case 6:
    case 7: add_object(m, out, depth); break;
    case 8:
        buf_addc(out, '[');
        for (size_t i = chance_below(&m->chance, 5), first = i; i; i--) {
            buf_adds(out, i == first ? "" : ",");
            add_value(m, out, depth + 1);
        }
        buf_addc(out, ']');
        break;
    default:
        if (chance_one_in(&m->chance, 10))
            add_nested(m, out);
        else
            add_object(m, out, depth);
    }
}

/* --- bodies ------------------------------------------------------------------------------ */

static void add_labels(struct maker *m, struct buf *out)
{
    size_t n = chance_one_in(&m->chance, 30) ? 20 + chance_below(&m->chance, 30) : chance_below(&m->chance, 4);
    buf_addc(out, '{');
    for (size_t i = 0; i < n; i++) {
        buf_addf(out, "%s\"l%zu\":", i ? "," : "", i);
        if (chance_one_in(&m->chance, 8))
            add_value(m, out, 3);
        else
            add_text(m, out);
    }
    buf_addc(out, '}');
}

static void add_right_or_odd_labels(struct maker *m, struct buf *out)
{
    buf_addl(out, ",\"labels\":");
    if (chance_one_in(&m->chance, 2))
        buf_addl(out, "{\"l0\":\"a\"}");
    else
        add_labels(m, out);
}

static void add_args(struct maker *m, struct buf *out, const char *task)
{
    if (chance_one_in(&m->chance, 4))
        add_value(m, out, 0);
    else if (strcmp(task, "add") == 0)
        buf_addf(out, chance_one_in(&m->chance, 2) ? "{\"x\":%s,\"y\":%s}" : "[%s,%s]", PICK(&m->chance, numbers),
                 PICK(&m->chance, numbers));
    else if (strcmp(task, "say") == 0)
        buf_addl(out, "{\"text\":"), add_text(m, out), buf_addc(out, '}');
    else if (strcmp(task, "nap") == 0)
        buf_addf(out, "{\"seconds\":%s}", chance_one_in(&m->chance, 3) ? "0.02" : "100");
    else
        add_value(m, out, 2);
}

/* Commands cost a process each, naps a slot: rarely. */
static const char *some_task(struct maker *m)
{
    size_t n = chance_below(&m->chance, 60);
    if (n < 20)
        return "noop";
    if (n < 45)
        return "echo";
    if (n < 50)
        return "add";
    return PICK(&m->chance, task_names);
}

static void add_submission(struct maker *m, struct buf *out)
{
    struct chance *c = &m->chance;
    const char *task = some_task(m);
    buf_addc(out, '{');
    if (!chance_one_in(c, 50))
        buf_addf(out, "\"task\":\"%s\"", task);
    else
        buf_addl(out, "\"task\":"), add_value(m, out, 2);
    if (!chance_one_in(c, 6))
        buf_addl(out, ",\"args\":"), add_args(m, out, task);
    if (chance_one_in(c, 8))
        buf_addf(out, ",\"priority\":%s", PICK_OR(c, "5", numbers));
    if (chance_one_in(c, 12))
        buf_addf(out, ",\"run_at\":%s", PICK_OR(c, times[0], times));
    if (chance_one_in(c, 12))
        buf_addf(out, ",\"delay\":%s", PICK_OR(c, "\"5ms\"", durations));
    if (chance_one_in(c, 12))
        buf_addf(out, ",\"expires_in\":%s", PICK_OR(c, "\"1m\"", durations));
    if (chance_one_in(c, 12))
        buf_addf(out, ",\"timeout\":%s", PICK_OR(c, "\"100ms\"", durations));
    if (chance_one_in(c, 12))
        buf_addf(out, ",\"max_retries\":%s", PICK_OR(c, "1", numbers));
    if (chance_one_in(c, 12))
        buf_addf(out, ",\"retention\":%s", PICK_OR(c, "\"1s\"", durations));
    if (chance_one_in(c, 8))
        add_right_or_odd_labels(m, out);
    if (chance_one_in(c, 8))
        buf_addf(out, ",\"key\":\"%s%zu\"", chance_one_in(c, 9) ? "\\u006b\\n" : "k", chance_below(c, 500));
    if (chance_one_in(c, 40))
        buf_addl(out, ",\"taks\":"), add_value(m, out, 2);
    if (chance_one_in(c, 60))
        buf_addf(out, ",\"\\u0074ask\":\"%s\"", task);
    buf_addc(out, '}');
}

static void add_lines(struct maker *m, struct buf *out)
{
    static const char *const ends[] = {"\n", "\n", "\n", "\n", "\r\n", "\n\n", " \n", "\r", ""};
    size_t n = chance_one_in(&m->chance, 30) ? chance_below(&m->chance, 1500) : chance_below(&m->chance, 6);
    if (n > 6) { /* many alike */
        for (size_t i = 0; i < n; i++)
            buf_addf(out, "{\"task\":\"noop\",\"args\":%zu}\n", i);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        add_submission(m, out);
        buf_adds(out, PICK(&m->chance, ends));
    }
}

static void add_patch(struct maker *m, struct buf *out)
{
    static const char *const forms[] = {
        "{\"priority\":%s}", "{\"priority\":%s,\"run_at\":null}", "{\"priorty\":%s}",
        "{\"run_at\":%s}",   "{\"priority\":%s,\"priority\":1}",  "[%s]"};
    if (chance_one_in(&m->chance, 4))
        buf_addf(out, "{\"run_at\":%s}", PICK(&m->chance, times));
    else
        buf_addf(out, PICK(&m->chance, forms), PICK(&m->chance, numbers));
}

static void add_ids(struct maker *m, struct buf *out)
{
    size_t n = chance_one_in(&m->chance, 300) ? 9990 + chance_below(&m->chance, 20) : chance_below(&m->chance, 20);
    buf_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i ? "," : "");
        if (chance_one_in(&m->chance, 30))
            add_value(m, out, 3);
        else
            buf_addf(out, "\"%s\"", some_id(m));
    }
    buf_addc(out, ']');
}

static void add_filter(struct maker *m, struct buf *out)
{
    static const char *const statuses[] = {
        "\"queued\"", "\"failed\"", "[\"running\",\"scheduled\"]",  "\"held\"", "[]",
        "[1]",        "\"QUEUED\"", "[\"cancelled\",\"cancelled\"]"};
    struct chance *c = &m->chance;
    const char *comma = "";
    buf_addc(out, '{');
    if (chance_one_in(c, 2))
        buf_addf(out, "%s\"status\":%s", comma, PICK(c, statuses)), comma = ",";
    if (chance_one_in(c, 3))
        buf_addf(out, "%s\"task\":\"%s\"", comma, PICK(c, task_names)), comma = ",";
    if (chance_one_in(c, 5))
        buf_addf(out, "%s\"created_after\":%s", comma, PICK(c, times)), comma = ",";
    if (chance_one_in(c, 5))
        buf_addf(out, "%s\"created_before\":%s", comma, PICK(c, times)), comma = ",";
    if (chance_one_in(c, 5))
        buf_addf(out, "%s\"error\":%s", comma, PICK(c, strings)), comma = ",";
    if (chance_one_in(c, 5))
        buf_addf(out, "%s\"labels\":", comma), add_labels(m, out), comma = ",";
    if (chance_one_in(c, 8))
        buf_addf(out, "%s\"key\":\"k%zu\"", comma, chance_below(c, 500)), comma = ",";
    if (chance_one_in(c, 20))
        buf_addf(out, "%s\"worker\":", comma), add_value(m, out, 3);
    buf_addc(out, '}');
}

static void add_selection(struct maker *m, struct buf *out)
{
    static const char *const dry[] = {"", "", "", ",\"dry_run\":true", ",\"dry_run\":false", ",\"dry_run\":1"};
    if (chance_one_in(&m->chance, 25)) {
        buf_addl(out, "{\"filter\":{}}"); /* all: what naps or is far off goes */
        return;
    }
    if (chance_one_in(&m->chance, 2))
        buf_addl(out, "{\"ids\":"), add_ids(m, out);
    else
        buf_addl(out, "{\"filter\":"), add_filter(m, out);
    if (chance_one_in(&m->chance, 20))
        buf_addl(out, ",\"ids\":"), add_ids(m, out);
    if (chance_one_in(&m->chance, 50))
        buf_addl(out, ",\"\\u0069ds\":"), add_ids(m, out);
    buf_adds(out, PICK(&m->chance, dry));
    buf_addc(out, '}');
}

/* --- workers ----------------------------------------------------------------------------- */

static const char *some_lease(struct maker *m)
{
    static const char *const odd[] = {"x", "0BYZ2H9QW4G00-5c1e09a37b42d8f6", "0BYZ2H9QW4G00-0000000000000000",
                                      "%00"};
    return chance_one_in(&m->chance, 20) ? PICK(&m->chance, odd)
                                         : recall(&m->chance, m->known.leases, m->known.lease_count);
}

static void add_error(struct maker *m, struct buf *out)
{
    static const char *const errors[] = {
        "{\"type\":\"Oops\"}",
        "{\"type\":\"Oops\",\"message\":\"\\u0000\",\"retry\":true}",
        "{\"type\":\"\\u0041\",\"retry_after\":\"1ms\",\"types\":[\"A\",\"B\"]}",
        "{\"type\":\"x\",\"stderr\":\"\\ud83d\\ude00\",\"exit_code\":-1,\"retry\":false}",
        "{\"type\":\"\"}",
        "{\"type\":7,\"types\":[7],\"retry\":0}",
        "{}",
        "null"};
    buf_adds(out, PICK(&m->chance, errors));
}

static void add_schedule(struct maker *m, struct buf *out)
{
    static const char *const bodies[] = {
        "{\"cron\":\"* * * * *\",\"task\":\"echo\"}",
        "{\"cron\":\"0 0 L * 5#2\",\"task\":\"echo\",\"timezone\":\"Europe/Berlin\",\"args\":[1]}",
        "{\"cron\":\"@daily\",\"task\":\"far\",\"jitter\":\"5m\",\"dst\":{\"gap\":\"skip\"}}",
        "{\"cron\":\"@daily\",\"task\":\"echo\",\"overlap\":\"cancel\",\"labels\":{\"a\":\"b\"}}",
        "{\"cron\":\"\\u0030 0 30 2 *\",\"task\":\"echo\"}",
        "{\"cron\":\"@daily\",\"task\":\"echo\",\"timezone\":\"../x\"}",
        "{\"from\":\"2026-01-01T00:00:00Z\",\"to\":\"2026-01-01T00:03:00Z\"}",
        "{\"from\":\"0000-01-01T00:00:00Z\",\"to\":\"9999-12-31T23:59:59Z\"}",
        "{}"};
    buf_adds(out, PICK(&m->chance, bodies));
}

static void add_lease_request(struct maker *m, struct buf *out)
{
    static const char *const workers[] = {
        "\"a\"", "\"b\"",     "{\"name\":\"c\",\"pid\":7,\"host\":\"h\",\"version\":\"\\u0031\"}",
        "\"\"",  "\"local\"", "{\"name\":\"x/y\"}",
        "7"};
    static const char *const more[] = {"",
                                       "",
                                       "",
                                       ",\"tasks\":[\"far\",\"nosuch\"]",
                                       ",\"tasks\":[]",
                                       ",\"tasks\":[\"noop\"]",
                                       ",\"max\":100",
                                       ",\"max\":0",
                                       ",\"max\":-1",
                                       ",\"wait\":\"10ms\"",
                                       ",\"wait\":\"61s\"",
                                       ",\"lease\":\"1s\"",
                                       ",\"lease\":\"2h\"",
                                       ",\"suspend\":1"};
    struct chance *c = &m->chance;
    buf_addf(out, "{\"worker\":%s", workers[chance_below(c, chance_one_in(c, 10) ? COUNT(workers) : 3)]);
    buf_adds(out, PICK(c, more));
    if (chance_one_in(c, 3)) {
        buf_addl(out, ",\"done\":[");
        for (size_t i = 1 + chance_below(c, 3), n = i; i; i--) {
            buf_addf(out, "%s{\"token\":\"%s\",", i == n ? "" : ",", some_lease(m));
            if (chance_one_in(c, 2))
                buf_addl(out, "\"error\":"), add_error(m, out);
            else
                buf_addf(out, "\"result\":%s", PICK(c, numbers));
            buf_addc(out, '}');
        }
        buf_addc(out, ']');
    }
    buf_addc(out, '}');
}

static void add_turn_body(struct maker *m, struct buf *out)
{
    static const char *const bodies[] = {"{}",
                                         "{\"progress\":0.5}",
                                         "{\"progress\":{\"value\":1,\"note\":\"\\u0000\"}}",
                                         "{\"progress\":1e999}",
                                         "{\"result\":{\"a\":[1.10]}}",
                                         "{\"result\":null}",
                                         "{\"messages\":[1,{\"a\":[]},null]}",
                                         "{\"messages\":{}}",
                                         "{\"value\":{\"a\":1.10}}",
                                         "{\"task\":\"far\",\"step\":\"s\"}",
                                         "{\"task\":\"noop\",\"detached\":true,\"step\":\"\\u0073\"}",
                                         "[]"};
    if (chance_one_in(&m->chance, 3)) {
        buf_addl(out, "{\"error\":");
        add_error(m, out);
        buf_addc(out, '}');
    } else {
        buf_adds(out, PICK(&m->chance, bodies));
    }
}

/* --- mutation ------------------------------------------------------------------------------ */

static const char *const tokens[] = {
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\xff",
    "\xed\xa0\x80",
    "\xf4\x90\x80\x80",
    "\xef\xbb\xbf",
    "null",
    "true",
    "1e999",
    "99999999999999999999",
    "-",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":",
    "\r",
    "\n",
    "\t",
    "%00",
    "%",
    "%zz",
    "&",
    "=",
    "+",
    "..",
    "/",
    "//",
    "?",
    "#",
    "\r\n",
    "\r\n\r\n",
    " ",
    ";",
    "\x7f",
    "\x01",
};

static void splice(struct buf *b, size_t at, size_t removed, const char *p, size_t n)
{
    struct buf copy = {0};
    buf_add(&copy, p, n); /* it may be of b itself */
    buf_reserve(b, n);
    memmove(b->data + at + n, b->data + at + removed, b->len - at - removed);
    if (n)
        memcpy(b->data + at, copy.data, n);
    b->len = b->len - removed + n;
    buf_release(&copy);
}

static size_t some_length(struct chance *c, size_t left)
{
    size_t n = chance_one_in(c, 4) ? left : left < 16 ? left : 16;
    return n ? 1 + chance_below(c, n) : 0;
}

/* One change to the bytes from `start` on. */
static void mutate_once(struct chance *c, struct buf *b, size_t start)
{
    size_t left = b->len - start;
    size_t at = start + (left ? chance_below(c, left) : 0);
    const char *token = PICK(c, tokens);
    size_t n = some_length(c, b->len - at);
    if (!left) {
        buf_adds(b, token);
        return;
    }
    switch (chance_below(c, 9)) {
    case 0: b->data[at] ^= (char)(1 << chance_below(c, 8)); break;
    case 1: b->data[at] = (char)chance_next(c); break;
    case 2: splice(b, at, n, "", 0); break;
    case 3: splice(b, at, 0, b->data + at, n); break;
    case 4:
    case 5: splice(b, at, 0, token, strlen(token)); break;
    case 6: splice(b, at, n, token, strlen(token)); break;
    case 7: b->len = at; break;
    default: /* a number becomes another */
        while (at < b->len && !isdigit((unsigned char)b->data[at]))
            at++;
        for (n = 0; at + n < b->len && isdigit((unsigned char)b->data[at + n]);)
            n++;
        if (n) {
            const char *number = PICK(c, numbers);
            splice(b, at, n, number, strlen(number));
        }
    }
}

static void mutate(struct chance *c, struct buf *b, size_t start)
{
    for (size_t i = 1 + chance_below(c, chance_one_in(c, 3) ? 8 : 2); i; i--)
        mutate_once(c, b, start);
}

/* --- targets ---------------------------------------------------------------------------------- */

enum body { NO_BODY, SUBMISSION, PATCH, SELECTION, LEASE, TURN, SCHEDULE };

static const struct target {
    const char *method, *path; /* %s: an id, or of a turn the token; {}: a task */
    enum body body;
    bool admin, query, log, turn;
    int weight;
} targets[] = {
    {"POST", "/tasks", SUBMISSION, .weight = 30},
    {"GET", "/tasks", .weight = 2},
    {"GET", "/tasks/{}", .weight = 2},
    {"POST", "/tasks/{}/pause", .admin = true, .weight = 1},
    {"POST", "/tasks/{}/resume", .admin = true, .weight = 4},
    {"GET", "/invocations", .query = true, .weight = 12},
    {"POST", "/invocations/cancel", SELECTION, .weight = 2},
    {"POST", "/invocations/retry", SELECTION, .weight = 2},
    {"GET", "/invocations/%s", .query = true, .weight = 8},
    {"PATCH", "/invocations/%s", PATCH, .weight = 4},
    {"DELETE", "/invocations/%s", .admin = true, .weight = 3},
    {"GET", "/invocations/%s/result", .query = true, .weight = 4},
    {"GET", "/invocations/%s/attempts", .weight = 3},
    {"GET", "/invocations/%s/log", .log = true, .weight = 5},
    {"POST", "/invocations/%s/cancel", .weight = 3},
    {"POST", "/invocations/%s/retry", .weight = 3},
    {"GET", "/stats", .weight = 1},
    {"GET", "/healthz", .weight = 2},
    {"GET", "/readyz", .weight = 1},
    {"GET", "/version", .weight = 1},
    {"GET", "/openapi.yaml", .weight = 1},
    {"POST", "/pause", .admin = true, .weight = 1},
    {"POST", "/resume", .admin = true, .weight = 6},
    {"GET", "/shutdown", .weight = 1}, /* POST stops the server: no such request is made */
    {"GET", "/schedules", .weight = 1},
    {"GET", "/schedules/preview?cron=*/5+*+*+*+*&timezone=Europe/Berlin&count=9", .weight = 1},
    {"GET", "/schedules/x", .weight = 1},
    {"PUT", "/schedules/x", SCHEDULE, .admin = true, .weight = 3},
    {"DELETE", "/schedules/x", .admin = true, .weight = 1},
    {"POST", "/schedules/x/pause", .admin = true, .weight = 1},
    {"POST", "/schedules/x/resume", .admin = true, .weight = 1},
    {"POST", "/schedules/x/run", .weight = 1},
    {"POST", "/schedules/x/backfill", SCHEDULE, .weight = 1},
    {"POST", "/leases", LEASE, .weight = 8},
    {"GET", "/leases/%s", .turn = true, .weight = 1},
    {"POST", "/leases/%s/heartbeat", TURN, .turn = true, .weight = 3},
    {"POST", "/leases/%s/complete", TURN, .turn = true, .weight = 3},
    {"POST", "/leases/%s/fail", TURN, .turn = true, .weight = 3},
    {"POST", "/leases/%s/log", TURN, .turn = true, .weight = 1},
    {"POST", "/leases/%s/children", SUBMISSION, .turn = true, .weight = 2},
    {"POST", "/leases/%s/children", TURN, .turn = true, .weight = 1},
    {"PUT", "/leases/%s/steps/s", TURN, .turn = true, .weight = 2},
    {"GET", "/leases/%s/steps", .turn = true, .weight = 1},
    {"POST", "/leases/%s/messages", TURN, .turn = true, .weight = 2},
    {"GET", "/leases/%s/inbox", .turn = true, .query = true, .weight = 2},
    {"GET", "/invocations/%s/steps", .weight = 1},
    {"POST", "/invocations/%s/inbox", TURN, .weight = 2},
    {"GET", "/workers", .weight = 1},
    {"POST", "/workers/a/quiet", .admin = true, .weight = 1},
    {"POST", "/workers/a/active", .admin = true, .weight = 2},
    {"GET", "/", .weight = 1},
};

static const struct target *some_target(struct chance *c)
{
    int total = 0;
    for (size_t i = 0; i < COUNT(targets); i++)
        total += targets[i].weight;
    int n = (int)chance_below(c, (size_t)total);
    const struct target *target = targets;
    while (n >= target->weight)
        n -= target++->weight;
    return target;
}

static void add_parameter(struct maker *m, struct buf *out, bool *waits)
{
    static const char *const fixed[] = {
        "status=queued",
        "status=failed&status=running",
        "status=held",
        "order=oldest",
        "order=newest",
        "order=x",
        "view=full",
        "view=basic",
        "view=",
        "error=exit:*",
        "error=timeout",
        "created_after=2026-01-01T00:00:00Z",
        "created_before=1e9",
        "task=%65cho",
        "task=gone",
        "worker=slot-0",
        "label.l0=a",
        "label.=a",
        "label.%00=a",
        "label.l0=%C3%A9",
        "limit=0",
        "limit=1000",
        "limit=1001",
        "limit=-1",
        "limit=99999999999999999999",
        "cursor=",
        "cursor=AAAAAAAAAAA",
        "cursor=%FF",
        "nonsense=1",
        "=",
        "&&&",
        "%",
        "status",
        "status=queued&status=queued",
        "a+b=c+d",
    };
    static const char *const waited[] = {"0", "0.001", "0.01", "10ms", "0.02s", "-1", "x", "1e3", "", "0.05"};
    struct chance *c = &m->chance;
    switch (chance_below(c, 8)) {
    case 0: buf_addf(out, "cursor=%s", recall(c, m->known.cursors, m->known.cursor_count)); break;
    case 1: buf_addf(out, "limit=%zu", 1 + chance_below(c, 50)); break;
    case 2: buf_addf(out, "task=%s", PICK(c, task_names)); break;
    case 3: buf_addf(out, "key=k%zu", chance_below(c, 500)); break;
    case 4:
        if (chance_one_in(c, 30)) {
            buf_addl(out, "wait=60");
            *waits = true;
        } else {
            buf_addf(out, "wait=%s", PICK(c, waited));
        }
        break;
    default: buf_adds(out, PICK(c, fixed)); break;
    }
}

static void add_log_query(struct maker *m, struct buf *out, bool *waits)
{
    static const char *const queries[] = {"",           "?attempt=1",          "?attempt=2",
                                          "?attempt=0", "?attempt=2147483648", "?follow=false",
                                          "?follow=1",  "?attempt=1&attempt=1"};
    if (chance_one_in(&m->chance, 10)) {
        buf_adds(out, "?follow=true");
        *waits = true;
    } else {
        buf_adds(out, PICK(&m->chance, queries));
    }
}

/* Nothing in it may end the request line. */
static void mend_target(struct buf *out, size_t start)
{
    for (size_t i = start; i < out->len; i++)
        if ((unsigned char)out->data[i] <= ' ')
            out->data[i] = '~';
}

static void add_target(struct maker *m, struct buf *out, const struct target *target, bool *waits)
{
    struct chance *c = &m->chance;
    size_t start = out->len;
    const char *braces = strstr(target->path, "{}");
    if (braces)
        buf_addf(out, "%.*s%s%s", (int)(braces - target->path), target->path, PICK(c, task_names), braces + 2);
    else
        buf_addf(out, target->path, target->turn ? some_lease(m) : some_id(m));
    if (target->log)
        add_log_query(m, out, waits);
    else if (target->query ? !chance_one_in(c, 4) : chance_one_in(c, 30))
        for (size_t i = 1 + chance_below(c, chance_one_in(c, 50) ? 80 : 3), n = i; i; i--) {
            buf_addc(out, i == n ? '?' : '&');
            add_parameter(m, out, waits);
        }
    if (chance_one_in(c, 10)) {
        mutate(c, out, start + 1);
        *waits = true; /* who knows */
    }
    mend_target(out, start);
}

/* --- headers --------------------------------------------------------------------------------------- */

struct plan {
    struct made made;
    const struct target *target;
    bool http10;
};

static void add_header(struct maker *m, struct buf *out, struct plan *plan)
{
    static const char *const fixed[] = {
        "Accept: */*",
        "Accept: text/html;q=0.9, */*;q=\x80",
        "User-Agent: storm",
        "Origin: http://127.0.0.1",
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: https://app.example",
        "Origin: ",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-origin",
        "If-None-Match: *",
        "If-None-Match: \"x\"",
        "If-None-Match: W/\"",
        "If-None-Match: ,,,,",
        "Range: bytes=0-",
        "Range: bytes=-5",
        "Range: bytes=5-1",
        "Range: bytes=0-99999999999999999999",
        "Range: bytes=9999999-",
        "Range: lines=1-2",
        "Range: bytes=0-1,3-4",
        "If-Range: \"x\"",
        "X-Empty:",
        "Cookie: a=b; c",
        "Prefer: wait=0",
        "Prefer: respond-async, wait=0.01",
        "Prefer: wait=x",
        "Prefer: wait=",
        "Prefer: ;;wait=0.005;a",
        "Prefer: return=minimal",
        "Prefer: return=minimal, wait=0.01",
        "Idempotency-Key: ",
        "Idempotency-Key: \xff\xfe",
        "Access-Control-Request-Method: POST",
        "Accept-Encoding: gzip",
        "Connection: keep-alive",
        "Via: 1.1 x",
        "Upgrade: h2c",
        "X-Forwarded-For: 1.2.3.4",
        "TE: trailers",
        "Authorization: Basic eDp5",
        "Authorization: Bearer",
        "Content-Encoding: gzip",
        "X-Tab:\tx\t",
        "Forwarded: for=\"[::1]\"",
    };
    struct chance *c = &m->chance;
    switch (chance_below(c, 14)) {
    case 0: buf_addf(out, "Idempotency-Key: k%zu", chance_below(c, 500)); break;
    case 1:
    case 2: buf_addf(out, "If-None-Match: %s", recall(c, m->known.tags, m->known.tag_count)); break;
    case 3:
        buf_addl(out, "X-Long: ");
        for (size_t i = chance_one_in(c, 20) ? chance_below(c, 20000) : chance_below(c, 500); i; i--)
            buf_addc(out, 'x');
        plan->made.may_close = true;
        break;
    case 4:
        if (chance_one_in(c, 10)) {
            buf_addl(out, "Connection: close");
            plan->made.may_close = true;
        } else if (chance_one_in(c, 20)) {
            buf_addl(out, "Prefer: wait=60");
            plan->made.waits = true;
        } else {
            buf_addl(out, "Prefer: wait=0.02");
        }
        break;
    default: buf_adds(out, PICK(c, fixed)); break;
    }
    buf_addl(out, "\r\n");
}

static void add_host(struct maker *m, struct buf *out, struct plan *plan)
{
    static const char *const hosts[] = {
        "localhost", "127.0.0.1:8080", "[::1]:1", "storm.example", "evil.example", "LOCALHOST:99999", "[", "]", "",
        ":",         "a:b:c",          "[::1",    "127.0.0.1.",    "\xff"};
    if (chance_one_in(&m->chance, 40)) {
        plan->made.may_close = true; /* without or with two: libmicrohttpd has its own mind */
        if (chance_one_in(&m->chance, 2))
            return;
        buf_addl(out, "Host: localhost\r\n");
    }
    buf_addf(out, "Host: %s\r\n", chance_one_in(&m->chance, 20) ? PICK(&m->chance, hosts) : "localhost");
}

static void add_token(struct maker *m, struct buf *out, bool admin)
{
    const char *token = admin ? m->admin_token : m->token;
    if (!m->token || chance_one_in(&m->chance, 60))
        return;
    buf_addf(out, "Authorization: Bearer %s%s\r\n", token, chance_one_in(&m->chance, 60) ? "x" : "");
}

static void add_media(struct maker *m, struct buf *out, bool lines)
{
    static const char *const odd[] = {"text/plain",
                                      "application/json; charset=utf-8",
                                      "APPLICATION/JSON",
                                      ";",
                                      "",
                                      "application/x-www-form-urlencoded",
                                      "multipart/form-data; boundary=x",
                                      "application/x-ndjson"};
    if (chance_one_in(&m->chance, 25))
        buf_addf(out, "Content-Type: %s\r\n", PICK(&m->chance, odd));
    else if (!chance_one_in(&m->chance, 60))
        buf_addf(out, "Content-Type: application/%s\r\n", lines ? "x-ndjson" : "json");
}

/* --- a whole request ------------------------------------------------------------------------------- */

static void add_chunked(struct maker *m, struct buf *out)
{
    struct chance *c = &m->chance;
    bool small = chance_one_in(c, 10);
    buf_addl(out, "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0; at < m->body.len;) {
        size_t left = m->body.len - at, n = 1 + chance_below(c, small && left > 8 ? 8 : left);
        buf_addf(out, chance_one_in(c, 10) ? "%zX;ext=\"1\"\r\n" : "%zx\r\n", n);
        buf_add(out, m->body.data + at, n);
        buf_addl(out, "\r\n");
        at += n;
    }
    buf_adds(out, chance_one_in(c, 10) ? "0\r\nX-Trailer: 1\r\n\r\n" : "0\r\n\r\n");
}

static void add_body(struct maker *m, struct buf *out, struct plan *plan)
{
    if (plan->http10 || !chance_one_in(&m->chance, 8)) {
        buf_addf(out, "Content-Length: %zu\r\n\r\n", m->body.len);
        buf_add_span(out, buf_span(&m->body));
    } else {
        add_chunked(m, out);
    }
}

static void make_body(struct maker *m, const struct target *target, bool lines)
{
    struct chance *c = &m->chance;
    m->body.len = 0;
    switch (target->body) {
    case NO_BODY:
        if (chance_one_in(c, 30))
            add_value(m, &m->body, 1);
        break;
    case SUBMISSION:
        if (lines)
            add_lines(m, &m->body);
        else
            add_submission(m, &m->body);
        break;
    case PATCH: add_patch(m, &m->body); break;
    case SELECTION: add_selection(m, &m->body); break;
    case LEASE: add_lease_request(m, &m->body); break;
    case TURN: add_turn_body(m, &m->body); break;
    case SCHEDULE: add_schedule(m, &m->body); break;
    }
    if (m->body.len && chance_one_in(c, 5))
        mutate(c, &m->body, 0);
    if (target->body != NO_BODY && chance_one_in(c, 4000)) { /* over the limit */
        size_t n = (1 << 20) + chance_below(c, 100000);
        buf_reserve(&m->body, n);
        memset(m->body.data + m->body.len, chance_one_in(c, 2) ? ' ' : '[', n);
        m->body.len += n;
    }
}

static struct made make(struct maker *m, struct buf *out, bool wild)
{
    static const char *const methods[] = {"GET",     "POST",  "PUT",  "PATCH", "DELETE",
                                          "OPTIONS", "TRACE", "BREW", "get"};
    struct chance *c = &m->chance;
    struct plan plan = {.made = {.tame = !wild}, .target = some_target(c)};
    const struct target *target = plan.target;
    const char *method = target->method;
    bool lines = target->body == SUBMISSION && chance_one_in(c, 6);

    while (wild && target->admin) /* what it became might stop the server */
        target = some_target(c), method = target->method;
    if (chance_one_in(c, 40) && strcmp(target->path, "/shutdown") != 0)
        method = PICK(c, methods);
    else if (!wild && strcmp(method, "GET") == 0 && chance_one_in(c, 10))
        method = "HEAD";
    plan.made.head = strcmp(method, "HEAD") == 0;
    plan.http10 = chance_one_in(c, 100);
    make_body(m, target, lines);

    buf_addf(out, "%s ", method);
    add_target(m, out, target, &plan.made.waits);
    buf_adds(out, plan.http10 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
    add_host(m, out, &plan);
    add_token(m, out, target->admin);
    if (m->body.len)
        add_media(m, out, lines);
    for (size_t i = chance_below(c, 4); i; i--)
        add_header(m, out, &plan);
    if (chance_one_in(c, 200)) {
        buf_addl(out, "Expect: 100-continue\r\n");
        plan.made.may_close = true;
    }
    if (m->body.len || target->body != NO_BODY)
        add_body(m, out, &plan);
    else
        buf_addl(out, "\r\n");
    /* A body where none is due, or one that is refused unread, may end the connection. */
    plan.made.may_close |= plan.http10 || m->body.len > 100000;
    return plan.made;
}

struct made make_tame(struct maker *m, struct buf *out)
{
    return make(m, out, false);
}

static void add_smuggled(struct maker *m, struct buf *out, size_t start)
{
    static const char *const lines[] = {
        "Content-Length: 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 0x10\r\n",
        "Content-Length: 5, 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Host: evil.example\r\n",
        " folded: line\r\n",
        "\tfolded\r\n",
        "No-Colon\r\n",
        ": no name\r\n",
        "Bad Name: x\r\n",
        "X: a\0b\r\n",
        "Content-Length : 3\r\n",
        "\r\n",
        "\n",
        "X: \r\r\n",
        "Transfer-Encoding:\x0b"
        "chunked\r\n",
    };
    const char *end = memmem(out->data + start, out->len - start, "\r\n", 2);
    if (!end)
        return;
    const char *line = PICK(&m->chance, lines);
    size_t n = strncmp(line, "X: a", 4) == 0 ? 8 : strlen(line);
    splice(out, (size_t)(end - out->data) + 2, 0, line, n);
}

struct made make_wild(struct maker *m, struct buf *out)
{
    struct chance *c = &m->chance;
    size_t start = out->len;
    struct made made = make(m, out, true);
    if (chance_one_in(c, 50)) { /* nothing of HTTP in it */
        out->len = start;
        for (size_t i = 1 + chance_below(c, 3000); i; i--)
            buf_addc(out, (char)chance_next(c));
    } else {
        if (chance_one_in(c, 2))
            add_smuggled(m, out, start);
        if (!chance_one_in(c, 3))
            mutate(c, out, start);
    }
    made.tame = false;
    made.may_close = true;
    return made;
}

void maker_release(struct maker *m)
{
    buf_release(&m->body);
}
