#include "workers/tasks/task_keys.h"

#include <stdlib.h>

#define IDENTIFIER_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

static void read_params(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct task *task = target;
    task->params = params_parse(in->doc, item, pointer, in->faults);
}

static bool check_function(char *text, struct reason *why)
{
    size_t n = strspn(text, IDENTIFIER_LETTERS "0123456789");
    if (n > 0 && text[n] == '\0' && !(text[0] >= '0' && text[0] <= '9'))
        return true;
    reason_set(why, "`%s` is no name of a C function", text);
    return false;
}

static bool parse_result(struct span text, const char *folder, void *target, struct reason *why)
{
    struct task *task = target;
    (void)folder;
    task->result_json = span_is(text, "json");
    if (task->result_json || span_is(text, "text"))
        return true;
    reason_set(why, "`%.*s` is not text or json", (int)text.len, text.p);
    return false;
}

static const char *const kind_words[] = {
    [TASK_NATIVE] = "native",
    [TASK_COMMAND] = "command",
    NULL,
};

const struct key task_common_keys[] = {
    {.name = "kind",
     .type = KEY_WORD,
     .words = kind_words,
     .required = true,
     .example = "command",
     .offset = offsetof(struct task, kind),
     .help = "how it runs: native or command"},
    {.name = "description",
     .type = KEY_TEXT,
     .max = 1000,
     .example = "what it does",
     .offset = offsetof(struct task, description),
     .help = "for people"},
    {.name = "params",
     .type = KEY_OTHER,
     .read = read_params,
     .example = "{x: integer, y: {type: integer, default: 1}}",
     .help = "the arguments; without it any JSON is accepted"},
    {0},
};

const struct key task_native_keys[] = {
    {.name = "module",
     .type = KEY_PATH,
     .path = PATH_FILE,
     .required = true,
     .example = "tasks.so",
     .offset = offsetof(struct task, module),
     .help = "native: the shared object"},
    {.name = "function",
     .type = KEY_TEXT,
     .min = 1,
     .max = 256,
     .check = check_function,
     .example = "add",
     .offset = offsetof(struct task, function),
     .help = "native: the C function; default: the task's name"},
    {0},
};

const struct key task_command_keys[] = {
    {.name = "run",
     .type = KEY_OTHER,
     .read = task_run_read,
     .required = true,
     .example = "[convert, \"{source}\", \"{target}\"]",
     .help = "command: the program and its arguments"},
    {.name = "cwd",
     .type = KEY_PATH,
     .path = PATH_FOLDER,
     .example = ".",
     .offset = offsetof(struct task, cwd),
     .help = "command: where it runs; default: this file's folder"},
    {.name = "env",
     .type = KEY_OTHER,
     .read = task_run_read_env,
     .example = "{LANG: C.UTF-8}",
     .help = "command: added to the server's environment"},
    {.name = "result",
     .type = KEY_PARSED,
     .parse = parse_result,
     .example = "text",
     .help = "command: what stdout is, text or json; default: text"},
    {0},
};

/* Which of the kinds' keys may stand here. A kind that is missing or wrong is
 * one fault; then the keys of all kinds pass. */
static void read_keys(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    const cJSON *word = cJSON_GetObjectItemCaseSensitive(item, "kind");
    bool native = cJSON_IsString(word) && strcmp(word->valuestring, kind_words[TASK_NATIVE]) == 0;
    bool command = cJSON_IsString(word) && strcmp(word->valuestring, kind_words[TASK_COMMAND]) == 0;
    bool unclear = !native && !command;
    struct key_section sections[] = {
        {.keys = task_common_keys, .target = task},
        {.keys = task_option_keys, .target = &task->options},
        {.keys = task_native_keys,
         .target = task,
         .lenient = unclear,
         .refused = command ? "only tasks of kind native have it" : NULL},
        {.keys = task_command_keys,
         .target = task,
         .lenient = unclear,
         .refused = native ? "only tasks of kind command have it" : NULL},
    };
    keys_read(in, item, pointer, sections, 4);
}

static void settle_native(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    struct reason why;
    if (task->function)
        return;
    if (check_function(task->name, &why))
        task->function = xstrdup(task->name);
    else if (!cJSON_GetObjectItemCaseSensitive(item, "function"))
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "`function` is missing: the task's name is no name of a C function");
}

static void settle_command(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    if (!task->cwd && !cJSON_GetObjectItemCaseSensitive(item, "cwd"))
        task->cwd = xstrdup(in->folder);
    if (task->run)
        task_run_check(in, item, pointer, task);
}

static bool name_is_good(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n > 0 && n <= TASK_NAME_MAX && name[n] == '\0' && !strchr("._-", name[0]);
}

bool task_read(const struct keys_input *in, const cJSON *item, const char *pointer,
               const struct task_options *defaults, struct task *task)
{
    int before = in->faults->total;
    *task = (struct task){.name = xstrdup(item->string), .kind = TASK_NATIVE};
    task_options_copy(&task->options, defaults);

    if (!name_is_good(item->string))
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "`%s` is no task name: 1 to %d of A-Z a-z 0-9 . _ -, a letter or digit first", item->string,
                   TASK_NAME_MAX);
    if (!cJSON_IsObject(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a mapping with at least a `kind`");
        return false;
    }
    read_keys(in, item, pointer, task);
    task_options_settle(in, item, pointer, &task->options);
    const cJSON *word = cJSON_GetObjectItemCaseSensitive(item, "kind");
    if (cJSON_IsString(word) && strcmp(word->valuestring, kind_words[task->kind]) == 0) {
        if (task->kind == TASK_NATIVE)
            settle_native(in, item, pointer, task);
        else
            settle_command(in, item, pointer, task);
    }
    return in->faults->total == before;
}

static void free_list(char **list)
{
    for (char **text = list; text && *text; text++)
        free(*text);
    free(list);
}

void task_release(struct task *task)
{
    task_options_release(&task->options);
    keys_release(task_common_keys, task);
    keys_release(task_native_keys, task);
    keys_release(task_command_keys, task);
    params_free(task->params);
    free_list(task->run);
    free_list(task->env);
    free(task->name);
}

const char *task_kind_name(enum task_kind kind)
{
    return kind_words[kind];
}
