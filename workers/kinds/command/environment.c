#include "workers/kinds/command/environment.h"

#include "base/clock.h"
#include "workers/kinds/command/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEASE_URL "ERRAND_LEASE_URL="

enum { VARIABLE_BYTES = 64 * 1024 /* of state and woken: one string of an environment has at most 128 KiB */ };

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

static int write_whole(int fd, struct span bytes)
{
    while (bytes.len) {
        ssize_t n = write(fd, bytes.p, bytes.len);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0)
            bytes = (struct span){bytes.p + n, bytes.len - (size_t)n};
    }
    return 0;
}

/* A file that is nobody's to remove: it is in memory, and the server has it open.
 * (A descriptor that the child inherits would be closed by many before they start
 * another.) */
static int add_file(struct buf *out, const char *name, struct span json, int *fd)
{
    *fd = memfd_create(name, MFD_CLOEXEC);
    if (*fd < 0)
        return errno;
    buf_addf(out, "%s_FILE=/proc/%d/fd/%d", name, (int)getpid(), *fd);
    return write_whole(*fd, json);
}

static int add_json(struct buf *out, const char *name, struct span json, int *fd)
{
    *fd = -1;
    if (!json.p)
        return 0;
    if (json.len > VARIABLE_BYTES)
        return add_file(out, name, json, fd);
    buf_addf(out, "%s=", name);
    buf_add_span(out, json);
    return 0;
}

static size_t add_own(char **vars, size_t count, struct buf *text)
{
    if (text->len)
        vars[count++] = (char *)buf_cstr(text);
    return count;
}

static void add_deadline(struct environment *environment, int64_t at)
{
    struct buf text = {0};
    time_add(&text, at);
    snprintf(environment->deadline, sizeof(environment->deadline), "ERRAND_DEADLINE=%s", buf_cstr(&text));
    buf_release(&text);
}

int environment_init(struct environment *environment, struct attempt *attempt, struct environment_files *files)
{
    char id[ID_TEXT_LEN + 1] = {0};
    id_format(attempt->id, id);
    snprintf(environment->id, sizeof(environment->id), "ERRAND_ID=%s", id);
    snprintf(environment->number, sizeof(environment->number), "ERRAND_ATTEMPT=%d", attempt->number);
    snprintf(environment->name, sizeof(environment->name), "ERRAND_TASK=%s", attempt->task->name);
    environment->deadline[0] = '\0';
    if (attempt->deadline_at)
        add_deadline(environment, attempt->deadline_at);
    environment->lease_url = environment->state = environment->woken = (struct buf){0};
    add_lease_url(environment, attempt);
    int error = add_json(&environment->state, "ERRAND_STATE", attempt->state, &files->state);
    int again = add_json(&environment->woken, "ERRAND_WOKEN", attempt->woken, &files->woken);

    char *own[8];
    size_t count = 0;
    own[count++] = environment->id;
    own[count++] = environment->number;
    own[count++] = environment->name;
    if (*environment->deadline)
        own[count++] = environment->deadline;
    count = add_own(own, count, &environment->lease_url);
    count = add_own(own, count, &environment->state);
    count = add_own(own, count, &environment->woken);
    own[count] = NULL;
    environment->vars = program_environment(&command_task(attempt->task)->program, own);
    return error ? error : again;
}

void environment_release(struct environment *environment)
{
    free(environment->vars);
    environment->vars = NULL;
    buf_release(&environment->lease_url);
    buf_release(&environment->state);
    buf_release(&environment->woken);
}

const char *environment_get(const struct environment *environment, const char *name)
{
    return program_variable(environment->vars, name);
}
