#include "tests/unit/attempts.h"
#include "workers/kinds/native.h"
#include "workers/registry.h"
#include "workers/sdk/errand_task.h"

#include "base/clock.h"
#include "base/json.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static const char *module_path(void)
{
    static char path[4096];
    const char *set = getenv("ERRAND_TEST_MODULES");
    if (!set && !realpath("build/tests/tasks_for_tests.so", path))
        cr_assert_fail("build/tests/tasks_for_tests.so is not built");
    return set ? set : path;
}

/* One task that is one function of the module. */
static struct registry *load(const char *function, struct faults *faults)
{
    struct buf text = {0};
    buf_addf(&text, "t: {kind: native, module: %s, function: %s}", module_path(), function);
    struct yaml *doc = yaml_parse(buf_span(&text), faults);
    cr_assert(doc);
    struct registry *registry = registry_parse(
        kinds, &(struct registry_source){.doc = doc, .tasks = yaml_root(doc), .folder = "/"}, faults);
    cr_assert(registry, "%s", faults->count ? faults->items[0].detail : "");
    registry_load(registry, faults);
    yaml_free(doc);
    buf_release(&text);
    return registry;
}

struct native {
    struct registry *registry;
    struct run run;
};

static void native_init(struct native *native, const char *function, const char *args)
{
    struct faults faults = {0};
    native->registry = load(function, &faults);
    cr_assert_eq(faults.total, 0, "%s", faults.count ? faults.items[0].detail : "");
    run_init(&native->run, registry_at(native->registry, 0), args);
}

static void native_release(struct native *native)
{
    run_release(&native->run);
    registry_unref(native->registry);
}

