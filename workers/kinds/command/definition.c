/* What a configuration says of a command: read, checked, freed. */
#include "workers/kinds/command/command.h"
#include "workers/kinds/command/spawn.h"
#include "workers/tasks/template.h"

#include <stdio.h>
#include <stdlib.h>

enum { RUN_MAX = 1000 };

/* Strings, numbers with their own digits, true and false as they are written. */
static struct span argument_text(const cJSON *item)
{
    if (cJSON_IsBool(item))
        return cJSON_IsTrue(item) ? SPAN("true") : SPAN("false");
    return keys_text(item);
}

/* --- the keys ------------------------------------------------------------------ */

static void read_run(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct command_task *command = target;
    int count = cJSON_IsArray(item) ? cJSON_GetArraySize(item) : 0;
    if (count < 1 || count > RUN_MAX) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be a list of 1 to %d words, the program first: there is no shell to split a line",
                   RUN_MAX);
        return;
    }
    command->run = xcalloc((size_t)count + 1, sizeof(*command->run));
    int i = 0;
    for (const cJSON *word = item->child; word; word = word->next, i++) {
        struct span text = argument_text(word);
        if (!text.p) {
            char index[16] = {0};
            struct buf digits = {index, 0, sizeof(index)};
            buf_add_int(&digits, i);
            faults_add_member(in->faults, yaml_line(in->doc, word), pointer, buf_span(&digits), "must be a text");
        }
        command->run[i] = text.p ? span_dup(text) : xstrdup("");
    }
}

static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"ERRAND_ID", "ERRAND_ATTEMPT", "ERRAND_TASK", "ERRAND_FD"};
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
        if (strcmp(name, reserved[i]) == 0)
            return true;
    return false;
}

