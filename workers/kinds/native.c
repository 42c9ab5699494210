/* Native: a C function of a shared object, run on the slot's own thread. */
#include "workers/kinds/native.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "workers/kinds/native_call.h"
#include "workers/kinds/native_module.h"
#include <dlfcn.h>
#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>

#define IDENTIFIER_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

enum { NOTE_BYTES = 4096 /* more than is kept of one */, LINE_BYTES = 1024, WAIT_IDS = 1000 };

static struct native_task *native_task(const struct task *task)
{
    return task->definition;
}

/* --- the definition ---------------------------------------------------------- */

static bool check_function(char *text, struct reason *why)
{
    size_t n = strspn(text, IDENTIFIER_LETTERS "0123456789");
    if (n > 0 && text[n] == '\0' && !(text[0] >= '0' && text[0] <= '9'))
        return true;
    reason_set(why, "`%s` is no name of a C function", text);
    return false;
}

const struct key native_keys[] = {
    {.name = "module",
     .type = KEY_PATH,
     .path = PATH_FILE,
     .required = true,
     .example = "tasks.so",
     .offset = offsetof(struct native_task, module),
     .help = "native: the shared object"},
    {.name = "function",
     .type = KEY_TEXT,
     .min = 1,
     .max = 256,
     .check = check_function,
     .example = "add",
     .offset = offsetof(struct native_task, function),
     .help = "native: the C function; default: the task's name"},
    {.name = "isolate",
     .type = KEY_OTHER,
     .read = native_read_isolate,
     .example = "true",
     .help = "native: in children of the server, which a crash costs; or {workers, capacity, max_memory, ...}"},
    {0},
};

static void check_function_name(const struct keys_input *in, const cJSON *item, const char *pointer,
                                struct task *task)
{
    struct native_task *native = task->definition;
    struct reason why;
    if (native->function)
        return;
    if (check_function(task->name, &why))
        native->function = xstrdup(task->name);
    else if (!cJSON_GetObjectItemCaseSensitive(item, "function"))
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "`function` is missing: the task's name is no name of a C function");
}

/* What isolates it needs both. */
static void check(const struct keys_input *in, const cJSON *item, const char *pointer, struct task *task)
{
    const struct native_task *native = task->definition;
    check_function_name(in, item, pointer, task);
    if (native->isolate && native->module && native->function)
        native_isolate(task);
}

void native_task_release(void *definition)
{
    struct native_task *native = definition;
    native_apart_free(atomic_load(&native->apart));
    pool_task_release(&native->in);
}

struct native_text {
    struct native_text *next;
    struct buf bytes;
};

/* --- what the body calls --------------------------------------------------- */

static const char *host_args(struct errand_call *call, size_t *length)
{
    struct span args = native_call(call)->attempt->args;
    if (length)
        *length = args.len;
    return args.p;
}

struct buf *native_call_text(struct native_call *native)
{
    struct native_text *text = xcalloc(1, sizeof *text);
    text->next = native->texts;
    native->texts = text;
    return &text->bytes;
}

static void free_texts(struct native_call *native)
{
    while (native->texts) {
        struct native_text *text = native->texts;
        native->texts = text->next;
        buf_release(&text->bytes);
        free(text);
    }
}

int native_call_give(struct buf *text, const char **value, size_t *length)
{
    *value = buf_cstr(text);
    if (length)
        *length = text->len;
    return 0;
}

static int host_arg(struct errand_call *call, const char *name, enum errand_arg_type type, void *value,
                    size_t *length)
{
    struct native_call *native = native_call(call);
    struct span args = json_trim(native->attempt->args);
    struct span arg = args.len && json_type(args) == JSON_OBJECT ? json_get(args, name) : (struct span){NULL, 0};
    struct buf *text;
    if (!arg.p)
        return -1;
    enum json_type is = json_type(arg);
    switch (type) {
    case ERRAND_INT64: return is == JSON_NUMBER && json_int64(arg, value) ? 0 : -1;
    case ERRAND_DOUBLE:
        if (is != JSON_NUMBER)
            return -1;
        *(double *)value = json_double(arg);
        return 0;
    case ERRAND_BOOL:
        if (is != JSON_TRUE && is != JSON_FALSE)
            return -1;
        *(int *)value = is == JSON_TRUE;
        return 0;
    case ERRAND_TEXT:
        if (is != JSON_STRING)
            return -1;
        text = native_call_text(native);
        json_unescape(arg, text);
        return native_call_give(text, value, length);
    case ERRAND_JSON:
        text = native_call_text(native);
        buf_add_span(text, arg);
        return native_call_give(text, value, length);
    }
    return -1;
}

