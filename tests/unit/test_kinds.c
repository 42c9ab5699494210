/* What a kind is asked for, and that a line in the table is all it takes: one
 * that no other file knows, whose bodies are minded by threads of its own. */
#include "tests/unit/attempts.h"
#include "workers/kinds/kind.h"
#include "workers/registry.h"

#include "base/json.h"
#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct later_task {
    char *answer;
    char *cwd;
    char *quoted; /* the answer as JSON, made by check() */
    bool loaded;
};

static int alive;             /* definitions that were checked and not released */
static int started;           /* calls of start() */
static pthread_t minders[16]; /* one an attempt */
static int doorbell = -1;     /* an eventfd: bodies look whether they are to end */
static atomic_bool may_end;   /* they may give their answer */
static atomic_int minded;     /* how many have looked, and wait for the doorbell */

static void *mind(void *argument)
{
    struct attempt *attempt = argument;
    const struct later_task *later = attempt->task->definition;
    struct pollfd rung = {doorbell, POLLIN, 0};
    while (!atomic_load(&may_end) && !attempt_should_stop(attempt)) {
        atomic_fetch_add(&minded, 1);
        poll(&rung, 1, -1);
    }
    attempt_log(attempt, STREAM_STDERR, SPAN("minded\n"));
    if (attempt_should_stop(attempt))
        outcome_fail(attempt->outcome, SPAN("stopped"), SPAN("it was told to"), (struct span){NULL, 0});
    else
        buf_adds(&attempt->outcome->result, later->quoted);
    attempt_end(attempt);
    return NULL;
}

static void start(struct attempt *attempt)
{
    const struct later_task *later = attempt->task->definition;
    cr_assert(later->loaded);
    pthread_create(&minders[started++], NULL, mind, attempt);
}

static void ring(void)
{
    uint64_t one = 1;
    cr_assert_eq(write(doorbell, &one, sizeof one), sizeof one);
}

static void stop(struct attempt *attempt)
{
    (void)attempt;
    ring();
}

static void check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    struct later_task *later = task->definition;
    struct buf quoted = {0};
    if (!later->answer)
        return;
    if (strcmp(later->answer, "nothing") == 0)
        faults_add_member(in->faults, yaml_line(in->doc, item), pointer, SPAN("answer"), "says nothing");
    json_add_string(&quoted, span_of(later->answer));
    later->quoted = buf_take(&quoted);
    alive++;
}

static void load(struct task *task, struct faults *faults)
{
    struct later_task *later = task->definition;
    later->loaded = strcmp(later->answer, "too heavy") != 0;
    if (!later->loaded)
        faults_add(faults, 0, "/tasks", "%s is too heavy", task->name);
}

static enum err check_args(const struct task *task, struct span args, struct faults *faults)
{
    (void)task;
    if (json_type(args) == JSON_OBJECT)
        return OK;
    faults_add(faults, 0, "/args", "must be an object");
    return ERR_INVALID;
}

static void release(void *definition)
{
    struct later_task *later = definition;
    alive -= later->quoted != NULL;
    free(later->quoted);
}

static const struct key later_keys[] = {
    {.name = "answer",
     .type = KEY_TEXT,
     .required = true,
     .example = "yes",
     .offset = offsetof(struct later_task, answer),
     .help = "later: what it says"},
    {.name = "cwd",
     .type = KEY_PATH,
     .example = ".",
     .offset = offsetof(struct later_task, cwd),
     .help = "later: where"},
    {0},
};

static const struct kind later_kind = {
    .name = "later",
    .keys = later_keys,
    .definition_bytes = sizeof(struct later_task),
    .check = check,
    .load = load,
    .check_args = check_args,
    .start = start,
    .stop = stop,
    .release = release,
};

/* The program's table and one line more. */
static const struct kind *table[16];

static void make_table(void)
{
    int count = 0;
    for (; kinds[count]; count++)
        table[count] = kinds[count];
    table[count] = &later_kind;
    doorbell = eventfd(0, EFD_CLOEXEC);
    cr_assert_geq(doorbell, 0);
}

