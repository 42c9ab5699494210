#include "server/resources/group_view.h"

#include "base/id.h"
#include "base/json.h"
#include "server/resources/view.h"

static void add_json(struct buf *out, struct span json, bool on_one_line)
{
    if (json.p && on_one_line)
        json_add_line(out, json);
    else
        view_json(out, json);
}

static void add_bool(struct buf *out, bool value)
{
    buf_adds(out, value ? "true" : "false");
}

void group_view_begin(struct buf *out, const struct group_row *row)
{
    buf_addl(out, "{\"id\":");
    view_id(out, row->id);
    buf_addf(out, ",\"mode\":\"%s\",\"status\":\"%s\",\"open\":", group_mode_name(row->mode),
             group_status_name(row->status));
    add_bool(out, row->open);
    buf_addl(out, ",\"total\":");
    buf_add_int(out, row->total);
    buf_addl(out, ",\"counts\":{");
    view_counts(out, row->counts);
    buf_addl(out, "},\"fail_fast\":");
    add_bool(out, row->fail_fast);
    buf_addl(out, ",\"labels\":");
    add_json(out, row->labels, false);
    buf_addl(out, ",\"parent\":");
    view_id(out, row->parent);
    buf_addl(out, ",\"step\":");
    view_text(out, row->step);
    buf_addl(out, ",\"release_by\":");
    view_time(out, row->release_by);
    buf_addl(out, ",\"created_at\":");
    view_time(out, id_time_ms(row->id));
    buf_addl(out, ",\"finished_at\":");
    view_time(out, row->finished_at);
}

static void add_member(void *context, int64_t id)
{
    struct buf *out = context;
    if (out->data[out->len - 1] != '[')
        buf_addc(out, ',');
    view_id(out, id);
}

enum err group_view_members(struct buf *out, struct reader *reader, int64_t id)
{
    struct buf args = {0};
    enum err err = reader_group_args(reader, id, &args);
    buf_addl(out, ",\"common_args\":");
    add_json(out, args.len ? buf_span(&args) : (struct span){NULL, 0}, false);
    buf_release(&args);
    buf_addl(out, ",\"invocations\":[");
    if (err == OK)
        err = reader_group_ids(reader, id, 0, GROUP_MEMBERS_MAX, add_member, out);
    buf_addl(out, "]}");
    return err;
}

void group_view_result(struct buf *out, const struct group_result *row, bool on_one_line)
{
    const char *status = status_name(row->status);
    buf_addl(out, "{\"id\":");
    view_id(out, row->id);
    buf_addl(out, ",\"index\":");
    buf_add_int(out, row->index);
    if (row->name.p) {
        buf_addl(out, ",\"name\":");
        json_add_lossy(out, row->name);
    }
    buf_addf(out, ",\"status\":\"%s\",\"result\":", status ? status : "unknown");
    add_json(out, row->result, on_one_line);
    buf_addl(out, ",\"error\":");
    add_json(out, row->error, on_one_line);
}
