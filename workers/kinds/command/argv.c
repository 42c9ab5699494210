#include "workers/kinds/command/argv.h"

#include "base/json.h"
#include "workers/kinds/command/command.h"
#include "workers/tasks/template.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define POINTER "/args"

struct expansion {
    struct span args;
    struct buf *text;
    struct faults *faults;
    int wrong;
};

__attribute__((format(printf, 3, 4))) static void wrong(struct expansion *e, struct span name, const char *format,
                                                        ...)
{
    e->wrong++;
    if (!e->faults)
        return;
    struct reason why;
    va_list args;
    va_start(args, format);
    vsnprintf(why.text, sizeof(why.text), format, args);
    va_end(args);
    if (name.p)
        faults_add_member(e->faults, 0, POINTER, name, "%s", why.text);
    else
        faults_add(e->faults, 0, POINTER, "%s", why.text);
}

static struct span member(struct span args, struct span name)
{
    char *key = span_dup(name);
    struct span value = json_get(args, key);
    free(key);
    return value;
}

static void add_argument(struct expansion *e, struct span name)
{
    struct span value = member(e->args, name);
    if (!value.p) {
        wrong(e, name, "is missing: the command needs it");
        return;
    }
    if (json_type(value) != JSON_STRING) {
        buf_add_span(e->text, value);
        return;
    }
    size_t start = e->text->len;
    json_unescape(value, e->text);
    if (memchr(e->text->data + start, '\0', e->text->len - start)) {
        wrong(e, name, "contains \\u0000, which no command line can hold");
        e->text->len = start;
    }
}

/* Appends the word and its NUL. The last argument in a word that is too long is
 * named as its fault. */
static void add_word(struct expansion *e, const char *element, int index)
{
    size_t start = e->text->len;
    struct span text, last = {NULL, 0};
    enum template_piece piece;

    while ((piece = template_next(&element, &text)) != TEMPLATE_END) {
        if (piece == TEMPLATE_NAME)
            add_argument(e, last = text);
        else
            buf_add_span(e->text, text);
        if (e->text->len - start > ARGV_WORD_MAX) {
            wrong(e, last, "makes word %d of the command longer than %d bytes", index, ARGV_WORD_MAX);
            e->text->len = start;
            break;
        }
    }
    buf_addc(e->text, '\0');
}

enum err argv_expand(const struct task *task, struct span args, struct argv *argv, struct faults *faults)
{
    *argv = (struct argv){0};
    if (args.p)
        args = json_trim(args);
    struct expansion e = {.args = args, .text = &argv->text, .faults = faults};
    char **run = command_task(task)->program.run;
    int count = 0;
    for (; run[count]; count++)
        add_word(&e, run[count], count);
    if (e.wrong)
        return ERR_INVALID;

    argv->words = xcalloc((size_t)count + 1, sizeof(*argv->words));
    char *word = argv->text.data;
    for (int i = 0; i < count; i++, word += strlen(word) + 1)
        argv->words[i] = word;
    return OK;
}

void argv_release(struct argv *argv)
{
    free(argv->words);
    buf_release(&argv->text);
    *argv = (struct argv){0};
}

enum err argv_check(const struct task *task, struct span args, struct faults *faults)
{
    struct argv argv;
    enum err err = argv_expand(task, args, &argv, faults);
    argv_release(&argv);
    return err;
}
