#include "workers/kinds/command/command.h"
#include "workers/kinds/native.h"
#include "workers/registry.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder with a file that may stand for a module, and a program. */
static char folder[64];

static void make_folder(void)
{
    char path[128];
    strcpy(folder, "/tmp/errand-task-XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/tasks.so", folder);
    fclose(fopen(path, "w"));
    snprintf(path, sizeof(path), "%s/program", folder);
    fclose(fopen(path, "w"));
    cr_assert_eq(chmod(path, 0755), 0);
}

static void remove_folder(void)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/tasks.so", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/program", folder);
    unlink(path);
    rmdir(folder);
}

TestSuite(registry, .init = make_folder, .fini = remove_folder);

static struct registry *parsed(const char *text, struct faults *faults)
{
    struct yaml *doc = yaml_parse(span_of(text), faults);
    cr_assert(doc, "not YAML: %s", text);
    const cJSON *root = yaml_root(doc);
    struct registry_source source = {
        .doc = doc,
        .tasks = cJSON_GetObjectItemCaseSensitive(root, "tasks"),
        .pools = cJSON_GetObjectItemCaseSensitive(root, "pools"),
        .defaults = cJSON_GetObjectItemCaseSensitive(root, "defaults"),
        .folder = folder,
    };
    struct registry *registry = registry_parse(kinds, &source, faults);
    yaml_free(doc);
    return registry;
}