Test(native, a_body_gives_a_result_or_none)
{
    static const struct {
        const char *function, *args, *result;
    } rows[] = {
        {"nothing", "{}", ""},
        {"echo", "{\"n\":123456789012345678901,  \"x\":1.10}", "{\"n\":123456789012345678901,  \"x\":1.10}"},
        {"echo", "null", "null"},
        {"last_counts", "{}", "{\"yes\":1.10}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct native n;
        native_init(&n, rows[i].function, rows[i].args);
        run(&n.run);
        cr_expect_eq(n.run.outcome.end, OUTCOME_SUCCEEDED, "row %zu", i);
        cr_expect_str_eq(buf_cstr(&n.run.outcome.result), rows[i].result, "row %zu", i);
        cr_expect_eq(n.run.outcome.error.len, 0);
        native_release(&n);
    }
}

Test(native, a_failure_says_what_the_body_said)
{
    static const struct {
        const char *function, *type, *message;
        bool retry;
        int64_t retry_after_ms;
    } rows[] = {
        {"fail_plain", "unlucky", "it did not work", true, -1},
        {"fail_good", "hopeless", "it never will", false, -1},
        {"fail_later", "busy", "come back", true, 1500},
        {"fail_never_again", "busy", "come back", true, DURATION_MAX_MS},
        {"fail_odd", "failed", "\"quoted\" " UTF8_REPLACEMENT, true, -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct native n;
        native_init(&n, rows[i].function, "{}");
        run(&n.run);
        cr_expect(failed_as(&n.run, rows[i].type), "row %zu: %s", i, buf_cstr(&n.run.outcome.error));
        cr_expect_str_eq(error_member(&n.run, "message"), rows[i].message, "row %zu", i);
        cr_expect_eq(n.run.outcome.retry, rows[i].retry, "row %zu", i);
        cr_expect_eq(n.run.outcome.retry_after_ms, rows[i].retry_after_ms, "row %zu", i);
        native_release(&n);
    }
}

Test(native, a_result_that_is_not_json_or_too_large_is_a_bad_result)
{
    static const char *const functions[] = {"invalid", "big", "too_deep"};
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        struct native n;
        native_init(&n, functions[i], "{}");
        run(&n.run);
        cr_expect(failed_as(&n.run, "bad_result"), "%s", functions[i]);
        cr_expect_eq(n.run.outcome.result.len, 0);
        native_release(&n);
    }
}

Test(native, a_body_knows_its_invocation_task_and_attempt)
{
    struct native n;
    char id[ID_TEXT_LEN + 1] = {0}, wanted[64];
    native_init(&n, "whoami", "{}");
    n.run.attempt.number = 7;
    run(&n.run);
    id_format(n.run.attempt.id, id);
    snprintf(wanted, sizeof(wanted), "2:%s t 7", id);
    char *log = run_log(&n.run);
    cr_expect_str_eq(log, wanted);
    free(log);
    native_release(&n);
}

Test(native, progress_leaves_through_the_sink_and_no_nan_does)
{
    struct native n;
    native_init(&n, "report_progress", "{}");
    run(&n.run);
    cr_expect_str_eq(buf_cstr(&n.run.progress), "0.25 a quarter;1 -;");
    native_release(&n);
}

Test(native, a_short_log_waits_for_the_outcome_and_is_one_piece)
{
    struct native n;
    native_init(&n, "log_lines", "{}");
    run(&n.run);
    cr_expect_eq(n.run.flushed.len, 0);
    cr_expect_str_eq(buf_cstr(&n.run.rest), "2:line 0\nline 1\nline 2\n");
    native_release(&n);
}

Test(native, a_long_line_is_logged_whole)
{
    struct native n;
    native_init(&n, "log_long", "{}");
    run(&n.run);
    cr_expect_eq(n.run.rest.len, 5002);
    native_release(&n);
}

Test(native, the_log_of_a_long_body_is_seen_while_it_runs)
{
    struct native n;
    native_init(&n, "log_slow", "{}");
    run_start(&n.run);
    cr_expect(run_wait_log(&n.run, "begin\nmiddle\n"));
    attempt_stop(&n.run.attempt, STOP_CANCEL);
    run_join(&n.run);
    native_release(&n);
}

Test(native, threads_of_a_body_may_log_at_the_same_time)
{
    struct native n;
    native_init(&n, "log_threads", "{}");
    run(&n.run);
    char *log = run_log(&n.run);
    size_t lines = 0;
    for (const char *at = log; (at = strstr(at, "0123456789abcde\n")); at++)
        lines++;
    cr_expect_eq(lines, 4000);
    free(log);
    native_release(&n);
}

Test(native, a_log_ends_at_its_limit_with_a_notice)
{
    struct native n;
    native_init(&n, "log_threads", "{}");
    n.run.limits.log_bytes = 1024;
    run(&n.run);
    char *log = run_log(&n.run);
    const char *notice = strstr(log, "\n[errand: the log reached its limit of 1 KiB, the rest is left out]\n");
    cr_assert(notice);
    cr_expect_eq(notice - log, 1024 + 2);
    cr_expect_eq(strlen(notice), strlen("\n[errand: the log reached its limit of 1 KiB, the rest is left out]\n"));
    free(log);
    native_release(&n);
}

Test(native, whoever_stops_it_decides_how_it_ends)
{
    static const struct {
        const char *function;
        enum stop stop;
        int64_t timeout_ms;
        enum outcome_end end;
        const char *type;
    } rows[] = {
        {"slow", STOP_CANCEL, 0, OUTCOME_CANCELLED, ""},
        {"slow", STOP_KILL, 0, OUTCOME_STOPPED, ""},
        {"slow", STOP_NONE, 30, OUTCOME_FAILED, "timeout"},
        {"deaf", STOP_NONE, 10, OUTCOME_FAILED, "timeout"},
        {"deaf", STOP_NONE, 5000, OUTCOME_SUCCEEDED, ""},
        {"slow_result", STOP_NONE, 30, OUTCOME_FAILED, "timeout"},
        {"slow_result", STOP_CANCEL, 0, OUTCOME_SUCCEEDED, ""},
        {"slow_result", STOP_KILL, 0, OUTCOME_SUCCEEDED, ""},
        {"deaf", STOP_CANCEL, 10, OUTCOME_CANCELLED, ""}, /* of both, the client's word counts */
        {"log_slow", STOP_CANCEL, 60000, OUTCOME_CANCELLED, ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct native n;
        native_init(&n, rows[i].function, "{}");
        n.run.attempt.timeout_ms = rows[i].timeout_ms;
        run_start(&n.run);
        if (rows[i].stop) {
            cr_expect(run_wait_progress(&n.run), "row %zu", i);
            attempt_stop(&n.run.attempt, rows[i].stop);
        }
        run_join(&n.run);
        cr_expect_eq(n.run.outcome.end, rows[i].end, "row %zu: %d", i, n.run.outcome.end);
        cr_expect_str_eq(buf_cstr(&n.run.outcome.type), rows[i].type, "row %zu", i);
        native_release(&n);
    }
}

Test(native, what_is_stopped_before_it_starts_does_not_run)
{
    struct native n;
    native_init(&n, "log_lines", "{}");
    attempt_init(&n.run.attempt);
    attempt_stop(&n.run.attempt, STOP_KILL);
    attempt_stop(&n.run.attempt, STOP_CANCEL);
    attempt_run(&n.run.attempt, &n.run.outcome);
    cr_expect_eq(n.run.outcome.end, OUTCOME_STOPPED); /* the stronger reason stays */
    cr_expect_eq(n.run.attempt.pending.count, 0);
    attempt_release(&n.run.attempt);
    native_release(&n);
}

Test(native, a_function_that_is_not_there_is_a_fault_with_its_place)
{
    static const struct {
        const char *function, *detail;
    } rows[] = {
        {"no_such_function", "not in the module"},
        {"a_variable", "a variable"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct faults faults = {0};
        struct registry *registry = load(rows[i].function, &faults);
        cr_assert_eq(faults.count, 1);
        cr_expect_str_eq(faults.items[0].pointer, "/tasks/t/function");
        cr_expect(strstr(faults.items[0].detail, rows[i].detail), "%s", faults.items[0].detail);
        struct run refused;
        run_init(&refused, registry_at(registry, 0), "{}");
        run(&refused);
        cr_expect(failed_as(&refused, "not_loaded"));
        run_release(&refused);
        faults_release(&faults);
        registry_unref(registry);
    }
}

Test(native, a_module_that_does_not_load_is_a_fault_with_its_place)
{
    struct faults faults = {0};
    struct yaml *doc = yaml_parse(SPAN("t: {kind: native, module: /etc/passwd}"), &faults);
    struct registry *registry = registry_parse(
        kinds, &(struct registry_source){.doc = doc, .tasks = yaml_root(doc), .folder = "/"}, &faults);
    cr_assert(registry);
    registry_load(registry, &faults);
    cr_assert_eq(faults.count, 1);
    cr_expect_str_eq(faults.items[0].pointer, "/tasks/t/module");
    faults_release(&faults);
    registry_unref(registry);
    yaml_free(doc);
}

Test(native, a_registry_loaded_again_finds_the_same_functions)
{
    struct native a, b;
    native_init(&a, "echo", "{}");
    native_init(&b, "echo", "{}");
    const struct native_task *first = a.run.attempt.task->definition, *second = b.run.attempt.task->definition;
    cr_expect_eq(first->entry, second->entry);
    native_release(&a);
    native_release(&b);
}

/* --- steps and messages ------------------------------------------------------------ */

static const char *older_why(struct errand_call *call)
{
    (void)call;
    return "no reason";
}

/* A module that is newer than its server does not call what is not there. */
Test(native, an_older_server_refuses_what_it_does_not_know)
{
    struct errand_host host = {.size = offsetof(struct errand_host, step), .why = older_why};
    struct errand_call call = {&host};
    const char *text = "left as it was";
    size_t length = 7;
    int64_t seq = 7;
    cr_expect_eq(errand_step(&call, "a", "1", 1, &text, &length), ERRAND_REFUSED);
    cr_expect_eq(errand_step_get(&call, "a", &text, &length), ERRAND_REFUSED);
    cr_expect_eq(errand_message(&call, "1", 1), ERRAND_REFUSED);
    cr_expect_eq(errand_inbox(&call, 0, 0, &text, &length, &seq), ERRAND_REFUSED);
    cr_expect_str_eq(text, "left as it was");
    cr_expect(length == 7 && seq == 7);
    cr_expect_str_eq(errand_why(&call), "no reason");
}

/* Where nothing takes them (the sink of these tests) and what it says is wrong, it is refused
 * with the reason; the sink is not asked. */
Test(native, what_a_body_records_is_checked_before_it_leaves)
{
    static const struct {
        const char *function, *why;
    } rows[] = {
        {"step_without_name", "a step's name has 1 to 100 bytes"},
        {"step_with_long_name", "a step's name has 1 to 100 bytes"},
        {"step_with_bytes", "a step's name is no UTF-8"},
        {"step_without_value", "the value is a null pointer"},
        {"step_with_text", "the value is not valid JSON: "},
        {"get_without_name", "a step's name has 1 to 100 bytes"},
        {"message_without_body", "the message is a null pointer"},
        {"message_with_two", "the message is not valid JSON: "},
        {"message_too_large", "the message has 65537 bytes, the limit is 65536"},
        {"good_step", "there is no server"},
        {"good_get", "there is no server"},
        {"good_message", "there is no server"},
        {"good_inbox", "there is no server"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct native n;
        char args[64];
        snprintf(args, sizeof args, "\"%s\"", rows[i].function);
        native_init(&n, "records", args);
        run(&n.run);
        cr_expect(failed_as(&n.run, "refused"), "%s", rows[i].function);
        const char *message = error_member(&n.run, "message");
        cr_expect_eq(strncmp(message, rows[i].why, strlen(rows[i].why)), 0, "%s: %s", rows[i].function, message);
        native_release(&n);
    }
}
