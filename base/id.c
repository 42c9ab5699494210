#include "base/id.h"

enum { SEQUENCE_BITS = 12, NODE_BITS = 10, TIME_SHIFT = SEQUENCE_BITS + NODE_BITS, DIGIT_BITS = 5 };

#define SEQUENCE_MAX ((INT64_C(1) << SEQUENCE_BITS) - 1)
#define TIME_MAX ((INT64_C(1) << 41) - 1)

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static int64_t make(int64_t time, int64_t node, int64_t sequence)
{
    return time << TIME_SHIFT | node << SEQUENCE_BITS | sequence;
}

int64_t id_next(struct id_source *source, int64_t now_ms)
{
    int64_t time = now_ms - ID_EPOCH_MS;
    int64_t last_time = source->last >> TIME_SHIFT;
    int64_t sequence = 0;
    if (time > TIME_MAX)
        time = TIME_MAX;
    if (time <= last_time) {
        time = last_time;
        sequence = (source->last & SEQUENCE_MAX) + 1;
    }
    /* The last id may be another node's, so that ours would not be above it. */
    if (sequence > SEQUENCE_MAX || make(time, source->node, sequence) <= source->last) {
        time = last_time + 1;
        sequence = 0;
    }
    source->last = make(time, source->node, sequence);
    return source->last;
}

/* --- the clock that ids follow --------------------------------------------------- */

static void be_good(struct id_clock *clock, int64_t wall_ms, int64_t boot_ms)
{
    clock->good_wall_ms = wall_ms;
    clock->good_boot_ms = boot_ms;
    clock->ahead_since_ms = 0;
}

static void begin(struct id_clock *clock, int64_t wall_ms, int64_t boot_ms)
{
    int64_t limit = clock->last_ms ? clock->last_ms + ID_REST_MAX_MS : ID_EPOCH_MS + TIME_MAX / 2;
    be_good(clock, wall_ms <= limit ? wall_ms : clock->last_ms ? clock->last_ms : ID_EPOCH_MS, boot_ms);
}

int64_t id_clock_follow(struct id_clock *clock, int64_t wall_ms, int64_t boot_ms)
{
    if (!clock->good_boot_ms)
        begin(clock, wall_ms, boot_ms);
    int64_t expected = clock->good_wall_ms + (boot_ms - clock->good_boot_ms);
    if (wall_ms <= expected + ID_STEP_MAX_MS) {
        be_good(clock, wall_ms, boot_ms);
        return wall_ms;
    }
    /* Where the clock would stand now had it gone on since it was seen ahead. */
    int64_t steady = clock->ahead_wall_ms + (boot_ms - clock->ahead_since_ms);
    if (!clock->ahead_since_ms || wall_ms > steady + ID_STEP_MAX_MS) {
        clock->ahead_since_ms = boot_ms;
        clock->ahead_wall_ms = wall_ms;
    }
    if (boot_ms - clock->ahead_since_ms < ID_STEP_MAX_MS || wall_ms > expected + ID_REST_MAX_MS)
        return expected;
    be_good(clock, wall_ms, boot_ms);
    return wall_ms;
}

/* --- ids ---------------------------------------------------------------------------- */

int64_t id_time_ms(int64_t id)
{
    return (id >> TIME_SHIFT) + ID_EPOCH_MS;
}

int64_t id_lowest_at(int64_t at_ms)
{
    if (at_ms <= ID_EPOCH_MS)
        return 0;
    if (at_ms - ID_EPOCH_MS > TIME_MAX)
        return INT64_MAX;
    return make(at_ms - ID_EPOCH_MS, 0, 0);
}

void id_format(int64_t id, char text[ID_TEXT_LEN])
{
    uint64_t rest = (uint64_t)id;
    for (int i = ID_TEXT_LEN - 1; i >= 0; i--) {
        text[i] = digits[rest & 31];
        rest >>= DIGIT_BITS;
    }
}

void id_add(struct buf *out, int64_t id)
{
    buf_reserve(out, ID_TEXT_LEN);
    id_format(id, out->data + out->len);
    out->len += ID_TEXT_LEN;
}

static int digit_value(char c)
{
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    if (c == 'I' || c == 'L')
        return 1;
    if (c == 'O')
        return 0;
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

bool id_parse(struct span text, int64_t *id)
{
    if (text.len != ID_TEXT_LEN)
        return false;
    uint64_t value = 0;
    for (int i = 0; i < ID_TEXT_LEN; i++) {
        int digit = digit_value(text.p[i]);
        if (digit < 0 || (i == 0 && digit > 7))
            return false;
        value = value << DIGIT_BITS | (uint64_t)digit;
    }
    *id = (int64_t)value;
    return true;
}
