/* An expression is refused with a reason, or has times that grow and match its words. */
#include "base/utf8.h"
#include "workers/tasks/cron.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_times(const struct cron *cron)
{
    struct zone *utc = zone_utc();
    struct cron_clock clock = {cron, utc, {0}};
    int64_t at = INT64_C(951782400000), next; /* 2000-02-29 */
    for (int i = 0; i < 50 && cron_next(&clock, at, &next); i++) {
        assert(next > at && next % 60000 == 0);
        int64_t minute = next / 60000;
        assert(cron->minutes >> minute % 60 & 1 && cron->hours >> minute / 60 % 24 & 1);
        at = next;
    }
    assert(at > INT64_C(951782400000)); /* what is accepted comes */
    zone_free(utc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = {size ? (const char *)data : "", size};
    struct cron cron;
    struct reason why = {""};
    struct buf words = {0};
    if (cron_parse(text, &cron, &why) != OK) {
        assert(why.text[0]);
        return 0;
    }
    expect_times(&cron);
    cron_add_words(&words, &cron);
    assert(words.len > 0 && utf8_valid(buf_span(&words)));
    buf_release(&words);
    return 0;
}