static void join_minders(void)
{
    for (int i = 0; i < started; i++)
        pthread_join(minders[i], NULL);
    close(doorbell);
}

TestSuite(kinds, .init = make_table, .fini = join_minders, .timeout = 60);

static struct registry *parsed(const char *text, struct faults *faults)
{
    struct yaml *doc = yaml_parse(span_of(text), faults);
    cr_assert(doc, "not YAML: %s", text);
    struct registry *registry = registry_parse(
        table, &(struct registry_source){.doc = doc, .tasks = yaml_root(doc), .folder = "/"}, faults);
    yaml_free(doc);
    return registry;
}

static struct registry *loaded(const char *text)
{
    struct faults faults = {0};
    struct registry *registry = parsed(text, &faults);
    cr_assert(registry, "%s: %s", text, faults.count ? faults.items[0].detail : "");
    registry_load(registry, &faults);
    cr_assert_eq(faults.total, 0);
    return registry;
}

/* --- the definition ---------------------------------------------------------------- */

Test(kinds, a_line_in_the_table_is_all_that_a_kind_needs)
{
    struct registry *registry = loaded("t: {kind: later, answer: 'y\"s', params: {x: integer}, timeout: 1h}");
    struct task *task = registry_at(registry, 0);
    cr_expect_eq(task->kind, &later_kind);
    cr_expect_eq(task->options.timeout_ms, 3600000);
    cr_expect(params_has(task->params, SPAN("x")));

    struct run r;
    atomic_store(&may_end, true);
    run_init(&r, task, "{\"x\":1}");
    run(&r);
    cr_expect_eq(r.outcome.end, OUTCOME_SUCCEEDED);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"y\\\"s\"");
    char *log = run_log(&r);
    cr_expect_str_eq(log, "2:minded\n");
    free(log);
    run_release(&r);
    registry_unref(registry);
}

