/* A task's parameters: bound like a function's signature.
 *
 * `params: {x: integer, y: {type: integer, default: 1}}` binds `[1, 2]` by
 * position, `{"x": 1}` by name, fills defaults in, and refuses unknown,
 * missing and mistyped ones, all of them at once.
 *
 * Threads: immutable once parsed; any thread may bind. */
#pragma once

#include "base/faults.h"
#include "base/json.h"
#include "base/yaml.h"

enum param_type {
    PARAM_ANY,
    PARAM_STRING,
    PARAM_INTEGER, /* no fraction, no exponent, any size */
    PARAM_NUMBER,
    PARAM_BOOLEAN,
    PARAM_ARRAY,
    PARAM_OBJECT,
};

enum { PARAMS_MAX = 64 };

struct params;

/* Reads the `params:` mapping of a task: name -> type word, or
 * {type, default, description, enum, pattern, minimum, maximum, min_length,
 * max_length}. Faults are added with `pointer` as
 * their place and their lines; NULL if there are any. */
struct params *params_parse(const struct yaml *doc, const cJSON *item, const char *pointer, struct faults *faults);
void params_free(struct params *params); /* takes NULL */

/* Binds checked JSON `args` (an object by name, an array by position; absent
 * is an empty object) and appends the bound object to `bound`, in the order
 * of the definition, the client's tokens verbatim. ERR_INVALID with every
 * fault added, pointers starting with `pointer` ("/args"). */
MUST_USE enum err params_bind(const struct params *params, struct span args, const char *pointer,
                              struct buf *bound, struct faults *faults);

/* The same of arguments that are made of two: `args` over `common`. */
struct params_given {
    struct span args;   /* absent: none */
    struct span common; /* an object; absent: none */
    const char *pointer, *common_pointer;
    bool sketched;   /* `common` may have references (reference.h), which fit everywhere */
    bool references; /* and so may `args`; of those that are one as a whole nothing is known, and nothing is
                      * appended */
};
MUST_USE enum err params_bind_given(const struct params *params, const struct params_given *given,
                                    struct buf *bound, struct faults *faults);

/* Is there such a parameter? (`{name}` in a command's argv must be one.) */
bool params_has(const struct params *params, struct span name);

/* Where it stands among them, from 0; -1: there is no such parameter. */
int params_position(const struct params *params, struct span name);

/* May its value be a text that begins with a dash? True for any name if there
 * are no params: any JSON is accepted then. */
bool params_let_options(const struct params *params, struct span name);

/* The parameters as JSON Schema (draft 2020-12), appended as JSON text:
 * {"type":"object","properties":{...},"required":[...],"additionalProperties":false}.
 * NULL params (any JSON is accepted) are `true`. */
void params_add_schema(struct buf *out, const struct params *params);