static void read_env(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct command_task *command = target;
    if (!cJSON_IsObject(item) && !cJSON_IsNull(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a mapping, {NAME: value}");
        return;
    }
    command->env = xcalloc((size_t)cJSON_GetArraySize(item) + 1, sizeof(*command->env));
    int count = 0;
    for (const cJSON *member = item->child; member; member = member->next) {
        struct span value = argument_text(member);
        const char *fault = NULL;
        if (member->string[0] == '\0' || strchr(member->string, '='))
            fault = "is no name of a variable";
        else if (is_reserved(member->string))
            fault = "is set by Errand itself";
        else if (!value.p)
            fault = "must be a text";
        if (fault) {
            faults_add_member(in->faults, yaml_line(in->doc, member), pointer, span_of(member->string), "`%s` %s",
                              member->string, fault);
            continue;
        }
        struct buf line = {0};
        buf_addf(&line, "%s=", member->string);
        buf_add_span(&line, value);
        command->env[count++] = buf_take(&line);
    }
}

static bool parse_result(struct span text, const char *folder, void *target, struct reason *why)
{
    struct command_task *command = target;
    (void)folder;
    command->result_json = span_is(text, "json");
    if (command->result_json || span_is(text, "text"))
        return true;
    reason_set(why, "`%.*s` is not text or json", (int)text.len, text.p);
    return false;
}

const struct key command_keys[] = {
    {.name = "run",
     .type = KEY_OTHER,
     .read = read_run,
     .required = true,
     .example = "[convert, \"{source}\", \"{target}\"]",
     .help = "command: the program and its arguments"},
    {.name = "cwd",
     .type = KEY_PATH,
     .path = PATH_FOLDER,
     .example = ".",
     .offset = offsetof(struct command_task, cwd),
     .help = "command: where it runs; default: this file's folder"},
    {.name = "env",
     .type = KEY_OTHER,
     .read = read_env,
     .example = "{LANG: C.UTF-8}",
     .help = "command: added to the server's environment"},
    {.name = "result",
     .type = KEY_PARSED,
     .parse = parse_result,
     .example = "text",
     .help = "command: what stdout is, text or json; default: text"},
    {0},
};

static void free_list(char **list)
{
    for (char **text = list; text && *text; text++)
        free(*text);
    free(list);
}

void command_release(void *definition)
{
    struct command_task *command = definition;
    free_list(command->run);
    free_list(command->env);
}

/* --- the check ------------------------------------------------------------------- */

/* One element of argv. */
static void check_element(const struct keys_input *in, const struct task *task, const cJSON *element,
                          const char *pointer, bool is_program)
{
    int line = yaml_line(in->doc, element);
    const char *at = argument_text(element).p;
    enum template_piece piece;
    struct span text;

    while (at && (piece = template_next(&at, &text)) != TEMPLATE_END) {
        if (piece == TEMPLATE_BAD)
            faults_add(in->faults, line, pointer,
                       "a single `%c`: write {name} for an argument, `%c%c` for the character itself", *text.p,
                       *text.p, *text.p);
        else if (piece == TEMPLATE_NAME && is_program)
            faults_add(in->faults, line, pointer, "the program must not come from an argument");
        else if (piece == TEMPLATE_NAME && task->params && !params_has(task->params, text))
            faults_add(in->faults, line, pointer, "{%.*s} is none of the `params`", (int)text.len, text.p);
    }
}

/* Faulty params were reported already; any name passes then. */
static void check_placeholders(const struct keys_input *in, const cJSON *item, const char *pointer,
                               const struct task *task)
{
    const cJSON *run = cJSON_GetObjectItemCaseSensitive(item, "run");
    int i = 0;
    for (const cJSON *element = run->child; element; element = element->next, i++) {
        struct buf place = {0};
        buf_addf(&place, "%s/run/%d", pointer, i);
        check_element(in, task, element, buf_cstr(&place), i == 0);
        buf_release(&place);
    }
}

/* The PATH that the child will have, NULL: none. */
static const char *search_path(const struct command_task *command)
{
    const char *path = getenv("PATH");
    for (char **env = command->env; env && *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            path = *env + 5;
    return path;
}

static bool program_exists(const struct command_task *command, const char *program)
{
    struct buf path = {0};
    bool found = spawn_find(program, search_path(command), command->cwd, &path) == 0;
    buf_release(&path);
    return found;
}

static char *plain_program(const char *element)
{
    struct buf program = {0};
    struct span text;
    enum template_piece piece;
    while ((piece = template_next(&element, &text)) != TEMPLATE_END)
        buf_add_span(&program, text);
    return buf_take(&program);
}

static void check_program(const struct keys_input *in, const cJSON *item, const char *pointer,
                          const struct command_task *command)
{
    const cJSON *run = cJSON_GetObjectItemCaseSensitive(item, "run");
    char *place = keys_pointer(pointer, "run");
    char *program = plain_program(command->run[0]);
    int line = yaml_line(in->doc, run->child);
    if (*program == '\0')
        faults_add(in->faults, line, place, "the program has no name");
    else if (!program_exists(command, program))
        faults_add(in->faults, line, place,
                   strchr(program, '/') ? "there is no program `%s` (a relative path starts at `cwd`)"
                                        : "there is no program `%s` in the PATH",
                   program);
    free(program);
    free(place);
}

void command_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    struct command_task *command = task->definition;
    if (!command->cwd && !cJSON_GetObjectItemCaseSensitive(item, "cwd"))
        command->cwd = xstrdup(in->folder);
    if (!command->run)
        return;
    int before = in->faults->total;
    check_placeholders(in, item, pointer, task);
    if (in->faults->total == before && command->cwd)
        check_program(in, item, pointer, command);
}

/* --- advice ------------------------------------------------------------------------ */

/* A word that begins with an argument is an option if that begins with a dash,
 * unless `--` came before it. */
void command_advise(const struct task *task, struct faults *advice)
{
    const struct command_task *command = task->definition;
    for (int i = 1; command->run[i] && strcmp(command->run[i], "--") != 0; i++) {
        const char *at = command->run[i];
        struct span name;
        if (template_next(&at, &name) != TEMPLATE_NAME || !params_let_options(task->params, name))
            continue;
        char place[24];
        snprintf(place, sizeof place, "/run/%d", i);
        faults_add(advice, 0, place,
                   "{%.*s} may begin with a dash and be taken for an option: give the parameter a `pattern` or an "
                   "`enum`, or put \"--\" before it if the program knows that",
                   (int)name.len, name.p);
    }
}
