/* A program that a definition names: its words, the folder that it runs in and
 * what is added to its environment. Shared by the kinds that start processes.
 *
 * Threads: no shared state; the server's environment must not change. */
#pragma once

#include "base/keys.h"

struct program {
    char **run; /* argv as configured, NULL-terminated */
    char *cwd;  /* absolute */
    char **env; /* NULL-terminated "NAME=value", added to the server's environment */
};

/* Of keys (`read`), for targets that begin with a struct program. */
void program_read_run(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);
void program_read_env(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);

/* Without a `cwd` it is the configuration's folder. `item` is where the keys stood. */
void program_settle(const struct keys_input *in, const cJSON *item, struct program *program);

/* A fault if there is no such program; `name` is its first word, resolved. */
void program_check(const struct keys_input *in, const cJSON *item, const char *pointer,
                   const struct program *program, const char *name);

/* What an element of `run` says; an absent span: it is none. */
struct span program_word(const cJSON *element);

/* Frees `run` and `env` (`cwd` is its key's). */
void program_release(struct program *program);

/* The child's environment: `own` first ("NAME=value", NULL-terminated), then the
 * program's, then the server's, each name once; what was said to a turn that the
 * server itself may be the child of is left out. Its strings are borrowed, the
 * list is the caller's to free(). */
char **program_environment(const struct program *program, char *const *own);

/* The value of a variable, NULL if it has none. */
const char *program_variable(char *const *vars, const char *name);
