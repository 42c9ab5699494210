/* What is logged: `log`. */
#include "server/config/keys.h"

#define KIB INT64_C(1024)
#define GIB (1024 * 1024 * KIB)

static const char *const level_words[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_words[] = {"text", "json", NULL};
static const char *const arguments_words[] = {"full", "keys", "truncated", "hidden", NULL};

/* Of a kind's level, which fills a number that is kept for it. */
static const struct key level_key = {.name = "level", .type = KEY_WORD, .words = level_words, .offset = 0};

static int kind_number(const char *name)
{
    int i = 0;
    while (kinds[i] && strcmp(kinds[i]->name, name) != 0)
        i++;
    return kinds[i] ? i : -1;
}

static void add_fault(const struct keys_input *in, const cJSON *item, const char *pointer, const char *what)
{
    struct buf at = {0};
    buf_adds(&at, pointer);
    pointer_add(&at, span_of(item->string));
    faults_add(in->faults, yaml_line(in->doc, item), buf_cstr(&at), "%s", what);
    buf_release(&at);
}

static void read_levels(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct config *config = target;
    struct reason why;
    if (!cJSON_IsObject(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a mapping of kinds to levels");
        return;
    }
    for (const cJSON *each = item->child; each; each = each->next) {
        int kind = kind_number(each->string), level;
        if (kind < 0)
            add_fault(in, each, pointer, "there is no kind of that name");
        else if (!keys_text(each).p || !keys_set_text(&level_key, keys_text(each), in->folder, &level, &why))
            add_fault(in, each, pointer, "must be debug, info, warn or error");
        else
            config->log_levels[kind] = level + 1;
    }
}

const struct key config_log_keys[] = {
    {.name = "level",
     .type = KEY_WORD,
     .default_text = "info",
     .words = level_words,
     .offset = offsetof(struct config, log.level),
     .help = "debug, info, warn or error"},
    {.name = "kinds",
     .type = KEY_OTHER,
     .read = read_levels,
     .example = "{http: debug, native: error}",
     .help = "levels of what is said of turns, by the kind of their task"},
    {.name = "arguments",
     .type = KEY_WORD,
     .default_text = "keys",
     .words = arguments_words,
     .offset = offsetof(struct config, log_arguments),
     .help = "what is said of a turn's: full, truncated, keys (their names) or hidden"},
    {.name = "format",
     .type = KEY_WORD,
     .default_text = "text",
     .words = format_words,
     .offset = offsetof(struct config, log.format),
     .help = "text or json"},
    {.name = "directory",
     .type = KEY_PATH,
     .example = "log",
     .offset = offsetof(struct config, log.directory),
     .help = "log files go there, one each for the server and for every worker of a pool; without it, to stderr"},
    {.name = "max_size",
     .type = KEY_SIZE,
     .default_text = "10MiB",
     .none = true,
     .min = KIB,
     .max = 1024 * GIB,
     .offset = offsetof(struct config, log.rotation.max_bytes),
     .help = "of a log file: then it is put away as NAME.1, that as NAME.2, ..."},
    {.name = "keep",
     .type = KEY_INT,
     .default_text = "5",
     .max = 1000,
     .offset = offsetof(struct config, log.rotation.keep),
     .help = "log files that were put away, at most"},
    {0},
};

void config_settle_log(struct config *config)
{
    for (int i = 0; i < registry_count(config->registry); i++) {
        struct task *task = registry_at(config->registry, i);
        int level = config->log_levels[kind_number(task->kind->name)];
        task->log_level = level ? (enum log_level)(level - 1) : config->log.level;
        task->log_arguments = config->log_arguments;
    }
}
