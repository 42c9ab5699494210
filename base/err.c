#include "base/err.h"

#include "base/utf8.h"
#include <stdio.h>

void reason_set(struct reason *why, const char *format, ...)
{
    if (!why)
        return;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    if (length < 0)
        why->text[0] = '\0';
    else if ((size_t)length >= sizeof why->text)
        why->text[utf8_cut(span_of(why->text), sizeof why->text - 1).len] = '\0';
}

const char *err_name(enum err err)
{
    switch (err) {
    case OK: return "ok";
    case ERR_NOT_FOUND: return "not_found";
    case ERR_CONFLICT: return "conflict";
    case ERR_INVALID: return "invalid";
    case ERR_LIMIT: return "limit";
    case ERR_BUSY: return "busy";
    case ERR_MISMATCH: return "mismatch";
    case ERR_UNAVAILABLE: return "unavailable";
    case ERR_DB: return "db";
    case ERR_IO: return "io";
    }
    return "unknown";
}
