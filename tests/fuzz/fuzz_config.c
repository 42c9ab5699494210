/* A configuration from anywhere: it is read or refused, and a refusal says
 * why. The tasks that are read can be found, shown and bound to. */
#include "base/json.h"
#include "server/config/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void use(const struct task *task, struct buf *out)
{
    static const char *const args[] = {"{}", "[]", "[1,\"a\",null]", "{\"x\":1,\"y\":[true]}"};
    size_t start = out->len;

    task_add_options(out, task);
    require(json_check(out->data + start, out->len - start, JSON_DEPTH_MAX, NULL) == OK);
    start = out->len;
    params_add_schema(out, task->params);
    /* A default is at most as deep as a file, its schema a little deeper. */
    require(json_check(out->data + start, out->len - start, 2 * JSON_DEPTH_MAX, NULL) == OK);

    for (size_t i = 0; task->params && i < sizeof(args) / sizeof(args[0]); i++) {
        struct faults faults = {0};
        start = out->len;
        enum err err = params_bind(task->params, span_of(args[i]), "/args", out, &faults);
        require((err == OK) == (faults.total == 0) && (err == OK) == (out->len > start));
        faults_release(&faults);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct faults faults = {0};
    struct span text = {size ? (const char *)data : "", size};
    struct config *config = config_parse(text, "/", &faults);

    require((config != NULL) == (faults.total == 0));
    for (int i = 0; i < faults.count; i++)
        require(faults.items[i].detail[0] && utf8_valid(span_of(faults.items[i].detail)));
    if (config) {
        struct buf out = {0};
        for (int i = 0; i < registry_count(config->registry); i++) {
            struct task *task = registry_at(config->registry, i);
            require(registry_find(config->registry, span_of(task->name)) == task);
            use(task, &out);
        }
        for (int i = 0; i < schedule_list_count(config->schedules); i++) {
            struct span definition = buf_span(&schedule_list_at(config->schedules, i)->definition);
            require(json_check(definition.p, definition.len, JSON_DEPTH_MAX, NULL) == OK);
        }
        buf_release(&out);
    }
    config_free(config);
    faults_release(&faults);
    return 0;
}