static struct registry *good(const char *text)
{
    struct faults faults = {0};
    struct registry *registry = parsed(text, &faults);
    cr_assert(registry, "%s: %s: %s", text, faults.items[0].pointer, faults.items[0].detail);
    return registry;
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

Test(registry, a_native_task_has_an_absolute_module_and_its_name_as_function)
{
    struct registry *registry = good("tasks: {add: {kind: native, module: tasks.so, params: {x: integer}},\n"
                                     "        odd-name: {kind: native, module: tasks.so, function: add_2}}");
    struct task *add = registry_at(registry, 0), *odd = registry_at(registry, 1);
    const struct native_task *native = add->definition, *odd_native = odd->definition;
    cr_expect_eq(add->kind, &native_kind);
    cr_expect_str_eq(native->module, in_folder("tasks.so"));
    cr_expect_str_eq(native->function, "add");
    cr_expect(add->params && params_has(add->params, SPAN("x")));
    cr_expect_eq(odd->kind, &native_kind);
    cr_expect_str_eq(odd_native->function, "add_2");
    cr_expect_null(odd->params);
    registry_unref(registry);
}

Test(registry, a_command_keeps_its_words_as_they_are_written)
{
    struct registry *registry = good("tasks:\n"
                                     "  c:\n"
                                     "    kind: command\n"
                                     "    run: [cat, \"-n{x}\", 1.10, 007, true, \"{{}}\", \"\"]\n"
                                     "    env: {A: 1.10, B: false, C: 'x=y', EMPTY: ''}\n"
                                     "    description: does it\n");
    static const char *const run[] = {"cat", "-n{x}", "1.10", "007", "true", "{{}}", "", NULL};
    static const char *const env[] = {"A=1.10", "B=false", "C=x=y", "EMPTY=", NULL};
    struct task *task = registry_at(registry, 0);
    const struct command_task *command = command_task(task);

    cr_expect_eq(task->kind, &command_kind);
    for (int i = 0; run[i]; i++)
        cr_expect_str_eq(command->program.run[i], run[i]);
    cr_expect_null(command->program.run[7]);
    for (int i = 0; env[i]; i++)
        cr_expect_str_eq(command->program.env[i], env[i]);
    cr_expect_null(command->program.env[4]);
    cr_expect_str_eq(command->program.cwd, folder);
    cr_expect_str_eq(task->description, "does it");
    cr_expect_not(command->result_json);
    registry_unref(registry);
}

Test(registry, a_program_is_found_in_the_path_or_from_its_folder)
{
    registry_unref(good("tasks: {a: {kind: command, run: [./program], result: json}}"));
    registry_unref(good("tasks: {a: {kind: command, run: [/bin/sh], cwd: /, result: text}}"));
    registry_unref(good("tasks: {a: {kind: command, run: [program], env: {PATH: '/nowhere:.'}}}"));
    registry_unref(good("tasks: {a: {kind: command, run: [bin/sh], cwd: /}}"));
}

Test(registry, options_come_from_the_task_then_from_the_defaults_then_from_errand)
{
    static const struct {
        const char *yaml, *options;
    } rows[] = {
        {"tasks: {a: {kind: command, run: [cat]}}",
         "{\"priority\":1,\"max_retries\":0,\"max_recoveries\":3,\"retry_for\":[\"*\"],\"backoff\":{\"initial\":"
         "\"1s\",\"factor\":2,\"max\":\"10m\",\"jitter\":0.2},\"retention\":\"7d\",\"index\":[]}"},
        {"defaults: {priority: 0, timeout: 1h30m, expires_in: 1d, max_retries: 2, max_recoveries: 0, retry_for: "
         "[timeout, \"exit:*\"], backoff: {initial: 10ms, jitter: 0}, retention: 1h, max_queued: 5}\n"
         "tasks: {a: {kind: command, run: [cat]}}",
         "{\"priority\":0,\"timeout\":\"1h30m\",\"expires_in\":\"1d\",\"max_retries\":2,\"max_recoveries\":0,"
         "\"retry_for\":[\"timeout\",\"exit:*\"],\"backoff\":{\"initial\":\"10ms\",\"factor\":2,\"max\":\"10m\","
         "\"jitter\":0},\"retention\":\"1h\",\"max_queued\":5,\"index\":[]}"},
        {"defaults: {priority: 0, timeout: 1h, expires_in: 1d, retry_for: [timeout], backoff: {initial: 10ms, "
         "jitter: 0}, max_queued: 5}\n"
         "tasks: {a: {kind: command, run: [cat], priority: 127, timeout: none, expires_in: none, max_queued: none,"
         " retry_for: [x, '*'], backoff: {factor: 1.25}}}",
         "{\"priority\":127,\"max_retries\":0,\"max_recoveries\":3,\"retry_for\":[\"*\"],\"backoff\":{\"initial\":"
         "\"10ms\",\"factor\":1.25,\"max\":\"10m\",\"jitter\":0},\"retention\":\"7d\",\"index\":[]}"},
        {"tasks: {a: {kind: command, run: [cat], retry_for: []}}",
         "{\"priority\":1,\"max_retries\":0,\"max_recoveries\":3,\"retry_for\":[],\"backoff\":{\"initial\":"
         "\"1s\",\"factor\":2,\"max\":\"10m\",\"jitter\":0.2},\"retention\":\"7d\",\"index\":[]}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct registry *registry = good(rows[i].yaml);
        struct buf text = {0};
        task_add_options(&text, registry_at(registry, 0));
        cr_expect_str_eq(buf_cstr(&text), rows[i].options);
        buf_release(&text);
        registry_unref(registry);
    }
}

Test(registry, the_default_backoff_is_the_one_of_the_header)
{
    struct registry *registry = good("tasks: {a: {kind: command, run: [cat]}}");
    const struct retry_policy *policy = &registry_at(registry, 0)->options.retry;
    struct backoff backoff = BACKOFF_DEFAULT;
    cr_expect_eq(policy->backoff.initial_ms, backoff.initial_ms);
    cr_expect_eq(policy->backoff.factor, backoff.factor);
    cr_expect_eq(policy->backoff.max_ms, backoff.max_ms);
    cr_expect_eq(policy->backoff.jitter, backoff.jitter);
    cr_expect_null(policy->retry_for, "every type");
    registry_unref(registry);
}

Test(registry, a_registry_finds_tasks_by_name_and_keeps_their_order)
{
    struct buf yaml = {0};
    buf_addl(&yaml, "tasks:\n");
    for (int i = 0; i < 500; i++)
        buf_addf(&yaml, "  t%d: {kind: native, module: tasks.so}\n", 499 - i);
    struct registry *registry = good(buf_cstr(&yaml));
    cr_expect_eq(registry_count(registry), 500);
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", 499 - i);
        cr_expect_str_eq(registry_at(registry, i)->name, name);
        cr_expect_eq(registry_find(registry, span_of(name)), registry_at(registry, i));
    }
    cr_expect_null(registry_find(registry, SPAN("t500")));
    cr_expect_null(registry_find(registry, SPAN("t")));
    cr_expect_null(registry_find(registry, SPAN("")));
    cr_expect_null(registry_find(registry, (struct span){NULL, 0}));
    buf_release(&yaml);

    struct registry *second = registry_ref(registry);
    registry_unref(registry);
    cr_expect_eq(registry_count(second), 500);
    registry_unref(second);
    registry_unref(NULL);
}

Test(registry, no_tasks_at_all_are_a_registry_too)
{
    static const char *const rows[] = {"{}", "tasks: {}", "tasks:", "{defaults: , tasks: }"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct registry *registry = good(rows[i]);
        cr_expect_eq(registry_count(registry), 0);
        cr_expect_null(registry_find(registry, SPAN("add")));
        registry_unref(registry);
    }
}

/* One row: the keys of a task `t`, and what is wrong with it. */
Test(registry, every_fault_of_a_task_is_named)
{
    static const struct {
        const char *task, *faults;
    } rows[] = {
        {"5", ": must be a mapping with at least a `kind`\n"},
        {"{}", ": `kind` is missing: how it runs: native, command, process, http or remote\n"},
        {"{run: [cat]}", ": `kind` is missing: how it runs: native, command, process, http or remote\n"},
        {"{kind: pool, workers: 4}", "/kind: `pool` is not native, command, process, http or remote\n"},
        {"{kind: process, workers: 4}", ": `run` is missing, or `pool`\n"},
        {"{kind: process, run: [cat], workers: 0}",
         "/workers: must be a number, 1 to 1000, or {min, max, idle}\n"},
        {"{kind: process, run: [no-such-program]}", "/run: there is no program `no-such-program` in the PATH\n"},
        {"{kind: process, run: [cat], workers: {min: 3, max: 2}}", "/workers: `min` is above `max`\n"},
        {"{kind: process, run: [cat], workers: {min: 3}}", "/workers: `max` is missing: never more\n"},
        {"{kind: process, pool: shared}", "/pool: there is no pool `shared` under `pools`\n"},
        {"{kind: process, run: [cat], pool: shared}",
         "/run: belongs to the pool: the task names one\n/pool: there is no pool `shared` under `pools`\n"},
        {"{kind: commnad, run: [cat]}",
         "/kind: `commnad` is not native, command, process, http or remote; did you mean `command`?\n"},
        {"{kind: native}", ": `module` is missing: native: the shared object\n"},
        {"{kind: command}", ": `run` is missing: command: the program and its arguments\n"},
        {"{kind: native, module: tasks.so, run: [cat], cwd: /}",
         "/run: `run` does not belong here: only tasks of kind command or process have it\n"
         "/cwd: `cwd` does not belong here: only tasks of kind command or process have it\n"},
        {"{kind: command, run: [cat], module: x}",
         "/module: `module` does not belong here: only tasks of kind native have it\n"},
        {"{kind: native, module: none.so}", "/module: there is no file FOLDER/none.so\n"},
        {"{kind: native, module: .}", "/module: FOLDER/. is a folder, not a file\n"},
        {"{kind: native, module: ''}", "/module: must not be empty\n"},
        {"{kind: native, module: tasks.so, function: 1f}", "/function: `1f` is no name of a C function\n"},
        {"{kind: command, run: cat}",
         "/run: must be a list of 1 to 1000 words, the program first: there is no shell to split a line\n"},
        {"{kind: command, run: []}",
         "/run: must be a list of 1 to 1000 words, the program first: there is no shell to split a line\n"},
        {"{kind: command, run: ['']}", "/run: the program has no name\n"},
        {"{kind: command, run: [cat, [x], ~]}", "/run/1: must be a text\n/run/2: must be a text\n"},
        {"{kind: command, run: ['{x}', a]}", "/run/0: the program must not come from an argument\n"},
        {"{kind: command, run: ['./{x}'], params: {x: string}}",
         "/run/0: the program must not come from an argument\n"},
        {"{kind: command, run: [cat, '{y}', '{x}{z}'], params: {x: string}}",
         "/run/1: {y} is none of the `params`\n/run/2: {z} is none of the `params`\n"},
        {"{kind: command, run: [cat, '{y}'], params: {}}", "/run/1: {y} is none of the `params`\n"},
        {"{kind: command, run: [cat, 'awk {print $1}']}",
         "/run/1: a single `{`: write {name} for an argument, `{{` for the character itself\n"
         "/run/1: a single `}`: write {name} for an argument, `}}` for the character itself\n"},
        {"{kind: command, run: [no-such-program]}", "/run: there is no program `no-such-program` in the PATH\n"},
        {"{kind: command, run: [./tasks.so]}",
         "/run: there is no program `./tasks.so` (a relative path starts at `cwd`)\n"},
        {"{kind: command, run: [cat], cwd: tasks.so}", "/cwd: FOLDER/tasks.so is not a folder\n"},
        {"{kind: command, run: [./program], cwd: nowhere}", "/cwd: there is no folder FOLDER/nowhere\n"},
        {"{kind: command, run: [cat], env: [A]}", "/env: must be a mapping, {NAME: value}\n"},
        {"{kind: command, run: [cat], env: {A=: x, '': y, ERRAND_ID: z, L: ~}}",
         "/env/A=: `A=` is no name of a variable\n/env/: `` is no name of a variable\n"
         "/env/ERRAND_ID: `ERRAND_ID` is set by Errand itself\n/env/L: `L` must be a text\n"},
        {"{kind: command, run: [cat], result: jsn}", "/result: `jsn` is not text or json\n"},
        {"{kind: command, run: [cat], timout: 1s, max-retries: 1, concurrency: {limit: 1}}",
         "/timout: unknown key `timout`; did you mean `timeout`?\n"
         "/max-retries: unknown key `max-retries`; did you mean `max_retries`?\n"
         "/concurrency: unknown key `concurrency`\n"},
        {"{kind: command, run: [cat], priority: -1, max_retries: 1001, max_recoveries: 1.5}",
         "/priority: -1 is out of range: 0 to 127\n/max_retries: 1001 is out of range: 0 to 1000\n"
         "/max_recoveries: `1.5` is not a whole number\n"},
        {"{kind: command, run: [cat], timeout: 10, expires_in: 0s, retention: 10ms, max_queued: 0}",
         "/timeout: `10` is not a duration with its unit, such as 250ms, 30s or 1h30m, or none\n"
         "/expires_in: 0s is out of range: 1ms to 3650d, or none\n"
         "/retention: 10ms is out of range: 1s to 36500d\n"
         "/max_queued: 0 is out of range: 1 to 1000000000, or none\n"},
        {"{kind: command, run: [cat], timeout: ~, retry_for: timeout, priority: '5', max_retries: true}",
         "/timeout: has no value; write none if none is meant\n/retry_for: must be a list, [...]\n"
         "/priority: must be a number without quotes\n/max_retries: must not be true\n"},
        {"{kind: command, run: [cat], retry_for: ['a*b', '', [x]]}",
         "/retry_for/0: `a*b`: a * stands only at the end\n"
         "/retry_for/1: must be 1 to 100 bytes: an error type such as timeout, or a prefix such as http:5*\n"
         "/retry_for/2: must be a text\n"},
        {"{kind: command, run: [cat], backoff: {initial: 20m}}", "/backoff: `initial` is longer than `max`\n"},
        {"{kind: command, run: [cat], backoff: {factor: 0.5, jitter: 2, min: 1s}}",
         "/backoff/factor: 0.5 is out of range: 1 to 1000\n/backoff/jitter: 2 is out of range: 0 to 1\n"
         "/backoff/min: unknown key `min`\n"},
        {"{kind: command, run: [cat], unique: args}",
         "/unique: must be none, or a mapping such as {per: args, while: unfinished}\n"},
        {"{kind: command, run: [cat], unique: {per: x, while: soon, on_conflict: ignore, until: 1}}",
         "/unique/per: must be task, args, or a list of the names of arguments\n"
         "/unique/while: must be queued, unfinished, or a duration such as 1h, of 3650d at most\n"
         "/unique/on_conflict: `ignore` is not return, reject or replace\n"
         "/unique/until: unknown key `until`\n"},
        {"{kind: command, run: [cat], unique: {debounce: 5s, on_conflict: reject}}",
         "/unique/debounce: needs `on_conflict: replace`\n"},
        {"{kind: command, run: [cat], unique: {max_wait: 5s}}",
         "/unique/max_wait: means nothing without `debounce`\n"},
        {"{kind: command, run: [cat], unique: {debounce: 5s, max_wait: 1s}}",
         "/unique/max_wait: is shorter than `debounce`\n"},
        {"{kind: command, run: [cat], cache_results: soon}",
         "/cache_results: `soon` is not a duration with its unit, such as 250ms, 30s or 1h30m\n"},
        {"{kind: command, run: [cat], cache_results: [10m]}",
         "/cache_results: must be none, a duration, or a mapping such as {for: 10m, per: args}\n"},
        {"{kind: command, run: [cat], cache_results: {per: args, size: 5}}",
         "/cache_results/size: unknown key `size`\n/cache_results: `for` is missing: how long, from the success; "
         "`cache_results: 10m` says only this\n"},
        {"{kind: command, run: [cat], backoff: 5s}", "/backoff: must be a mapping, {key: value}\n"},
        {"{kind: command, run: [cat, '{y}'], params: {x: int}, description: [a]}",
         "/params/x: `int` is no type: any, string, integer, number, boolean, array or object; did you mean "
         "`integer`?\n/description: must be one value, not a list\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf yaml = {0}, actual = {0}, expected = {0};
        struct faults faults = {0};
        buf_addf(&yaml, "tasks:\n  t: %s\n", rows[i].task);
        cr_expect_null(parsed(buf_cstr(&yaml), &faults));
        for (int k = 0; k < faults.count; k++) {
            cr_expect_eq(faults.items[k].line, 2);
            cr_expect_eq(strncmp(faults.items[k].pointer, "/tasks/t", 8), 0);
            buf_addf(&actual, "%s: %s\n", faults.items[k].pointer + 8, faults.items[k].detail);
        }
        for (const char *p = rows[i].faults; *p;) {
            const char *mark = strstr(p, "FOLDER");
            buf_add(&expected, p, mark ? (size_t)(mark - p) : strlen(p));
            buf_adds(&expected, mark ? folder : "");
            p = mark ? mark + 6 : "";
        }
        cr_expect_str_eq(buf_cstr(&actual), buf_cstr(&expected), "%s:\n%s\nnot\n%s", rows[i].task, actual.data,
                         expected.data);
        buf_release(&yaml);
        buf_release(&actual);
        buf_release(&expected);
        faults_release(&faults);
    }
}

/* Each key of a kind beside another kind, beside none and beside a wrong one;
 * once right, once wrong. */
static const struct {
    const char *key, *good, *bad, *owner;
} kind_rows[] = {
    {"module", "tasks.so", "none.so", "native"},
    {"function", "f", "1f", "native"},
    {"isolate", "true", "perhaps", "native"},
    {"run", "[cat]", "cat", "command or process"},
    {"cwd", "/", "/nowhere", "command or process"},
    {"env", "{A: b}", "{A: [b]}", "command or process"},
    {"pool", "p", "''", "process"},
    {"workers", "{max: 4}", "{min: 2, max: 1}", "process"},
    {"capacity", "8", "0", "process"},
    {"start", "eager", "early", "process"},
    {"start_timeout", "1s", "0s", "process"},
    {"max_invocations", "5", "0", "process"},
    {"max_memory", "1GiB", "1KiB", "process"},
    {"result", "json", "jsn", "command or http"},
    {"url", "https://a.org/", "a.org", "http"},
    {"method", "PUT", "GET", "http"},
    {"headers", "{a: b}", "[a]", "http"},
    {"secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a", "http"},
    {"in_flight", "1", "0", "http"},
    {"redirects", "1", "21", "http"},
    {"lease", "none", "2h", "http"},
    {"ca", "tasks.so", "none.so", "http"},
    {"proxy", "http://a.org/", "a.org", "http"},
};
enum { KIND_ROWS = sizeof(kind_rows) / sizeof(kind_rows[0]) };

/* The faults of a task with these keys: "POINTER: DETAIL\n" each. The caller frees. */
static char *faults_of(const char *keys, const char *key, const char *value)
{
    struct buf yaml = {0}, text = {0};
    struct faults faults = {0};
    buf_addf(&yaml, "tasks: {t: {%s%s: %s}}", keys, key, value);
    registry_unref(parsed(buf_cstr(&yaml), &faults));
    for (int i = 0; i < faults.count; i++)
        buf_addf(&text, "%s: %s\n", faults.items[i].pointer, faults.items[i].detail);
    buf_release(&yaml);
    faults_release(&faults);
    return buf_take(&text);
}

Test(registry, a_key_of_another_kind_is_one_fault_whatever_it_says)
{
    static const struct {
        const char *kind, *keys;
    } others[] = {
        {"native", "kind: native, module: tasks.so, function: f, "},
        {"command", "kind: command, run: [cat], "},
    };
    for (size_t o = 0; o < sizeof(others) / sizeof(others[0]); o++)
        for (int i = 0; i < KIND_ROWS; i++) {
            if (strstr(kind_rows[i].owner, others[o].kind))
                continue;
            struct buf expected = {0};
            buf_addf(&expected, "/tasks/t/%s: `%s` does not belong here: only tasks of kind %s have it\n",
                     kind_rows[i].key, kind_rows[i].key, kind_rows[i].owner);
            char *good = faults_of(others[o].keys, kind_rows[i].key, kind_rows[i].good);
            char *bad = faults_of(others[o].keys, kind_rows[i].key, kind_rows[i].bad);
            cr_expect_str_eq(good, buf_cstr(&expected));
            cr_expect_str_eq(bad, buf_cstr(&expected));
            free(good);
            free(bad);
            buf_release(&expected);
        }
}

Test(registry, beside_no_kind_or_a_wrong_one_only_what_a_key_says_itself_is_a_fault)
{
    static const struct {
        const char *keys, *fault;
    } unclear[] = {
        {"", "/tasks/t: `kind` is missing: how it runs: native, command, process, http or remote\n"},
        {"kind: nativ, ",
         "/tasks/t/kind: `nativ` is not native, command, process, http or remote; did you mean `native`?\n"},
        {"kind: Command, ",
         "/tasks/t/kind: `Command` is not native, command, process, http or remote; did you mean `command`?\n"},
        {"kind: [native], ", "/tasks/t/kind: must be one value, not a list\n"},
        {"kind: ~, ", "/tasks/t/kind: has no value\n"},
    };
    for (size_t u = 0; u < sizeof(unclear) / sizeof(unclear[0]); u++)
        for (int i = 0; i < KIND_ROWS; i++) {
            char *good = faults_of(unclear[u].keys, kind_rows[i].key, kind_rows[i].good);
            char *bad = faults_of(unclear[u].keys, kind_rows[i].key, kind_rows[i].bad);
            struct buf of_its_own = {0};
            buf_addf(&of_its_own, "/tasks/t/%s", kind_rows[i].key);
            cr_expect_str_eq(good, unclear[u].fault);
            cr_expect(strstr(bad, unclear[u].fault), "%s", bad);
            cr_expect(strstr(bad, buf_cstr(&of_its_own)), "%s", bad);
            buf_release(&of_its_own);
            free(good);
            free(bad);
        }
}

/* --- pools that tasks share --------------------------------------------------------------- */

extern const struct kind process_kind;

Test(registry, tasks_that_name_a_pool_share_it_and_others_have_their_own)
{
    struct registry *registry = good("pools: {p: {run: [cat], workers: 3}, unused: {run: [cat]}}\n"
                                     "tasks:\n"
                                     "  a: {kind: process, pool: p}\n"
                                     "  b: {kind: process, pool: p, timeout: 1s}\n"
                                     "  c: {kind: process, run: [cat]}\n"
                                     "  unused: {kind: command, run: [cat]}\n");
    const void *rooms[3];
    for (int i = 0; i < 3; i++)
        rooms[i] = process_kind.room_of(registry_at(registry, i));
    cr_expect_eq(rooms[0], rooms[1]);
    cr_expect_neq(rooms[0], rooms[2]);
    int shared = process_kind.descriptors(registry_at(registry, 0));
    cr_expect_eq(process_kind.descriptors(registry_at(registry, 1)), shared);
    cr_expect_leq(3 * process_kind.descriptors(registry_at(registry, 2)), 2 * shared + 1, "each needs its part");
    registry_unref(registry);
}

Test(registry, every_fault_of_a_pool_is_named)
{
    static const struct {
        const char *pools, *faults;
    } rows[] = {
        {"[1]", "/pools: must be a mapping of names to pools\n"},
        {"{p: 7}", "/pools/p: must be a mapping with at least a `run`\n"},
        {"{p: {}}", "/pools/p: `run` is missing: the program of the pool's children, and its arguments\n"},
        {"{p: {run: [no-such-program]}}", "/pools/p/run: there is no program `no-such-program` in the PATH\n"},
        {"{p: {run: [cat], workers: 0, priority: 1}}",
         "/pools/p/workers: must be a number, 1 to 1000, or {min, max, idle}\n"
         "/pools/p/priority: unknown key `priority`\n"},
        {"{'a b': {run: [cat]}}",
         "/pools/a b: `a b` is no name of a pool: 1 to 100 of A-Z a-z 0-9 . _ -, a letter or digit first\n"},
        {"{t: {run: [cat]}}", "/pools/t: a task of that name has a pool of its own\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf yaml = {0}, text = {0};
        struct faults faults = {0};
        buf_addf(&yaml, "tasks: {t: {kind: process, run: [cat]}}\npools: %s\n", rows[i].pools);
        cr_expect_null(parsed(buf_cstr(&yaml), &faults), "%s", rows[i].pools);
        for (int k = 0; k < faults.count; k++) {
            cr_expect_eq(faults.items[k].line, 2);
            buf_addf(&text, "%s: %s\n", faults.items[k].pointer, faults.items[k].detail);
        }
        cr_expect_str_eq(buf_cstr(&text), rows[i].faults, "%s:\n%s", rows[i].pools, text.data);
        buf_release(&yaml);
        buf_release(&text);
        faults_release(&faults);
    }
}

Test(registry, no_key_of_a_kind_is_left_out_of_the_rows)
{
    for (int k = 0; kinds[k]; k++)
        for (const struct key *key = kinds[k]->keys; key->name; key++) {
            bool found = false;
            for (int i = 0; i < KIND_ROWS; i++)
                found |= strcmp(kind_rows[i].key, key->name) == 0 && strstr(kind_rows[i].owner, kinds[k]->name);
            cr_expect(found, "%s of %s", key->name, kinds[k]->name);
        }
}

Test(registry, names_are_what_a_url_can_hold)
{
    static const struct {
        const char *name;
        bool good;
    } rows[] = {
        {"a", true},  {"9", true},     {"a.b-c_D", true}, {"\"true\"", true}, {"_a", false},       {"-a", false},
        {".", false}, {"\"\"", false}, {"a/b", false},    {"\"a b\"", false}, {"\303\244", false},
    };
    struct buf yaml = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct faults faults = {0};
        yaml.len = 0;
        buf_addf(&yaml, "tasks:\n  %s: {kind: native, module: tasks.so, function: f}\n", rows[i].name);
        struct registry *registry = parsed(buf_cstr(&yaml), &faults);
        cr_expect_eq(registry != NULL, rows[i].good, "%s", rows[i].name);
        registry_unref(registry);
        faults_release(&faults);
    }
    for (int length = TASK_NAME_MAX; length <= TASK_NAME_MAX + 1; length++) {
        struct faults faults = {0};
        yaml.len = 0;
        buf_addl(&yaml, "tasks: {");
        for (int i = 0; i < length; i++)
            buf_addc(&yaml, 'n');
        buf_addl(&yaml, ": {kind: native, module: tasks.so}}");
        struct registry *registry = parsed(buf_cstr(&yaml), &faults);
        cr_expect_eq(registry != NULL, length == TASK_NAME_MAX);
        registry_unref(registry);
        faults_release(&faults);
    }
    buf_release(&yaml);
}

Test(registry, a_function_is_needed_where_the_name_is_no_c_name)
{
    struct faults faults = {0};
    cr_expect_null(parsed("tasks: {odd-name: {kind: native, module: tasks.so}}", &faults));
    cr_assert_eq(faults.count, 1);
    cr_expect_str_eq(faults.items[0].detail, "`function` is missing: the task's name is no name of a C function");
    faults_release(&faults);
}

Test(registry, faults_of_defaults_and_tasks_come_together_with_their_lines)
{
    struct faults faults = {0};
    cr_expect_null(parsed("defaults:\n  prio: 1\ntasks:\n  a: {kind: native}\n\n  b: 5\n", &faults));
    cr_assert_eq(faults.count, 3);
    cr_expect_eq(faults.items[0].line, 2);
    cr_expect_str_eq(faults.items[0].pointer, "/defaults/prio");
    cr_expect_eq(faults.items[1].line, 4);
    cr_expect_str_eq(faults.items[1].pointer, "/tasks/a");
    cr_expect_eq(faults.items[2].line, 6);
    faults_release(&faults);

    cr_expect_null(parsed("tasks: [a]", &faults));
    cr_expect_eq(faults.count, 1);
    faults_release(&faults);
}
