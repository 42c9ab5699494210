/* An element of a command's argv with `{name}` in it.
 *
 *     const char *at = "-o{target}";
 *     while ((piece = template_next(&at, &text)) != TEMPLATE_END) ...
 *
 * `{{` and `}}` are literal braces; any other brace that is no placeholder is
 * TEMPLATE_BAD. A name is letters, digits and _, no digit first.
 *
 * Threads: no shared state. */
#pragma once

#include "base/buf.h"

enum template_piece {
    TEMPLATE_END,
    TEMPLATE_TEXT, /* bytes as they are */
    TEMPLATE_NAME, /* the name, without braces */
    TEMPLATE_BAD,  /* a brace that says nothing; configurations with one are refused */
};

/* The next piece, and `at` moved past it. `text` points into the element. */
enum template_piece template_next(const char **at, struct span *text);
