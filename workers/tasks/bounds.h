/* What a parameter's value may be besides its type: a pattern, a length, a
 * range. The home of pcre2.h.
 *
 * Threads: immutable once read; any thread may check. */
#pragma once

#include "base/faults.h"
#include "base/json.h"
#include "base/yaml.h"

struct bounds; /* NULL: none */

/* Is it the name of a bound (`pattern`, `minimum`, `maximum`, `min_length`,
 * `max_length`)? */
bool bounds_knows(const char *name);

/* Adds one to *bounds. `pointer` is the parameter's place; a fault is added if
 * it is no such thing, or contradicts one that was read before. */
void bounds_read(struct bounds **bounds, const struct yaml *doc, const cJSON *item, const char *pointer,
                 struct faults *faults);
void bounds_free(struct bounds *bounds); /* takes NULL */

/* Which types the bounds are for: a fault for each that cannot hold. */
void bounds_check_type(const struct bounds *bounds, bool text, bool number, int line, const char *pointer,
                       struct faults *faults);

/* A value of the right type, as checked JSON. What is wrong goes to *why,
 * written to be read after the parameter's name. */
bool bounds_fit(const struct bounds *bounds, struct span value, struct reason *why);

/* Does a text that the bounds let through begin with a dash? True if nothing is
 * known against it. */
bool bounds_let_options(const struct bounds *bounds);

/* Appends the JSON Schema keywords, each with a comma before it but the first
 * one, if `comma` is "". */
void bounds_add_schema(struct buf *out, const struct bounds *bounds, const char *comma);
