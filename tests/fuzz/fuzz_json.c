/* Whatever json_check() passes, every reader must walk safely and alike. */
#include "base/json.h"
#include <assert.h>
#include <cjson/cJSON.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_inside(struct span part, struct span whole)
{
    return part.p >= whole.p && part.p + part.len <= whole.p + whole.len;
}

static void expect_string(struct span string)
{
    struct buf text = {0}, quoted = {0}, again = {0};
    json_unescape(string, &text);
    assert(utf8_valid(buf_span(&text)));
    json_add_string(&quoted, buf_span(&text));
    assert(json_check(quoted.data, quoted.len, 0, NULL) == OK);
    json_unescape(buf_span(&quoted), &again);
    assert(again.len == text.len && (text.len == 0 || memcmp(again.data, text.data, text.len) == 0));
    buf_release(&text);
    buf_release(&quoted);
    buf_release(&again);
}

static void expect_number(struct span number)
{
    int64_t value;
    (void)json_double(number);
    if (!json_int64(number, &value))
        return;
    struct buf digits = {0};
    buf_add_int(&digits, value);
    assert(json_is_integer(number));
    assert(span_is(number, buf_cstr(&digits)) || span_is(number, "-0"));
    buf_release(&digits);
}

/* Returns how many values there are, itself included. */
static int expect_value(struct span value, int depth_max)
{
    assert(json_check(value.p, value.len, depth_max, NULL) == OK);
    assert(json_trim(value).len == value.len);
    int count = 1;
    struct span key, item;
    struct json_iter it = json_iter(value);
    switch (json_type(value)) {
    case JSON_OBJECT:
        while (json_member(&it, &key, &item)) {
            assert(is_inside(key, value) && is_inside(item, value) && key.p + key.len < item.p);
            expect_string(key);
            count += expect_value(item, depth_max - 1);
        }
        break;
    case JSON_ARRAY:
        while (json_element(&it, &item)) {
            assert(is_inside(item, value));
            count += expect_value(item, depth_max - 1);
        }
        break;
    case JSON_STRING: expect_string(value); break;
    case JSON_NUMBER: expect_number(value); break;
    default: break;
    }
    return count;
}

static int count_items(const cJSON *item)
{
    int count = 1;
    const cJSON *child;
    cJSON_ArrayForEach(child, item) count += count_items(child);
    return count;
}

static bool has_null_escape(struct span text)
{
    return memmem(text.p, text.len, "\\u0000", 6) != NULL;
}

static void expect_cjson_agrees(struct span text, int count)
{
    cJSON *tree = cJSON_ParseWithLength(text.p, text.len);
    assert(tree || has_null_escape(text)); /* which cJSON refuses */
    assert(!tree || count_items(tree) == count);
    cJSON_Delete(tree);
}

static void expect_line(struct span text)
{
    struct buf line = {0};
    json_add_line(&line, text);
    assert(line.len == text.len && !memchr(line.data, '\n', line.len) && !memchr(line.data, '\r', line.len));
    assert(json_check(line.data, line.len, JSON_DEPTH_MAX, NULL) == OK);
    buf_release(&line);
}

static void expect_fault(struct span text, const struct json_fault *fault)
{
    assert(fault->offset <= text.len);
    assert(fault->detail[0] && utf8_valid(span_of(fault->detail)));
    assert(utf8_valid(span_of(fault->pointer)));
}

static void expect_lossy(struct span bytes)
{
    struct buf quoted = {0};
    json_add_lossy(&quoted, bytes);
    assert(json_check(quoted.data, quoted.len, 0, NULL) == OK);
    buf_release(&quoted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = {(const char *)data, size};
    struct json_fault fault;
    expect_lossy(text);
    if (json_check(text.p, text.len, JSON_DEPTH_MAX, &fault)) {
        expect_fault(text, &fault);
        return 0;
    }
    assert(utf8_valid(text));
    int count = expect_value(json_trim(text), JSON_DEPTH_MAX);
    expect_cjson_agrees(text, count);
    expect_line(text);
    return 0;
}
