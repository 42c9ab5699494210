#include "workers/tasks/args_key.h"

#include <stdlib.h>

static bool is_word(const cJSON *item, const char *word)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, word) == 0;
}

static bool read_name(const struct keys_input *in, const cJSON *item, const char *pointer, char **name)
{
    struct span text = keys_text(item);
    bool good = text.p && text.len > 0 && text.len <= ARGS_KEY_NAME_MAX && !memchr(text.p, '\0', text.len);
    if (good) {
        *name = xcalloc(text.len + 1, 1);
        memcpy(*name, text.p, text.len);
    } else {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "the name of an argument has 1 to %d bytes",
                   ARGS_KEY_NAME_MAX);
    }
    return good;
}

static void read_names(const struct keys_input *in, const cJSON *list, const char *pointer, struct args_key *key)
{
    int count = cJSON_GetArraySize(list), n = 0;
    if (count < 1 || count > ARGS_KEY_NAMES_MAX) {
        faults_add(in->faults, yaml_line(in->doc, list), pointer, "must have 1 to %d names", ARGS_KEY_NAMES_MAX);
        return;
    }
    key->by = ARGS_KEY_NAMES;
    key->names = xcalloc((size_t)count + 1, sizeof *key->names);
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (read_name(in, item, pointer, &key->names[n]))
            n++;
    }
}

void args_key_read(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct args_key *key = target;
    args_key_release(key);
    if (is_word(item, "args"))
        key->by = ARGS_KEY_ARGS;
    else if (cJSON_IsArray(item))
        read_names(in, item, pointer, key);
    else if (!is_word(item, "task"))
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be task, args, or a list of the names of arguments");
}

void args_key_copy(struct args_key *to, const struct args_key *from)
{
    size_t count = 0;
    *to = *from;
    if (!from->names)
        return;
    while (from->names[count])
        count++;
    to->names = xcalloc(count + 1, sizeof *to->names);
    for (size_t i = 0; i < count; i++)
        to->names[i] = xstrdup(from->names[i]);
}

void args_key_release(struct args_key *key)
{
    for (char **name = key->names; name && *name; name++)
        free(*name);
    free(key->names);
    *key = (struct args_key){0};
}

void args_key_add_json(struct buf *out, const struct args_key *key)
{
    if (key->by != ARGS_KEY_NAMES) {
        buf_adds(out, key->by == ARGS_KEY_ARGS ? "\"args\"" : "\"task\"");
        return;
    }
    for (char **name = key->names; *name; name++) {
        buf_addc(out, name == key->names ? '[' : ',');
        json_add_string(out, span_of(*name));
    }
    buf_addc(out, ']');
}

/* The member with the first `len` bytes of the path as its name. */
static struct span member(struct span object, const char *path, size_t len)
{
    char name[ARGS_KEY_NAME_MAX + 1];
    if (!object.p || json_type(object) != JSON_OBJECT || len >= sizeof name)
        return (struct span){NULL, 0};
    memcpy(name, path, len);
    name[len] = '\0';
    return json_get(object, name);
}

struct span args_at(struct span bound, const char *path)
{
    struct span found = member(bound, path, strlen(path));
    for (const char *dot = strchr(path, '.'); dot && !found.p; dot = strchr(dot + 1, '.')) {
        struct span outer = member(bound, path, (size_t)(dot - path));
        if (outer.p)
            found = args_at(outer, dot + 1);
    }
    return found;
}

void args_key_add(struct buf *out, const struct args_key *key, struct span bound)
{
    struct span value = {NULL, 0};
    if (key->by == ARGS_KEY_TASK)
        return;
    if (key->by == ARGS_KEY_ARGS) {
        json_add_canonical(out, bound.p && bound.len ? bound : SPAN("null"), NULL);
        return;
    }
    for (char **name = key->names; *name; name++) {
        value = bound.len ? args_at(bound, *name) : value;
        buf_addc(out, name == key->names ? '[' : ',');
        json_add_canonical(out, value.p ? value : SPAN("null"), NULL);
    }
    buf_addc(out, ']');
}
