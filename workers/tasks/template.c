#include "workers/tasks/template.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

enum template_piece template_next(const char **at, struct span *text)
{
    const char *p = *at;
    if (*p == '\0')
        return TEMPLATE_END;

    size_t n = strcspn(p, "{}");
    if (n > 0) {
        *text = (struct span){p, n};
        *at = p + n;
        return TEMPLATE_TEXT;
    }
    if (p[1] == p[0]) {
        *text = (struct span){p, 1};
        *at = p + 2;
        return TEMPLATE_TEXT;
    }
    size_t letters = strspn(p + 1, LETTERS);
    n = letters + strspn(p + 1 + letters, LETTERS "0123456789");
    if (*p == '{' && letters > 0 && p[1 + n] == '}') {
        *text = (struct span){p + 1, n};
        *at = p + n + 2;
        return TEMPLATE_NAME;
    }
    *text = (struct span){p, 1};
    *at = p + 1;
    return TEMPLATE_BAD;
}
