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
