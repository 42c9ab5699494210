/* What a configuration says of a command: read, checked, freed. */
#include "workers/kinds/command/command.h"
#include "workers/tasks/template.h"

#include <stdio.h>
#include <stdlib.h>

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
     .read = program_read_run,
     .required = true,
     .example = "[convert, \"{source}\", \"{target}\"]",
     .help = "command: the program and its arguments"},
    {.name = "cwd",
     .type = KEY_PATH,
     .path = PATH_FOLDER,
     .example = ".",
     .offset = offsetof(struct command_task, program.cwd),
     .help = "command: where it runs; default: this file's folder"},
    {.name = "env",
     .type = KEY_OTHER,
     .read = program_read_env,
     .example = "{LANG: C.UTF-8}",
     .help = "command: added to the server's environment"},
    {.name = "result",
     .type = KEY_PARSED,
     .parse = parse_result,
     .example = "text",
     .help = "command: what stdout is, text or json; default: text"},
    {0},
};

void command_release(void *definition)
{
    program_release(&((struct command_task *)definition)->program);
}

/* --- the check ------------------------------------------------------------------- */

/* One element of argv. */
static void check_element(const struct keys_input *in, const struct task *task, const cJSON *element,
                          const char *pointer, bool is_program)
{
    int line = yaml_line(in->doc, element);
    const char *at = program_word(element).p;
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

static char *plain_program(const char *element)
{
    struct buf program = {0};
    struct span text;
    enum template_piece piece;
    while ((piece = template_next(&element, &text)) != TEMPLATE_END)
        buf_add_span(&program, text);
    return buf_take(&program);
}

void command_check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    struct program *program = &((struct command_task *)task->definition)->program;
    program_settle(in, item, program);
    if (!program->run)
        return;
    int before = in->faults->total;
    check_placeholders(in, item, pointer, task);
    if (in->faults->total > before || !program->cwd)
        return;
    char *name = plain_program(program->run[0]);
    program_check(in, item, pointer, program, name);
    free(name);
}

/* --- advice ------------------------------------------------------------------------ */

/* A word that begins with an argument is an option if that begins with a dash,
 * unless `--` came before it. */
void command_advise(const struct task *task, struct faults *advice)
{
    char **run = command_task(task)->program.run;
    for (int i = 1; run[i] && strcmp(run[i], "--") != 0; i++) {
        const char *at = run[i];
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
