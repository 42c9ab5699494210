/* Whatever yaml_parse() makes of a text: a tree that is JSON and knows its
 * lines, or faults that say where. */
#include "base/json.h"
#include "base/yaml.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_lines(const struct yaml *doc, const cJSON *item, int first, int last)
{
    int line = yaml_line(doc, item);
    assert(line >= first && line <= last);
    const cJSON *child;
    cJSON_ArrayForEach(child, item) expect_lines(doc, child, first, last);
}

static void expect_faults(const struct faults *faults, int last)
{
    assert(faults->total > 0 && faults->count > 0);
    for (int i = 0; i < faults->count; i++) {
        const struct fault *fault = &faults->items[i];
        assert(fault->line >= 1 && fault->line <= last);
        assert(utf8_valid(span_of(fault->detail)) && utf8_valid(span_of(fault->pointer)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct faults faults = {0};
    struct yaml *doc = yaml_parse((struct span){(const char *)data, size}, &faults);
    int last_line = (int)size + 1;
    if (doc) {
        struct buf json = {0};
        assert(faults.total == 0);
        yaml_add_json(&json, yaml_root(doc));
        assert(json_check(json.data, json.len, JSON_DEPTH_MAX, NULL) == OK);
        expect_lines(doc, yaml_root(doc), 1, last_line);
        buf_release(&json);
    } else {
        expect_faults(&faults, last_line);
    }
    yaml_free(doc);
    faults_release(&faults);
    return 0;
}
