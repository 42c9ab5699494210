#include "base/clock.h"
#include "base/json.h"
#include "tests/unit/zones.h"
#include "workers/schedule_plan.h"

#include <criterion/criterion.h>

static int64_t at(const char *text)
{
    int64_t ms;
    cr_assert(time_parse(span_of(text), &ms), "%s", text);
    return ms;
}

/* An hourly one, at the whole hour. */
static struct schedule_definition hourly(enum catch_up catch_up)
{
    struct schedule_definition definition = {.zone = zone_utc(), .catch_up = catch_up};
    struct reason why;
    cr_assert_eq(cron_parse(SPAN("0 * * * *"), &definition.cron, &why), OK);
    return definition;
}

Test(schedule_plan, what_was_due_is_made_or_was_missed)
{
    static const struct {
        const char *name;
        enum catch_up catch_up;
        const char *until, *now, *since;
        int count, left_out;
        const char *first, *next;
    } rows[] = {
        {"nothing is due yet", CATCH_UP_ALL, "2026-01-01T00:00:00Z", "2026-01-01T00:59:59.999Z",
         "2026-01-01T00:00:00Z", 0, 0, NULL, "2026-01-01T01:00:00Z"},
        {"due to the millisecond", CATCH_UP_NONE, "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z",
         "2026-01-01T00:00:00Z", 1, 0, "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"},
        {"a little late is on time", CATCH_UP_NONE, "2026-01-01T00:00:00Z", "2026-01-01T01:01:00Z",
         "2026-01-01T00:00:00Z", 1, 0, "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"},
        {"more than a minute late was missed", CATCH_UP_NONE, "2026-01-01T00:00:00Z", "2026-01-01T01:01:01Z",
         "2026-01-01T00:00:00Z", 0, 1, NULL, "2026-01-01T02:00:00Z"},
        {"before the start was missed", CATCH_UP_NONE, "2026-01-01T00:00:00Z", "2026-01-01T01:00:02Z",
         "2026-01-01T01:00:01Z", 0, 1, NULL, "2026-01-01T02:00:00Z"},
        {"one of many", CATCH_UP_ONE, "2026-01-01T00:00:00Z", "2026-01-01T05:30:00Z", "2026-01-01T05:29:00Z", 1, 4,
         "2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z"},
        {"all of many", CATCH_UP_ALL, "2026-01-01T00:00:00Z", "2026-01-01T05:30:00Z", "2026-01-01T05:29:00Z", 5, 0,
         "2026-01-01T01:00:00Z", "2026-01-01T06:00:00Z"},
        {"at most a thousand", CATCH_UP_ALL, "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z",
         "2026-01-01T00:00:00Z", 1000, 0, "2025-11-20T09:00:00Z", "2026-01-01T01:00:00Z"},
        {"a clock set back by an hour waits", CATCH_UP_ALL, "2026-01-01T03:30:00Z", "2026-01-01T02:30:00Z",
         "2026-01-01T00:00:00Z", 0, 0, NULL, "2026-01-01T04:00:00Z"},
        {"one set back by days begins anew", CATCH_UP_ALL, "2026-01-05T03:30:00Z", "2026-01-01T02:30:00Z",
         "2026-01-01T00:00:00Z", 0, 0, NULL, "2026-01-01T03:00:00Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct schedule_definition definition = hourly(rows[i].catch_up);
        struct schedule_plan plan;
        schedule_plan(&definition, at(rows[i].until), at(rows[i].now), at(rows[i].since), &plan);
        cr_expect_eq(plan.count, rows[i].count, "%s: %d", rows[i].name, plan.count);
        cr_expect_eq(plan.left_out, rows[i].left_out, "%s: %d", rows[i].name, (int)plan.left_out);
        cr_expect_eq(plan.next_at, at(rows[i].next), "%s", rows[i].name);
        cr_expect(!plan.count || plan.times[0] == at(rows[i].first), "%s", rows[i].name);
        cr_expect(plan.until >= at(rows[i].now), "%s", rows[i].name);
        schedule_release(&definition);
    }
}
