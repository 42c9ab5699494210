#include "base/keys_internal.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

/* The fewest digits that read back as the same number. */
static void number_add(struct buf *out, double value)
{
    char text[32];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_adds(out, text);
}

enum { HELP_COLUMN = 36 };

static void add_line(struct buf *out, int indent, bool comment, const char *name, const char *value,
                     const char *help)
{
    size_t start = out->len;
    if (comment)
        buf_addl(out, "# ");
    buf_addf(out, "%*s%s:%s%s", indent, "", name, value ? " " : "", value ? value : "");
    while (out->len - start < HELP_COLUMN)
        buf_addc(out, ' ');
    buf_addf(out, "  # %s\n", help);
}

static bool is_mapping(const struct key *key)
{
    return key->members && !key->each;
}

static bool has_defaults(const struct key *keys)
{
    for (; keys->name; keys++)
        if (keys->default_text || (is_mapping(keys) && has_defaults(keys->members)))
            return true;
    return false;
}

void keys_add_yaml(struct buf *out, const struct key *keys, int indent, bool comment)
{
    for (; keys->name; keys++) {
        if (is_mapping(keys)) {
            bool hidden = comment || !has_defaults(keys->members);
            add_line(out, indent, hidden, keys->name, NULL, keys->help);
            keys_add_yaml(out, keys->members, indent + 2, hidden);
            continue;
        }
        const char *value = keys->default_text ? keys->default_text : keys->example;
        add_line(out, indent, comment || !keys->default_text, keys->name, value, keys->help);
        if (keys->each)
            buf_addf(out, "# %*s%s\n", indent + 2, "", keys->each);
        if (keys->members)
            keys_add_yaml(out, keys->members, indent + 4, true);
    }
}

static void add_list(struct buf *out, const struct key *key, char *const *list)
{
    if (!list) {
        buf_adds(out, key->default_text ? key->default_text : "[]");
        return;
    }
    buf_addc(out, '[');
    for (int i = 0; list[i]; i++) {
        if (i > 0)
            buf_addc(out, ',');
        json_add_string(out, span_of(list[i]));
    }
    buf_addc(out, ']');
}

/* The value, or false if there is nothing to show. */
static bool add_value(struct buf *out, const struct key *key, const void *target)
{
    const void *place = (const char *)target + key->offset;
    int64_t value;
    int word;

    switch (key->type) {
    case KEY_INT: buf_add_int(out, *(const int *)place); return true;
    case KEY_NUMBER: number_add(out, *(const double *)place); return true;
    case KEY_LIST: add_list(out, key, *(char *const *const *)place); return true;
    case KEY_COUNT:
    case KEY_SIZE:
    case KEY_DURATION:
        value = *(const int64_t *)place;
        if (key->none && value == 0)
            return false;
        if (key->type == KEY_COUNT) {
            buf_add_int(out, value);
            return true;
        }
        buf_addc(out, '"');
        keys_add_limit(out, key, value);
        buf_addc(out, '"');
        return true;
    case KEY_WORD:
        memcpy(&word, place, sizeof(word));
        json_add_string(out, span_of(key->words[word]));
        return true;
    case KEY_TEXT:
        if (!*(char *const *)place)
            return false;
        json_add_string(out, span_of(*(char *const *)place));
        return true;
    case KEY_MAP:
        buf_addc(out, '{');
        keys_add_json(out, key->members, target);
        buf_addc(out, '}');
        return true;
    case KEY_PATH:
    case KEY_PARSED:
    case KEY_OTHER:
    case KEY_SPAN:
    case KEY_BOOL:
    case KEY_TIME:
    case KEY_VALUE: break;
    }
    return false;
}

void keys_add_json(struct buf *out, const struct key *keys, const void *target)
{
    bool first = true;
    for (; keys->name; keys++) {
        size_t start = out->len;
        buf_addf(out, "%s\"%s\":", first ? "" : ",", keys->name);
        if (add_value(out, keys, target))
            first = false;
        else
            out->len = start;
    }
}
