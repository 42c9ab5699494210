#include "workers/tasks/zone.h"

#include "workers/tasks/calendar.h"
#include "workers/tasks/zone_rule.h"

#include <stdlib.h>

/* Changes further away than 30,000 years are none. */
#define FAR_S (INT64_C(1) << 40)
enum { EXPANDED_YEARS = 403, YEAR_WITHOUT_CHANGES = 1970, HEADER_BYTES = 44, TYPE_BYTES = 6 };

struct zone_change {
    int64_t at;
    int offset; /* from then on */
};

struct zone {
    int first; /* before all changes */
    struct zone_change *changes;
    int count, cap;
    int64_t
        repeats_from; /* later times are as they were a multiple of 400 years before; INT64_MAX: there is no rule */
};

bool zone_name_is_good(struct span name)
{
    if (!name.p || !name.len || name.len > ZONE_NAME_MAX || name.p[name.len - 1] == '/')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (c == '/' ? i == 0 || name.p[i - 1] == '/' : !letter && c != '_' && c != '+' && c != '-')
            return false;
    }
    return true;
}

/* --- building ------------------------------------------------------------------ */

static int last_offset(const struct zone *zone)
{
    return zone->count ? zone->changes[zone->count - 1].offset : zone->first;
}

/* In the order of time. What changes nothing is none, and of two at a moment the second counts. */
static void add_change(struct zone *zone, int64_t at, int offset)
{
    if (zone->count && zone->changes[zone->count - 1].at > at)
        return; /* a rule whose summers overlap */
    if (zone->count && zone->changes[zone->count - 1].at == at)
        zone->count--;
    if (offset == last_offset(zone))
        return;
    if (zone->count == zone->cap) {
        zone->cap = zone->cap ? 2 * zone->cap : 64;
        zone->changes = xrealloc(zone->changes, (size_t)zone->cap * sizeof *zone->changes);
    }
    zone->changes[zone->count++] = (struct zone_change){at, offset};
}

static void add_later(struct zone *zone, int64_t last, const struct zone_change *change)
{
    if (change->at > last)
        add_change(zone, change->at, change->offset);
}

/* As the rule says, for all years of one cycle and some. */
static void expand(struct zone *zone, const struct zone_rule *rule)
{
    int64_t last = zone->count ? zone->changes[zone->count - 1].at : INT64_MIN;
    int64_t year = zone->count ? calendar_date(floor_div(last, DAY_S)).year : YEAR_WITHOUT_CHANGES;
    if (!zone->count)
        zone->first = rule->standard;
    if (!rule->has_summer)
        return;
    for (int i = 0; i < EXPANDED_YEARS; i++) {
        struct zone_change summer = {zone_rule_begins(rule, year + i), rule->summer};
        struct zone_change standard = {zone_rule_ends(rule, year + i), rule->standard};
        bool north = summer.at <= standard.at;
        add_later(zone, last, north ? &summer : &standard);
        add_later(zone, last, north ? &standard : &summer);
    }
    zone->repeats_from = calendar_day(year + EXPANDED_YEARS - 2, 1, 1) * DAY_S;
}

/* --- reading -------------------------------------------------------------------- */

struct tzif_counts {
    uint32_t utc, standard, leap, times, types, chars;
};