Test(kinds, every_fault_is_named_by_the_table)
{
    static const struct {
        const char *task, *faults;
    } rows[] = {
        {"{}", ": `kind` is missing: how it runs: native, command, process, http, remote or later\n"},
        {"{answer: yes, cwd: /}",
         ": `kind` is missing: how it runs: native, command, process, http, remote or later\n"},
        {"{kind: latr, answer: yes}",
         "/kind: `latr` is not native, command, process, http, remote or later; did you mean `later`?\n"},
        {"{kind: later}", ": `answer` is missing: later: what it says\n"},
        {"{kind: later, answr: yes}", "/answr: unknown key `answr`; did you mean `answer`?\n"
                                      ": `answer` is missing: later: what it says\n"},
        {"{kind: later, answer: nothing}", "/answer: says nothing\n"},
        {"{kind: later, answer: [yes]}", "/answer: must be one value, not a list\n"},
        {"{kind: later, answer: yes, run: [cat], module: x, cwd: /}",
         "/run: `run` does not belong here: only tasks of kind command or process have it\n"
         "/module: `module` does not belong here: only tasks of kind native have it\n"},
        {"{kind: command, run: [cat], cwd: /, answer: yes}",
         "/answer: `answer` does not belong here: only tasks of kind later have it\n"},
        {"{kind: native, module: /etc/passwd, function: f, answer: yes, cwd: /}",
         "/answer: `answer` does not belong here: only tasks of kind later have it\n"
         "/cwd: `cwd` does not belong here: only tasks of kind command, process or later have it\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf yaml = {0}, actual = {0};
        struct faults faults = {0};
        buf_addf(&yaml, "t: %s\n", rows[i].task);
        cr_expect_null(parsed(buf_cstr(&yaml), &faults));
        for (int k = 0; k < faults.count; k++)
            buf_addf(&actual, "%s: %s\n", faults.items[k].pointer + strlen("/tasks/t"), faults.items[k].detail);
        cr_expect_str_eq(buf_cstr(&actual), rows[i].faults, "%s:\n%s", rows[i].task, buf_cstr(&actual));
        buf_release(&yaml);
        buf_release(&actual);
        faults_release(&faults);
    }
    cr_expect_eq(alive, 0, "what was read is released, faulty or not");
}

Test(kinds, what_does_not_load_is_a_fault)
{
    struct faults faults = {0};
    struct registry *registry =
        parsed("{a: {kind: later, answer: yes}, b: {kind: later, answer: too heavy}}", &faults);
    cr_assert(registry);
    registry_load(registry, &faults);
    cr_assert_eq(faults.count, 1);
    cr_expect_str_eq(faults.items[0].detail, "b is too heavy");
    faults_release(&faults);
    registry_unref(registry);
}

Test(kinds, a_definition_is_released_with_the_last_reference)
{
    struct registry *registry = loaded("{a: {kind: later, answer: yes}, b: {kind: later, answer: no}}");
    registry_ref(registry);
    registry_unref(registry);
    cr_expect_eq(alive, 2);
    registry_unref(registry);
    cr_expect_eq(alive, 0);
}

Test(kinds, arguments_are_checked_by_the_kind_if_it_has_any_to_check)
{
    struct faults faults = {0};
    struct registry *registry = parsed("{l: {kind: later, answer: yes}, c: {kind: command, run: [cat, '{x}']},\n"
                                       " n: {kind: native, module: /etc/passwd}}",
                                       &faults);
    cr_assert(registry);
    static const struct {
        const char *args;
        enum err later, command, native;
    } rows[] = {
        {"{\"x\":1}", OK, OK, OK},
        {"{}", OK, ERR_INVALID, OK},
        {"null", ERR_INVALID, ERR_INVALID, OK},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span args = span_of(rows[i].args);
        cr_expect_eq(kind_check_args(registry_at(registry, 0), args, &faults), rows[i].later);
        cr_expect_eq(kind_check_args(registry_at(registry, 1), args, &faults), rows[i].command);
        cr_expect_eq(kind_check_args(registry_at(registry, 2), args, &faults), rows[i].native);
    }
    faults_release(&faults);
    registry_unref(registry);
}

Test(kinds, its_keys_are_shown_with_the_others)
{
    struct buf text = {0};
    registry_add_keys(&text, table, 0);
    cr_expect(strstr(buf_cstr(&text), "# how it runs: native, command, process, http, remote or later\n"));
    cr_expect(strstr(buf_cstr(&text), "# later: what it says\n"));
    buf_release(&text);
}

Test(kinds, each_has_a_name_of_its_own_and_says_in_its_keys_help_whose_they_are)
{
    for (int i = 0; table[i]; i++) {
        size_t n = strlen(table[i]->name);
        cr_expect(!table[i]->start == table[i]->elsewhere && table[i]->keys && table[i]->definition_bytes > 0,
                  "%s", table[i]->name);
        for (int k = 0; k < i; k++)
            cr_expect_str_neq(table[i]->name, table[k]->name);
        for (const struct key *key = table[i]->keys; key->name; key++) {
            cr_expect(strncmp(key->help, table[i]->name, n) == 0 && key->help[n] == ':', "%s", key->name);
            cr_expect_null(keys_find(task_keys, key->name), "every task has %s", key->name);
            cr_expect_null(keys_find(task_option_keys, key->name), "%s is an option", key->name);
        }
    }
}

/* --- an attempt -------------------------------------------------------------------- */

/* What attempt_start() is given; the attempts that have ended, and on which thread. */
struct ends {
    atomic_int next, count;
    struct {
        struct attempt *attempt;
        pthread_t thread;
    } items[8];
};

static void note_end(struct attempt *attempt, void *context)
{
    struct ends *ends = context;
    int i = atomic_fetch_add(&ends->next, 1);
    ends->items[i].attempt = attempt;
    ends->items[i].thread = pthread_self();
    atomic_fetch_add(&ends->count, 1);
}

static bool is_minded(const void *unused)
{
    (void)unused;
    return atomic_load(&minded) > 0;
}

static bool has_three(const void *ends)
{
    return atomic_load(&((const struct ends *)ends)->count) == 3;
}

static bool has_one(const void *ends)
{
    return atomic_load(&((const struct ends *)ends)->count) == 1;
}

Test(kinds, a_body_may_go_on_when_start_has_returned_and_end_on_another_thread)
{
    struct registry *registry = loaded("t: {kind: later, answer: yes}");
    struct run runs[3];
    struct ends ends = {0};
    for (int i = 0; i < 3; i++) {
        run_init(&runs[i], registry_at(registry, 0), "{}");
        attempt_init(&runs[i].attempt);
        attempt_start(&runs[i].attempt, &runs[i].outcome, note_end, &ends);
    }
    cr_expect_eq(started, 3, "one thread holds all three");
    cr_expect_eq(atomic_load(&ends.count), 0);

    atomic_store(&may_end, true);
    ring();
    cr_assert(eventually(has_three, &ends));
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(runs[i].outcome.end, OUTCOME_SUCCEEDED);
        cr_expect_str_eq(buf_cstr(&runs[i].outcome.result), "\"yes\"");
        cr_expect_not(pthread_equal(ends.items[i].thread, pthread_self()));
        attempt_release(&runs[i].attempt);
        run_release(&runs[i]);
    }
    registry_unref(registry);
}

