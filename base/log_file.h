/* A file that a log is appended to, and that is put away when it has grown: NAME becomes
 * NAME.1, what that was NAME.2, and so on; the oldest goes.
 *
 *     struct log_file *file = log_file_open(path, &(struct log_rotation){10 << 20, 5}, &why);
 *     log_file_write(file, SPAN("a line\n"));
 *     log_file_close(file);
 *
 * What is written at once stands in one file, whole, whatever its size; nothing mixes with it.
 * Somebody else's logrotate may have the file, too: log_file_move().
 *
 * Threads: any. A write waits for the disk, as it does for any file. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

struct log_file;

struct log_rotation {
    int64_t max_bytes; /* of a file; 0: it is never put away */
    int keep;          /* of those that were put away */
};

/* NULL with the reason. */
struct log_file *log_file_open(const char *path, const struct log_rotation *rotation, struct reason *why);
void log_file_close(struct log_file *file); /* takes NULL */

/* From now on there, and so; what has that name by now is opened anew. If it cannot be, the
 * log goes on where it was: ERR_IO with the reason. */
MUST_USE enum err log_file_move(struct log_file *file, const char *path, const struct log_rotation *rotation,
                                struct reason *why);

/* There is nowhere to report a log that cannot be written: what could not be is lost. */
void log_file_write(struct log_file *file, struct span bytes);
