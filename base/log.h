/* The program's log: one line an event, key=value or JSON.
 *
 *     log_info("listening", LOG_STR("address", address), LOG_INT("port", port));
 *     time=2026-01-02T03:04:05.678Z level=info msg=listening address=127.0.0.1 port=8080
 *
 * Threads: any. A line is written whole, so lines do not mix. Before log_open()
 * and after log_close() lines go to stderr as text at level info. In between
 * nothing waits for whoever reads stderr: lines that he does not make room for
 * are lost, and the next one is preceded by one that says how many. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/log_file.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_field {
    const char *name; /* NULL ends the list */
    const char *text; /* NULL: the number is meant */
    size_t text_len;
    int64_t number;
};

static inline struct log_field log_field_text(const char *name, const char *text, size_t text_len)
{
    return (struct log_field){name, text ? text : "", text ? text_len : 0, 0};
}

static inline struct log_field log_field_string(const char *name, const char *text)
{
    return log_field_text(name, text, text ? strlen(text) : 0);
}

static inline struct log_field log_field_span(const char *name, struct span text)
{
    return log_field_text(name, text.p, text.len);
}

#define LOG_STR(name, value) log_field_string((name), (value))
#define LOG_SPAN(name, value) log_field_span((name), (value))
#define LOG_INT(name, value) ((struct log_field){(name), NULL, 0, (value)})

#define log_debug(...) LOG_(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) LOG_(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) LOG_(LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_(level, message, ...)                                                                         \
    (log_enabled(level)                                                                                   \
         ? log_write((level), (message), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) LOG_END_}) \
         : (void)0)
#define LOG_END_ ((struct log_field){NULL, NULL, 0, 0})

struct log_settings {
    enum log_level level;
    enum log_format format;
    const char *directory; /* made if it is missing, for DIRECTORY/errand.log; NULL: to stderr */
    struct log_rotation rotation;
};

/* May be called again (reload): what is named there by now is opened anew. */
MUST_USE enum err log_open(const struct log_settings *settings, struct reason *why);
void log_close(void);

/* Somebody else's file beside it, NAME.log, by the same rules; the caller's. NULL if the log
 * has no directory, or with a line there. */
struct log_file *log_open_beside(const char *name);

bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *message, const struct log_field *fields);