static const char *host_id(struct errand_call *call)
{
    return native_call(call)->id;
}

static const char *host_task(struct errand_call *call)
{
    return native_call(call)->attempt->task->name;
}

static int host_attempt(struct errand_call *call)
{
    return native_call(call)->attempt->number;
}

static int refuse_result(struct outcome *outcome, const char *message)
{
    outcome_fail(outcome, SPAN("bad_result"), span_of(message), (struct span){NULL, 0});
    return -1;
}

static int host_result(struct errand_call *call, const char *json, size_t length)
{
    struct native_call *native = native_call(call);
    struct outcome *outcome = native->outcome;
    int64_t limit = native->attempt->limits->result_bytes;
    char message[256];
    struct json_fault fault;

    native->answered = true;
    if (!json)
        return refuse_result(outcome, "the result is a null pointer");
    if (length > (size_t)limit) {
        snprintf(message, sizeof(message), "the result has %zu bytes, the limit is %" PRId64, length, limit);
        return refuse_result(outcome, message);
    }
    if (json_check(json, length, JSON_DEPTH_MAX, &fault)) {
        snprintf(message, sizeof(message), "the result is not valid JSON: %s, at byte %zu", fault.detail,
                 fault.offset);
        return refuse_result(outcome, message);
    }
    outcome->end = OUTCOME_SUCCEEDED;
    outcome->type.len = outcome->error.len = 0;
    outcome->result.len = 0;
    buf_add(&outcome->result, json, length);
    return 0;
}

static void host_fail(struct errand_call *call, const char *type, const char *message, int retry,
                      int64_t retry_after_ms)
{
    struct native_call *native = native_call(call);
    native->answered = true;
    outcome_fail(native->outcome, span_of(type ? type : ""), span_of(message ? message : ""),
                 (struct span){NULL, 0});
    native->outcome->retry = retry != 0;
    native->outcome->retry_after_ms = retry_after_ms < 0                 ? -1
                                      : retry_after_ms > DURATION_MAX_MS ? DURATION_MAX_MS
                                                                         : retry_after_ms;
}

static void host_progress(struct errand_call *call, double value, const char *note)
{
    struct span text = {note, note ? strnlen(note, NOTE_BYTES) : 0};
    attempt_progress(native_call(call)->attempt, value, text);
}

__attribute__((format(printf, 2, 0))) static void host_log(struct errand_call *call, const char *format,
                                                           va_list args)
{
    char line[LINE_BYTES];
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(line, sizeof(line), format, args);
    if (n >= (int)sizeof(line)) {
        char *text = xmalloc((size_t)n + 1);
        vsnprintf(text, (size_t)n + 1, format, again);
        attempt_log(native_call(call)->attempt, STREAM_STDERR, (struct span){text, (size_t)n});
        free(text);
    } else if (n > 0) {
        attempt_log(native_call(call)->attempt, STREAM_STDERR, (struct span){line, (size_t)n});
    }
    va_end(again);
}

static int host_cancelled(struct errand_call *call)
{
    struct native_call *native = native_call(call);
    if (!attempt_should_stop(native->attempt))
        return 0;
    atomic_store_explicit(&native->told_stop, true, memory_order_relaxed);
    return 1;
}

static int64_t nearer(int64_t left, int64_t other)
{
    other = other > 0 ? other : 0;
    return left < 0 || other < left ? other : left;
}

