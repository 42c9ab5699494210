#include "base/keys_internal.h"
#include "base/nearest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

char *keys_pointer(const char *parent, const char *key)
{
    struct buf pointer = {0};
    buf_adds(&pointer, parent);
    pointer_add(&pointer, span_of(key));
    return buf_take(&pointer);
}

struct span keys_text(const cJSON *item)
{
    if (cJSON_IsString(item) || cJSON_IsNumber(item))
        return span_of(item->valuestring);
    return (struct span){NULL, 0};
}

const struct key *keys_find(const struct key *keys, const char *name)
{
    for (; keys->name; keys++)
        if (strcmp(keys->name, name) == 0)
            return keys;
    return NULL;
}

static void list_free(char **list)
{
    for (char **text = list; text && *text; text++)
        free(*text);
    free(list);
}

static void read_list(const struct keys_input *in, const struct key *key, const cJSON *item, const char *pointer,
                      void *target)
{
    if (!cJSON_IsArray(item) && !cJSON_IsNull(item)) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a list, [...]");
        return;
    }
    int count = cJSON_GetArraySize(item), index = 0;
    if (key->max && count > key->max) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "%d elements are more than %" PRId64, count,
                   key->max);
        return;
    }
    char **list = xcalloc((size_t)count + 1, sizeof(*list));
    int kept = 0;
    for (const cJSON *element = item->child; element; element = element->next, index++) {
        struct span text = keys_text(element);
        struct reason why = {"must be a text"};
        char *copy = span_dup(text);
        if (copy && (!key->check || key->check(copy, &why))) {
            list[kept++] = copy;
            continue;
        }
        char digits[16];
        snprintf(digits, sizeof(digits), "%d", index);
        faults_add_member(in->faults, yaml_line(in->doc, element), pointer, span_of(digits), "%s", why.text);
        free(copy);
    }
    char ***place = keys_field(target, key);
    list_free(*place);
    *place = list;
}

/* Is the item a scalar that the key's text form may come from? */
static struct span scalar_text(const struct key *key, const cJSON *item, struct reason *why)
{
    static const struct span absent = {NULL, 0};
    bool numeric = key->type == KEY_INT || key->type == KEY_COUNT || key->type == KEY_NUMBER;
    if (cJSON_IsNull(item))
        reason_set(why, key->none ? "has no value; write none if none is meant" : "has no value");
    else if (cJSON_IsBool(item))
        reason_set(why, "must not be %s", cJSON_IsTrue(item) ? "true" : "false");
    else if (cJSON_IsArray(item) || cJSON_IsObject(item))
        reason_set(why, "must be one value, not a %s", cJSON_IsArray(item) ? "list" : "mapping");
    else if (numeric && cJSON_IsString(item) && *item->valuestring &&
             strspn(item->valuestring, "-0123456789.") == strlen(item->valuestring))
        reason_set(why, "must be a number without quotes");
    else
        return keys_text(item);
    return absent;
}

static void read_key(const struct keys_input *in, const struct key *key, const cJSON *item, const char *pointer,
                     void *target)
{
    struct reason why = {""};
    if (key->type == KEY_OTHER)
        key->read(in, item, pointer, target);
    else if (key->type == KEY_MAP)
        keys_read(in, item, pointer, &(struct key_section){.keys = key->members, .target = target}, 1);
    else if (key->type == KEY_LIST)
        read_list(in, key, item, pointer, target);
    else {
        struct span text = scalar_text(key, item, &why);
        if (!text.p || !keys_set_text(key, text, in->folder, target, &why))
            faults_add(in->faults, yaml_line(in->doc, item), pointer, "%s", why.text);
    }
}

static void read_member(const struct keys_input *in, const cJSON *item, const char *pointer,
                        const struct key_section *sections, int section_count)
{
    struct nearest near = nearest_to(span_of(item->string));
    int line = yaml_line(in->doc, item);

    for (int s = 0; s < section_count; s++) {
        const struct key *key = keys_find(sections[s].keys, item->string);
        if (key && sections[s].refuse) {
            struct reason why;
            sections[s].refuse(key->name, sections[s].target, &why);
            faults_add(in->faults, line, pointer, "`%s` does not belong here: %s", key->name, why.text);
            return;
        }
        if (key) {
            read_key(in, key, item, pointer, sections[s].target);
            return;
        }
        for (key = sections[s].keys; key->name && !sections[s].refuse; key++)
            nearest_try(&near, key->name);
    }
    faults_add(in->faults, line, pointer, "unknown key `%s`" NEAREST_FORMAT, item->string, NEAREST_ARGS(near));
}

void keys_read(const struct keys_input *in, const cJSON *mapping, const char *pointer,
               const struct key_section *sections, int section_count)
{
    int line = yaml_line(in->doc, mapping);
    if (!cJSON_IsObject(mapping) && !cJSON_IsNull(mapping)) {
        faults_add(in->faults, line, pointer, "must be a mapping, {key: value}");
        return;
    }
    for (const cJSON *item = mapping->child; item; item = item->next) {
        char *place = keys_pointer(pointer, item->string);
        read_member(in, item, place, sections, section_count);
        free(place);
    }
    for (int s = 0; s < section_count; s++)
        for (const struct key *key = sections[s].keys; key->name; key++)
            if (key->required && !sections[s].refuse && !sections[s].lenient &&
                !cJSON_GetObjectItemCaseSensitive(mapping, key->name))
                faults_add(in->faults, line, pointer, "`%s` is missing: %s", key->name, key->help);
}

void keys_set_defaults(const struct key *keys, void *target, const char *folder)
{
    struct faults faults = {0};
    struct buf text = {0};
    keys_add_yaml(&text, keys, 0, false);
    struct yaml *doc = yaml_parse(buf_span(&text), &faults);
    if (doc) {
        struct keys_input in = {doc, folder, &faults};
        keys_read(&in, yaml_root(doc), "", &(struct key_section){.keys = keys, .target = target, .lenient = true},
                  1);
    }
    if (faults.count > 0) {
        fprintf(stderr, "the default of %s: %s\n", faults.items[0].pointer, faults.items[0].detail);
        abort();
    }
    yaml_free(doc);
    buf_release(&text);
}

void keys_release(const struct key *keys, void *target)
{
    for (; keys->name; keys++) {
        if (keys->type == KEY_MAP) {
            keys_release(keys->members, target);
        } else if (keys->type == KEY_TEXT || keys->type == KEY_PATH) {
            keys_replace(keys_field(target, keys), NULL);
        } else if (keys->type == KEY_LIST) {
            char ***place = keys_field(target, keys);
            list_free(*place);
            *place = NULL;
        }
    }
}
