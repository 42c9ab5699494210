/* A command's argv: the configured words with `{name}` replaced by the
 * arguments. A string stands for its text, every other value for its JSON
 * exactly as it was sent. One word stays one word: there is no shell.
 *
 * Threads: no shared state. */
#pragma once

#include "base/err.h"
#include "base/faults.h"
#include "workers/tasks/task.h"

/* What the kernel takes in one word, without its NUL (MAX_ARG_STRLEN). */
enum { ARGV_WORD_MAX = 128 * 1024 - 1 };

struct argv {
    char **words; /* NULL-terminated, pointing into `text`; NULL where there are faults */
    struct buf text;
};

/* Expands the task's `run` with the arguments: checked JSON, bound if the task has
 * params, absent or an object without them. ERR_INVALID with every fault added
 * under /args/NAME: a missing argument, one with \u0000 in it, a word that gets
 * too long. `faults` may be NULL. Release it either way. */
MUST_USE enum err argv_expand(const struct task *task, struct span args, struct argv *argv, struct faults *faults);
void argv_release(struct argv *argv);

/* Would argv_expand() do? For a submission, which is refused with the faults. */
MUST_USE enum err argv_check(const struct task *task, struct span args, struct faults *faults);
