/* The configuration: errand.yaml, ERRAND_* variables and flags, in one struct.
 *
 * Flags beat variables beat the file. One validator reports every mistake at
 * once, each with its line. Immutable once loaded; a reload makes another. */
#pragma once

#include "base/faults.h"
#include "base/log.h"
#include "workers/registry.h"
#include "workers/schedule_list.h"

enum scope { SCOPE_READ = 1, SCOPE_SUBMIT = 2, SCOPE_WORK = 4, SCOPE_ADMIN = 8, SCOPE_ALL = 15 };

/* "read", "submit", "work", "admin". */
const char *scope_name(unsigned scope);

struct token {
    char *name;
    uint8_t sha256[32];
    unsigned scopes; /* of enum scope; admin implies all */
};

struct config {
    int references; /* besides the first; the HTTP thread's alone */

    char *file;   /* absolute path of the file, NULL if none was read */
    char *folder; /* absolute: the file's, or the working directory */

    char *listen_host; /* "127.0.0.1", "::1", "0.0.0.0"; without brackets */
    int listen_port;   /* 0 picks one; 8080 */
    char *listen_path; /* of a Unix socket, absolute; listen_host is localhost then; NULL: none */
    char *url;         /* by which lease URLs are made, without a slash at its end; NULL: where it listens */
    char *store;       /* a path (absolute), or ":memory:" */
    int slots;         /* 1..1024; twice the processors */
    bool insecure;     /* --insecure: off loopback without tokens */

    struct log_settings log;               /* of it all, and: */
    int log_levels[KINDS_MAX];             /* of turns, by the kind of their task, plus 1; 0: as of it all */
    enum turn_log_arguments log_arguments; /* of the arguments of turns */

    struct token *tokens;
    int token_count;
    char **hosts;                    /* accepted Host names besides loopback's; NULL-terminated, never NULL */
    char **cors_origins;             /* NULL-terminated, never NULL; "*" allowed */
    char *tls_certificate, *tls_key; /* absolute paths of PEM files; both or none */

    int64_t shutdown_timeout_ms; /* 30s */
    int64_t kill_grace_ms;       /* 5s */
    int64_t retain_max;          /* final invocations kept at most; 0 is no limit */
    struct {
        int64_t body_bytes;              /* 1 MiB */
        int64_t bulk_body_bytes;         /* 64 MiB */
        int64_t bulk_lines;              /* 100000 */
        int64_t result_bytes;            /* 8 MiB */
        int64_t log_bytes;               /* 10 MiB, of an attempt */
        int64_t answers_bytes;           /* 64 MiB: large answers on their way out, together */
        int64_t connections;             /* 2000 */
        int64_t connections_per_address; /* 0: no limit of its own */
        int64_t streams;                 /* 1000 suspended requests: waits and followed logs */
        int64_t header_bytes;            /* 8 KiB: libmicrohttpd clears it for each request */
        int64_t request_timeout_ms;      /* a request must be sent within; 30s */
        int64_t idle_timeout_ms;         /* a silent connection is closed; 60s */
    } limits;

    struct registry *registry;       /* the tasks; a reference is the config's */
    struct schedule_list *schedules; /* the same of these */
};

/* What flags gave; NULL or 0 where none was. Every one has an ERRAND_*
 * variable of the same name (ERRAND_CONFIG, ERRAND_LISTEN, ERRAND_STORE,
 * ERRAND_SLOTS, ERRAND_LOG_LEVEL, ERRAND_LOG_FORMAT, ERRAND_LOG_DIRECTORY). */
struct config_flags {
    const char *config;
    const char *listen;
    const char *store;
    const char *slots;
    const char *log_level;
    const char *log_format;
    const char *log_directory;
    bool insecure;
};

/* Reads the file (flags->config, else $ERRAND_CONFIG, else ./errand.yaml if it
 * is there, else none), the variables and the flags. NULL with faults added if
 * anything is wrong; faults of the file have a line, others have none and name
 * the flag or variable as their pointer. */
struct config *config_load(const struct config_flags *flags, struct faults *faults);
void config_free(struct config *config); /* takes NULL */

/* A configuration is replaced while requests that began under it go on: each
 * holds a reference. config_load() gives the first one. HTTP thread only. */
struct config *config_ref(struct config *config);
void config_unref(struct config *config); /* takes NULL; the last one frees */

/* Reads a configuration from text, without variables and flags, its relative
 * paths starting at `folder` (absolute). As config_load otherwise. */
struct config *config_parse(struct span text, const char *folder, struct faults *faults);

/* Appends every key of the file with its default and one line that says what
 * it is: `errand check --defaults`. Generated from the table that validates. */
void config_add_defaults(struct buf *out);

/* Is the address loopback (127.0.0.0/8, ::1, localhost)? */
bool config_is_loopback(const struct config *config);
