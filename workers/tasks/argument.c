#include "workers/tasks/argument.h"

#include "base/json.h"
#include "base/utf8.h"
#include "workers/tasks/args_key.h"

bool argument_path_is_good(struct span path)
{
    return path.len > 0 && utf8_valid(path) && utf8_length(path) <= ARGUMENT_PATH_MAX &&
           !memchr(path.p, '\0', path.len);
}

bool argument_text(struct span bound, const char *path, struct buf *out)
{
    struct span value = bound.len ? args_at(bound, path) : (struct span){NULL, 0};
    if (!value.p || json_type(value) == JSON_OBJECT || json_type(value) == JSON_ARRAY)
        return false;
    if (json_type(value) == JSON_STRING)
        json_unescape(value, out);
    else
        buf_add_span(out, value);
    return true;
}
