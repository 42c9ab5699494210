#include "workers/kinds/program/program.h"

#include "workers/kinds/program/spawn.h"

#include <stdlib.h>
#include <unistd.h>

enum { RUN_MAX = 1000 };

/* Strings, numbers with their own digits, true and false as they are written. */
struct span program_word(const cJSON *item)
{
    if (cJSON_IsBool(item))
        return cJSON_IsTrue(item) ? SPAN("true") : SPAN("false");
    return keys_text(item);
}

/* --- the keys ------------------------------------------------------------------ */

void program_read_run(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct program *program = target;
    int count = cJSON_IsArray(item) ? cJSON_GetArraySize(item) : 0;
    if (count < 1 || count > RUN_MAX) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be a list of 1 to %d words, the program first: there is no shell to split a line",
                   RUN_MAX);
        return;
    }
    program->run = xcalloc((size_t)count + 1, sizeof(*program->run));
    int i = 0;
    for (const cJSON *word = item->child; word; word = word->next, i++) {
        struct span text = program_word(word);
        if (!text.p) {
            char index[16] = {0};
            struct buf digits = {index, 0, sizeof(index)};
            buf_add_int(&digits, i);
            faults_add_member(in->faults, yaml_line(in->doc, word), pointer, buf_span(&digits), "must be a text");
        }
        program->run[i] = text.p ? span_dup(text) : xstrdup("");
    }
}

static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"ERRAND_ID",     "ERRAND_ATTEMPT",  "ERRAND_TASK",    "ERRAND_FD",
                                           "ERRAND_WORKER", "ERRAND_PROTOCOL", "ERRAND_DEADLINE"};
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
        if (strcmp(name, reserved[i]) == 0)
            return true;
    return false;
}

void program_read_env(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct program *program = target;
    if (!cJSON_IsObject(item) && !cJSON_IsNull(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a mapping, {NAME: value}");
        return;
    }
    program->env = xcalloc((size_t)cJSON_GetArraySize(item) + 1, sizeof(*program->env));
    int count = 0;
    for (const cJSON *member = item->child; member; member = member->next) {
        struct span value = program_word(member);
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
        program->env[count++] = buf_take(&line);
    }
}

static void free_list(char **list)
{
    for (char **text = list; text && *text; text++)
        free(*text);
    free(list);
}

/* The PATH that the child will have, NULL: none. */
static const char *search_path(const struct program *program)
{
    const char *path = getenv("PATH");
    for (char **env = program->env; env && *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            path = *env + 5;
    return path;
}

static bool program_exists(const struct program *program, const char *name)
{
    struct buf path = {0};
    bool found = spawn_find(name, search_path(program), program->cwd, &path) == 0;
    buf_release(&path);
    return found;
}

void program_settle(const struct keys_input *in, const cJSON *item, struct program *program)
{
    if (!program->cwd && !cJSON_GetObjectItemCaseSensitive(item, "cwd"))
        program->cwd = xstrdup(in->folder);
}

void program_check(const struct keys_input *in, const cJSON *item, const char *pointer,
                   const struct program *program, const char *name)
{
    const cJSON *run = cJSON_GetObjectItemCaseSensitive(item, "run");
    char *place = keys_pointer(pointer, "run");
    int line = yaml_line(in->doc, run->child);
    if (*name == '\0')
        faults_add(in->faults, line, place, "the program has no name");
    else if (!program_exists(program, name))
        faults_add(in->faults, line, place,
                   strchr(name, '/') ? "there is no program `%s` (a relative path starts at `cwd`)"
                                     : "there is no program `%s` in the PATH",
                   name);
    free(place);
}

void program_release(struct program *program)
{
    free_list(program->run);
    free_list(program->env);
}

/* --- the environment ------------------------------------------------------------- */

/* How many bytes of a variable are its name and the '='. */
static size_t name_len(const char *var)
{
    const char *equals = strchr(var, '=');
    return equals ? (size_t)(equals - var) + 1 : strlen(var);
}

static bool is_named_in(char *const *vars, size_t count, const char *var)
{
    size_t n = name_len(var);
    for (size_t i = 0; i < count; i++)
        if (strncmp(vars[i], var, n) == 0)
            return true;
    return false;
}

static size_t count_of(char *const *vars)
{
    size_t n = 0;
    while (vars && vars[n])
        n++;
    return n;
}

/* Ours come first; what follows is taken if no earlier one has its name. */
static size_t add_missing(char **vars, size_t count, char *const *more)
{
    size_t before = count;
    for (size_t i = 0; more && more[i]; i++)
        if (!is_named_in(vars, before, more[i]))
            vars[count++] = more[i];
    return count;
}

/* A server that is itself a command's child has what was said to another's turn. */
static size_t without_foreign_turn(char **vars, size_t from, size_t count)
{
    static char *const ours[] = {
        "ERRAND_LEASE_URL=", "ERRAND_STATE=", "ERRAND_STATE_FILE=", "ERRAND_WOKEN=", "ERRAND_WOKEN_FILE=", NULL};
    size_t kept = from;
    for (size_t i = from; i < count; i++)
        if (!is_named_in(ours, count_of(ours), vars[i]))
            vars[kept++] = vars[i];
    return kept;
}

char **program_environment(const struct program *program, char *const *own)
{
    size_t room = count_of(own) + count_of(program->env) + count_of(environ) + 1, count = 0;
    char **vars = xcalloc(room, sizeof(*vars));
    count = add_missing(vars, count, own);
    count = add_missing(vars, count, program->env);
    count = without_foreign_turn(vars, count, add_missing(vars, count, environ));
    vars[count] = NULL;
    return vars;
}

const char *program_variable(char *const *vars, const char *name)
{
    size_t n = strlen(name);
    for (; *vars; vars++)
        if (strncmp(*vars, name, n) == 0 && (*vars)[n] == '=')
            return *vars + n + 1;
    return NULL;
}