static int64_t host_time_left(struct errand_call *call)
{
    const struct attempt *attempt = native_call(call)->attempt;
    int64_t left = -1, ends_us = attempt->deadline_us ? attempt->deadline_us : attempt->told_end_us;
    if (ends_us)
        left = nearer(left, (ends_us - clock_mono_us()) / 1000);
    if (attempt->deadline_at)
        left = nearer(left, attempt->deadline_at - clock_now_ms());
    return left;
}

/* --- children ---------------------------------------------------------------- */

int native_call_refuse(struct native_call *native, const char *why)
{
    reason_set(&native->why, "%s", why);
    return ERRAND_REFUSED;
}

int native_call_stopped(struct native_call *native)
{
    atomic_store_explicit(&native->told_stop, true, memory_order_relaxed);
    return native_call_refuse(native, "it is to stop");
}

static int host_submit(struct errand_call *call, const char *submission, size_t length, char *id)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    int64_t child;
    if (!sink->submit)
        return native_call_refuse(native, "there is no server to submit to");
    if (!submission || !sink->submit(native->attempt, (struct span){submission, length}, &child, &native->why))
        return submission ? ERRAND_REFUSED : native_call_refuse(native, "the submission is a null pointer");
    id_format(child, id);
    id[ID_TEXT_LEN] = '\0';
    return 0;
}

/* Parses them, each once. How many there are; -1: one is no id. */
static int read_ids(const char *const *texts, size_t count, int64_t *ids)
{
    int n = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t id;
        bool twice = false;
        if (!texts[i] || !id_parse(span_of(texts[i]), &id))
            return -1;
        for (int k = 0; k < n; k++)
            twice |= ids[k] == id;
        if (!twice)
            ids[n++] = id;
    }
    return n;
}

static int host_wait(struct errand_call *call, const char *const *texts, size_t count, int any, int64_t timeout_ms)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    int64_t ids[WAIT_IDS];
    if (!sink->wait)
        return native_call_refuse(native, "there is no server to wait with");
    if (count > WAIT_IDS)
        return native_call_refuse(native, "too many to wait for at once");
    int n = read_ids(texts, count, ids);
    if (n < 0)
        return native_call_refuse(native, "one of them is no id");
    if (!n)
        return 0;
    if (timeout_ms > DURATION_MAX_MS)
        timeout_ms = DURATION_MAX_MS;
    switch (sink->wait(native->attempt, ids, n, any != 0, timeout_ms, &native->why)) {
    case WAITED_MET: return 0;
    case WAITED_TIMED_OUT: return ERRAND_TIMED_OUT;
    case WAITED_STOPPED: return native_call_stopped(native);
    case WAITED_REFUSED: break;
    }
    return ERRAND_REFUSED;
}

static int host_look(struct errand_call *call, const char *text, const char **status, const char **value,
                     size_t *length)
{
    struct native_call *native = native_call(call);
    const struct attempt_sink *sink = native->attempt->sink;
    struct child_view view;
    int64_t id;
    if (!sink->look)
        return native_call_refuse(native, "there is no server to ask");
    if (!text || !id_parse(span_of(text), &id))
        return native_call_refuse(native, "it is no id");
    enum err err = sink->look(native->attempt, id, &view);
    if (err != OK)
        return native_call_refuse(native, err == ERR_NOT_FOUND ? "there is no such invocation"
                                                               : "it could not be read now");
    struct buf *bytes = native_call_text(native);
    buf_add_span(bytes, buf_span(view.error.len ? &view.error : &view.result));
    if (!bytes->len)
        buf_addl(bytes, "null");
    buf_release(&view.result);
    buf_release(&view.error);
    *status = view.status;
    return native_call_give(bytes, value, length);
}

static const char *host_why(struct errand_call *call)
{
    return native_call(call)->why.text;
}

static const struct errand_host host = {
    .size = sizeof(struct errand_host),
    .args = host_args,
    .id = host_id,
    .task = host_task,
    .attempt = host_attempt,
    .result = host_result,
    .fail = host_fail,
    .progress = host_progress,
    .log = host_log,
    .cancelled = host_cancelled,
    .arg = host_arg,
    .submit = host_submit,
    .wait = host_wait,
    .look = host_look,
    .why = host_why,
    .step = native_record_step,
    .step_get = native_record_step_get,
    .message = native_record_message,
    .inbox = native_record_inbox,
    .suspend = native_record_suspend,
    .state = native_record_state,
    .woken = native_record_woken,
    .time_left = host_time_left,
};

