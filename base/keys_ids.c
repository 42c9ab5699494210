#include "base/keys.h"

#include "base/id.h"

bool keys_json_id(const struct keys_json *in, const struct keys_place *at, struct span value, int64_t *id)
{
    bool is_id = json_type(value) == JSON_STRING && id_parse((struct span){value.p + 1, value.len - 2}, id);
    if (!is_id)
        keys_fault(in, at, "must be the id of an invocation");
    return is_id;
}

static bool is_among(const int64_t *ids, int count, int64_t id)
{
    for (int i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

int keys_json_ids(const struct keys_json *in, const struct keys_place *at, struct span value, int max,
                  int64_t *ids)
{
    struct keys_place place = {at, {NULL, 0}, 0};
    struct span item;
    int count = 0;
    if (json_type(value) != JSON_ARRAY) {
        keys_fault(in, at, "must be an array of ids");
        return 0;
    }
    struct json_iter it = json_iter(value);
    for (int64_t id; json_element(&it, &item); place.index++)
        if (place.index < max && keys_json_id(in, &place, item, &id) && !is_among(ids, count, id))
            ids[count++] = id;
    if (place.index == 0 || place.index > max)
        keys_fault(in, at, "must have 1 to %d ids, not %d", max, place.index);
    return count;
}
