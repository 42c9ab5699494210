#include "server/resources/schedule_view.h"

#include "base/id.h"
#include "base/json.h"
#include "server/resources/view.h"
#include "workers/tasks/cron.h"

/* null if a later program reads it no more. */
static void add_words(struct buf *out, struct span definition)
{
    struct cron cron;
    struct reason why;
    struct buf text = {0}, words = {0};
    struct span line = json_get(definition, "cron");
    if (line.p)
        json_unescape(line, &text);
    if (cron_parse(buf_span(&text), &cron, &why) == OK) {
        cron_add_words(&words, &cron);
        json_add_string(out, buf_span(&words));
    } else {
        buf_addl(out, "null");
    }
    buf_release(&text);
    buf_release(&words);
}

void view_schedule(struct buf *out, const struct schedule *row)
{
    buf_addl(out, "{\"name\":");
    json_add_lossy(out, row->name);
    buf_addc(out, ',');
    buf_add(out, row->definition.p + 1, row->definition.len - 2); /* without its braces */
    buf_addl(out, ",\"words\":");
    add_words(out, row->definition);
    buf_adds(out, row->source == SCHEDULE_OF_FILE ? ",\"source\":\"file\"" : ",\"source\":\"http\"");
    buf_adds(out, row->paused ? ",\"paused\":true" : ",\"paused\":false");
    buf_addl(out, ",\"next_run_at\":");
    view_time(out, row->next_at);
    buf_addl(out, ",\"last_run_at\":");
    view_time(out, row->last_at);
    buf_addl(out, ",\"last_invocation\":");
    view_id(out, row->last_id);
    buf_addl(out, ",\"waiting_since\":");
    view_time(out, row->waiting_at);
    buf_addl(out, ",\"skipped\":");
    buf_add_int(out, row->skipped);
    buf_addl(out, ",\"problem\":");
    view_text(out, row->problem);
    buf_addc(out, '}');
}