Test(kinds, who_waits_for_the_end_wakes_when_it_comes)
{
    struct registry *registry = loaded("t: {kind: later, answer: yes}");
    struct run r;
    run_init(&r, registry_at(registry, 0), "{}");
    run_start(&r); /* attempt_run() on a thread of its own */
    cr_assert(eventually(is_minded, NULL));
    atomic_store(&may_end, true);
    ring();
    run_join(&r);
    cr_expect_eq(r.outcome.end, OUTCOME_SUCCEEDED);
    cr_expect_str_eq(buf_cstr(&r.outcome.result), "\"yes\"");
    run_release(&r);
    registry_unref(registry);
}

Test(kinds, a_stop_reaches_whoever_minds_the_body)
{
    static const struct {
        enum stop why;
        enum outcome_end end;
    } rows[] = {{STOP_CANCEL, OUTCOME_CANCELLED}, {STOP_KILL, OUTCOME_STOPPED}};
    struct registry *registry = loaded("t: {kind: later, answer: yes}");
    for (int i = 0; i < 2; i++) {
        struct run r;
        struct ends ends = {0};
        run_init(&r, registry_at(registry, 0), "{}");
        attempt_init(&r.attempt);
        attempt_start(&r.attempt, &r.outcome, note_end, &ends);
        cr_assert(eventually(is_minded, NULL));
        attempt_stop(&r.attempt, rows[i].why);
        cr_assert(eventually(has_one, &ends));
        cr_expect_eq(ends.items[0].attempt, &r.attempt);
        cr_expect_eq(r.outcome.end, rows[i].end);
        cr_expect_eq(r.outcome.error.len, 0);
        attempt_stop(&r.attempt, STOP_KILL); /* after the end it does no harm */
        uint64_t rings;
        cr_assert_eq(read(doorbell, &rings, sizeof rings), sizeof rings);
        atomic_store(&minded, 0);
        attempt_release(&r.attempt);
        run_release(&r);
    }
    registry_unref(registry);
}

Test(kinds, what_was_stopped_before_it_started_does_not_start)
{
    struct registry *registry = loaded("t: {kind: later, answer: yes}");
    struct run r;
    struct ends ends = {0};
    run_init(&r, registry_at(registry, 0), "{}");
    attempt_init(&r.attempt);
    attempt_stop(&r.attempt, STOP_CANCEL);
    attempt_start(&r.attempt, &r.outcome, note_end, &ends);
    cr_expect_eq(atomic_load(&ends.count), 1);
    cr_expect_eq(r.outcome.end, OUTCOME_CANCELLED);
    cr_expect_eq(started, 0);
    attempt_release(&r.attempt);
    run_release(&r);
    registry_unref(registry);
}