/* --- running ----------------------------------------------------------------- */

/* A slot that lost its thread would never run anything again, so this death is
 * made a loud one, which the journal blames on the right invocation. */
static void thread_was_ended(void *argument)
{
    struct native_call *native = argument;
    log_error("a task ended its thread with pthread_exit", LOG_STR("task", native->attempt->task->name),
              LOG_STR("invocation", native->id));
    abort();
}

static void call_body(struct native_call *native)
{
    errand_task_fn *body;
    memcpy(&body, &native_task(native->attempt->task)->entry, sizeof(body));
    pthread_cleanup_push(thread_was_ended, native);
    body(&native->call);
    pthread_cleanup_pop(0);
}

static void fail_late(struct attempt *attempt, struct outcome *outcome, int64_t late_us)
{
    struct buf message = {0};
    buf_addl(&message, "it took longer than ");
    duration_add(&message, attempt->timeout_ms);
    if (late_us >= 1000000) {
        buf_addl(&message, " and returned ");
        duration_add(&message, late_us / 1000);
        buf_addl(&message, " after that");
    }
    outcome_fail(outcome, SPAN("timeout"), buf_span(&message), (struct span){NULL, 0});
    buf_release(&message);
}

static void run_body(struct attempt *attempt, struct outcome *outcome)
{
    struct native_call native = {.call = {&host}, .attempt = attempt, .outcome = outcome};
    id_format(attempt->id, native.id);
    call_body(&native);
    free_texts(&native);
    buf_release(&native.message.body);

    int64_t late_us = attempt->deadline_us ? clock_mono_us() - attempt->deadline_us : -1;
    if (late_us >= 0)
        fail_late(attempt, outcome, late_us);
    else if (!native.answered && atomic_load(&native.told_stop))
        /* It gave up because it was told to; attempt_end() knows why. */
        outcome_fail(outcome, SPAN("stopped"), SPAN("it was stopped"), (struct span){NULL, 0});
}

static void start(struct attempt *attempt)
{
    if (native_task(attempt->task)->entry)
        run_body(attempt, attempt->outcome);
    else
        outcome_fail(attempt->outcome, SPAN("not_loaded"), SPAN("the task's function was not found in its module"),
                     (struct span){NULL, 0});
    attempt_end(attempt);
}

/* --- loading ----------------------------------------------------------------- */

static void *find_function(void *module, const char *name, const char **fault)
{
    void *entry = dlsym(module, name);
    if (!entry) {
        *fault = "is not in the module";
        return NULL;
    }
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (dladdr1(entry, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol &&
        ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT) {
        *fault = "is a variable of the module, not a function";
        return NULL;
    }
    return entry;
}

void native_add_fault(struct faults *faults, const struct task *task, const char *member, const char *what,
                      const char *detail)
{
    struct buf pointer = {0};
    buf_addl(&pointer, "/tasks");
    pointer_add(&pointer, span_of(task->name));
    faults_add_member(faults, task->line, buf_cstr(&pointer), span_of(member), "%s %s", what, detail);
    buf_release(&pointer);
}

static void load(struct task *task, struct faults *faults)
{
    struct native_task *native = task->definition;
    const char *fault = NULL;
    void *module = native_module_load(native->module, &fault);
    if (!module) {
        native_add_fault(faults, task, "module", "cannot be loaded:", fault);
        return;
    }
    native->entry = find_function(module, native->function, &fault);
    if (fault)
        native_add_fault(faults, task, "function", native->function, fault);
}

const struct kind native_kind = {
    .name = "native",
    .in_process = true,
    .keys = native_keys,
    .definition_bytes = sizeof(struct native_task),
    .check = check,
    .load = load,
    .start = start,
    .serve = native_apart_serve,
    .apart = native_apart,
    .release = native_task_release,
};
