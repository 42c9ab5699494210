/* Any file is a zone or refused; a zone has stretches without gaps, and schedules come in it or do not, in
 * order. The first bytes may be a rule or a name instead. */
#include "workers/tasks/cron.h"
#include "workers/tasks/zone_rule.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_stretches(const struct zone *zone)
{
    static const int64_t times[] = {INT64_MIN,    -INT64_C(62167219200), 0, 1774746000, 4102444800,
                                    253402300799, INT64_C(1) << 45};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct zone_stretch s = zone_at(zone, times[i]);
        assert(s.from <= times[i] && times[i] < s.to && s.offset > -26 * 3600 && s.offset < 26 * 3600);
        assert(s.to == INT64_MAX || zone_at(zone, s.to).from == s.to);
    }
}

static void expect_times(const struct zone *zone)
{
    struct cron cron;
    struct reason why;
    enum err err = cron_parse(SPAN("30 0-3 * * *"), &cron, &why);
    assert(err == OK);
    for (int i = 0; i < 6; i++) {
        struct cron_clock clock = {&cron, zone, {(enum cron_gap)(i % 2), (enum cron_fold)(i / 2)}};
        int64_t at = INT64_C(1774700000000), next;
        for (int n = 0; n < 20 && cron_next(&clock, at, &next); n++, at = next)
            assert(next > at);
    }
}

static void expect_rule(struct span text)
{
    struct zone_rule rule;
    if (!zone_rule_read(text, &rule))
        return;
    assert(rule.standard > -ZONE_OFFSET_MAX_S && rule.standard < ZONE_OFFSET_MAX_S);
    if (rule.has_summer)
        for (int year = 1; year < 10000; year += 1111)
            assert(zone_rule_begins(&rule, year) != INT64_MIN && zone_rule_ends(&rule, year) != INT64_MIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = {size ? (const char *)data : "", size};
    struct zone *zone;
    struct reason why = {""};
    expect_rule(text);
    assert(!zone_name_is_good(text) || (!memchr(text.p, '.', text.len) && text.p[0] != '/'));
    if (zone_read(text, &zone, &why) != OK) {
        assert(why.text[0]);
        return 0;
    }
    expect_stretches(zone);
    expect_times(zone);
    zone_free(zone);
    return 0;
}