static uint32_t read_u32(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static int64_t read_time(const char *p, int bytes)
{
    int64_t high = (int32_t)read_u32(p);
    return bytes == 4 ? high : (int64_t)((uint64_t)high << 32 | read_u32(p + 4));
}

static bool read_header(struct span file, struct tzif_counts *counts, char *version)
{
    if (file.len < HEADER_BYTES || memcmp(file.p, "TZif", 4) != 0)
        return false;
    *version = file.p[4];
    *counts = (struct tzif_counts){read_u32(file.p + 20), read_u32(file.p + 24), read_u32(file.p + 28),
                                   read_u32(file.p + 32), read_u32(file.p + 36), read_u32(file.p + 40)};
    return true;
}

/* Counts are of 32 bits, so that this does not overflow. */
static uint64_t block_bytes(const struct tzif_counts *counts, unsigned time_bytes)
{
    return (uint64_t)counts->times * (time_bytes + 1) + (uint64_t)counts->types * TYPE_BYTES + counts->chars +
           (uint64_t)counts->leap * (time_bytes + 4) + counts->standard + counts->utc;
}

static const char *read_changes(struct zone *zone, const char *times, const struct tzif_counts *counts, int bytes)
{
    const char *indexes = times + (size_t)counts->times * (size_t)bytes;
    const char *types = indexes + counts->times;
    int64_t before = INT64_MIN;
    for (uint32_t i = 0; i < counts->types; i++) {
        int offset = (int32_t)read_u32(types + (size_t)i * TYPE_BYTES);
        if (offset <= -ZONE_OFFSET_MAX_S || offset >= ZONE_OFFSET_MAX_S)
            return "an offset is out of range";
    }
    zone->first = (int32_t)read_u32(types);
    for (uint32_t i = 0; i < counts->times; i++) {
        int64_t at = read_time(times + (size_t)i * (size_t)bytes, bytes);
        unsigned type = (unsigned char)indexes[i];
        if (type >= counts->types || (i && at <= before) || at > FAR_S)
            return "its changes are not in order";
        before = at;
        int offset = (int32_t)read_u32(types + (size_t)type * TYPE_BYTES);
        if (at < -FAR_S)
            zone->first = offset;
        else
            add_change(zone, at, offset);
    }
    return NULL;
}

/* Between two line breaks; an empty one says nothing. */
static const char *read_footer(struct zone *zone, struct span rest)
{
    struct zone_rule rule;
    const char *end = rest.len ? memchr(rest.p + 1, '\n', rest.len - 1) : NULL;
    if (!end || rest.p[0] != '\n')
        return "its footer is missing";
    struct span text = {rest.p + 1, (size_t)(end - rest.p - 1)};
    if (!text.len)
        return NULL;
    if (!zone_rule_read(text, &rule))
        return "its footer is no rule";
    expand(zone, &rule);
    return NULL;
}

static const char *read_file(struct zone *zone, struct span file)
{
    struct tzif_counts counts;
    char version = 0;
    int bytes = 4;
    if (!read_header(file, &counts, &version))
        return "it is no TZif file";
    if (version >= '2') { /* the same again, with times of 64 bits */
        uint64_t skip = HEADER_BYTES + block_bytes(&counts, 4);
        if (skip > file.len)
            return "it is cut off";
        file = (struct span){file.p + skip, file.len - skip};
        bytes = 8;
        if (!read_header(file, &counts, &version))
            return "it is no TZif file";
    }
    if (HEADER_BYTES + block_bytes(&counts, (unsigned)bytes) > file.len)
        return "it is cut off";
    if (counts.leap)
        return "it counts leap seconds";
    if (!counts.types)
        return "it has no offset";
    const char *fault = read_changes(zone, file.p + HEADER_BYTES, &counts, bytes);
    size_t end = HEADER_BYTES + (size_t)block_bytes(&counts, (unsigned)bytes);
    if (fault || bytes == 4)
        return fault;
    return read_footer(zone, (struct span){file.p + end, file.len - end});
}

enum err zone_read(struct span file, struct zone **out, struct reason *why)
{
    struct zone *zone = zone_utc();
    const char *fault = file.len > ZONE_FILE_MAX ? "it is too long" : read_file(zone, file);
    *out = NULL;
    if (fault) {
        reason_set(why, "%s", fault);
        zone_free(zone);
        return ERR_INVALID;
    }
    *out = zone;
    return OK;
}

struct zone *zone_utc(void)
{
    struct zone *zone = xcalloc(1, sizeof *zone);
    zone->repeats_from = INT64_MAX;
    return zone;
}

void zone_free(struct zone *zone)
{
    if (!zone)
        return;
    free(zone->changes);
    free(zone);
}

/* --- looking up ------------------------------------------------------------------- */

/* How many changes there have been by then. */
static int changes_by(const struct zone *zone, int64_t at)
{
    int low = 0, high = zone->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (zone->changes[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int offset_after(const struct zone *zone, int changes)
{
    return changes <= 0 ? zone->first : zone->changes[changes - 1].offset;
}

struct zone_stretch zone_at(const struct zone *zone, int64_t at)
{
    const int64_t cycle = CALENDAR_CYCLE_DAYS * DAY_S;
    int64_t shift = at < zone->repeats_from ? 0 : ((at - zone->repeats_from) / cycle + 1) * cycle;
    int n = changes_by(zone, at - shift);
    return (struct zone_stretch){
        .from = n > 0 ? zone->changes[n - 1].at + shift : INT64_MIN,
        .to = n < zone->count ? zone->changes[n].at + shift : INT64_MAX,
        .offset = offset_after(zone, n),
        .before = offset_after(zone, n - 1),
        .after = offset_after(zone, n < zone->count ? n + 1 : n),
    };
}
