#include "workers/kinds/command/environment.h"

#include "workers/kinds/command/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LEASE_URL "ERRAND_LEASE_URL="

/* How many bytes of a variable are its name and the '='. */
static size_t name_len(const char *var)
{
    const char *equals = strchr(var, '=');
    return equals ? (size_t)(equals - var) + 1 : strlen(var);
}

static bool is_named_in(char **vars, size_t count, const char *var)
{
    size_t n = name_len(var);
    for (size_t i = 0; i < count; i++)
        if (strncmp(vars[i], var, n) == 0)
            return true;
    return false;
}

static size_t count_of(char **vars)
{
    size_t n = 0;
    while (vars && vars[n])
        n++;
    return n;
}

/* Ours come first; what follows is taken if no earlier one has its name. */
static size_t add_missing(char **vars, size_t count, char **more)
{
    size_t before = count;
    for (size_t i = 0; more && more[i]; i++)
        if (!is_named_in(vars, before, more[i]))
            vars[count++] = more[i];
    return count;
}

/* A server that is itself a command's child has an address of another's turn. */
static size_t without_foreign_lease(char **vars, size_t from, size_t count)
{
    size_t kept = from;
    for (size_t i = from; i < count; i++)
        if (strncmp(vars[i], LEASE_URL, sizeof LEASE_URL - 1) != 0)
            vars[kept++] = vars[i];
    return kept;
}

static void add_lease_url(struct environment *environment, struct attempt *attempt)
{
    struct buf *url = &environment->lease_url;
    if (!attempt->sink || !attempt->sink->add_lease_url)
        return;
    buf_addl(url, LEASE_URL);
    attempt->sink->add_lease_url(attempt, url);
    if (url->len == sizeof LEASE_URL - 1)
        buf_release(url);
}

void environment_init(struct environment *environment, struct attempt *attempt)
{
    char id[ID_TEXT_LEN + 1] = {0};
    id_format(attempt->id, id);
    snprintf(environment->id, sizeof(environment->id), "ERRAND_ID=%s", id);
    snprintf(environment->number, sizeof(environment->number), "ERRAND_ATTEMPT=%d", attempt->number);
    snprintf(environment->name, sizeof(environment->name), "ERRAND_TASK=%s", attempt->task->name);
    environment->lease_url = (struct buf){0};
    add_lease_url(environment, attempt);

    char **more = command_task(attempt->task)->env;
    size_t room = 4 + count_of(more) + count_of(environ) + 1, count = 0;
    char **vars = xcalloc(room, sizeof(*vars));
    vars[count++] = environment->id;
    vars[count++] = environment->number;
    vars[count++] = environment->name;
    if (environment->lease_url.len)
        vars[count++] = (char *)buf_cstr(&environment->lease_url);
    count = add_missing(vars, count, more);
    count = without_foreign_lease(vars, count, add_missing(vars, count, environ));
    vars[count] = NULL;
    environment->vars = vars;
}

void environment_release(struct environment *environment)
{
    free(environment->vars);
    environment->vars = NULL;
    buf_release(&environment->lease_url);
}

const char *environment_get(const struct environment *environment, const char *name)
{
    size_t n = strlen(name);
    for (char **var = environment->vars; *var; var++)
        if (strncmp(*var, name, n) == 0 && (*var)[n] == '=')
            return *var + n + 1;
    return NULL;
}
