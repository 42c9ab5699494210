/* YAML read into a cJSON tree that remembers lines. The home of libyaml.
 *
 * Scalars: plain `null` `~` and nothing are null; `true` and `false` are
 * booleans; what reads as a JSON number is a number; everything else, and
 * everything quoted, is a string. Keys are always strings. A number's item
 * has its own digits in `valuestring`, so that nothing is lost to a double.
 * Refused: duplicate keys, anchors and aliases, tags, several documents,
 * nesting over 64, files over 4 MiB.
 *
 * Threads: a document belongs to one thread at a time. */
#pragma once

#include "base/buf.h"
#include "base/faults.h"
#include <cjson/cJSON.h>

struct yaml;

/* Reads the text. NULL with faults added if it cannot be read; an empty text
 * is an empty object. The caller frees with yaml_free. */
struct yaml *yaml_parse(struct span text, struct faults *faults);

/* Takes NULL. The symbol has another name because libyaml exports a yaml_free
 * too and would call this one. */
void yaml_free(struct yaml *doc) __asm__("errand_yaml_free");

/* The tree, owned by the document. */
cJSON *yaml_root(const struct yaml *doc);

/* The 1-based line on which the item starts (a member's is its key's line). */
int yaml_line(const struct yaml *doc, const cJSON *item);

/* Appends the item as JSON, numbers with their own digits. */
void yaml_add_json(struct buf *out, const cJSON *item);
