#include "workers/turn_log.h"

#include "base/id.h"
#include "base/json.h"
#include "base/utf8.h"

#include <inttypes.h>

enum { MESSAGE_BYTES = 200, ARGUMENTS_BYTES = 200 };

/* --- arguments -------------------------------------------------------------------- */

/* `x,y`: the names; `[3]`: so many positional ones; else what it is. */
static void add_keys(struct buf *out, struct span args)
{
    struct json_iter it = json_iter(args);
    struct span key, value;
    int64_t count = 0;
    if (json_type(args) == JSON_OBJECT) {
        for (; json_member(&it, &key, &value); count++) {
            if (count)
                buf_addc(out, ',');
            json_unescape(key, out);
        }
    } else if (json_type(args) == JSON_ARRAY) {
        while (json_element(&it, &value))
            count++;
        buf_addf(out, "[%" PRId64 "]", count);
    } else {
        buf_adds(out, json_type_name(json_type(args)));
    }
}

/* False: nothing is said of them. */
static bool add_arguments(struct buf *out, const struct turn_said *said)
{
    struct span args = json_trim(said->args);
    if (!args.len || said->arguments == LOG_ARGUMENTS_HIDDEN)
        return false;
    struct span cut = utf8_cut(args, ARGUMENTS_BYTES);
    switch (said->arguments) {
    case LOG_ARGUMENTS_FULL: buf_add_span(out, args); break;
    case LOG_ARGUMENTS_KEYS: add_keys(out, args); break;
    case LOG_ARGUMENTS_TRUNCATED:
        buf_add_span(out, cut);
        if (cut.len < args.len)
            buf_addl(out, "...");
        break;
    case LOG_ARGUMENTS_HIDDEN: break;
    }
    return true;
}

/* --- lines ------------------------------------------------------------------------ */

struct line {
    struct log_field fields[16];
    int count;
    char id[ID_TEXT_LEN + 1];
    struct buf arguments;
};

static void add(struct line *line, struct log_field field)
{
    line->fields[line->count++] = field;
}

static void begin(struct line *line, const struct turn_said *said)
{
    *line = (struct line){0};
    id_format(said->turn->id, line->id);
    add(line, LOG_STR("task", said->task));
    add(line, LOG_STR("id", line->id));
    add(line, LOG_INT("attempt", said->turn->attempt));
    if (said->worker.len)
        add(line, LOG_SPAN("worker", said->worker));
    if (add_arguments(&line->arguments, said))
        add(line, LOG_SPAN("args", buf_span(&line->arguments)));
}

static void end(struct line *line, enum log_level level, const char *message)
{
    add(line, (struct log_field){NULL, NULL, 0, 0});
    log_write(level, message, line->fields);
    buf_release(&line->arguments);
}

bool turn_log_wants(const struct turn_said *said, enum log_level level)
{
    return level >= said->level;
}

void turn_log_started(const struct turn_said *said)
{
    struct line line;
    if (!turn_log_wants(said, LOG_LEVEL_DEBUG))
        return;
    begin(&line, said);
    end(&line, LOG_LEVEL_DEBUG, "a turn starts");
}

static const char *become(const struct op_finish *finish)
{
    switch (finish->next) {
    case FINISH_FINAL: return status_name(finish->status);
    case FINISH_RETRY: return "retry";
    case FINISH_REQUEUE: return "interrupted";
    case FINISH_LOST: return "lost";
    case FINISH_HAND_OVER: return "handed over";
    case FINISH_UNSTARTED: return "unstarted";
    }
    return "";
}

void turn_log_ended(const struct turn_said *said, const struct op_finish *finish, int64_t ms)
{
    struct line line;
    if (!turn_log_wants(said, LOG_LEVEL_DEBUG))
        return;
    begin(&line, said);
    add(&line, LOG_STR("as", finish ? become(finish) : "suspended"));
    add(&line, LOG_INT("ms", ms));
    end(&line, LOG_LEVEL_DEBUG, "a turn has ended");
}

void turn_log_failed(const struct turn_said *said, const struct op_finish *finish, int left_out)
{
    struct line line;
    struct buf message = {0};
    if (!turn_log_wants(said, LOG_LEVEL_WARN))
        return;
    begin(&line, said);
    struct span text = json_get(finish->error, "message");
    if (text.p)
        json_unescape(text, &message);
    add(&line, LOG_SPAN("error", finish->error_type));
    add(&line, LOG_SPAN("message", utf8_cut(buf_span(&message), MESSAGE_BYTES)));
    add(&line, LOG_STR("then", finish->next == FINISH_FINAL ? "failed" : "retry"));
    add(&line, LOG_INT("left_out", left_out));
    end(&line, LOG_LEVEL_WARN, "an attempt failed");
    buf_release(&message);
}
