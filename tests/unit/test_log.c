#include "base/log.h"
#include "base/clock.h"
#include "base/json.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/errand-log-XXXXXX";
static char path[64];

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/errand.log", folder);
}

static void remove_folder(void)
{
    log_close();
    unlink(path);
    rmdir(folder);
}

TestSuite(log, .init = make_folder, .fini = remove_folder);

static char *read_file(const char *name)
{
    FILE *file = fopen(name, "r");
    cr_assert_not_null(file, "%s", name);
    struct buf b = {0};
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;)
        buf_add(&b, part, n);
    fclose(file);
    return buf_take(&b);
}

static void open_log(enum log_level level, enum log_format format)
{
    struct reason why = {""};
    cr_assert_eq(log_open(&(struct log_settings){level, format, folder, {0}}, &why), OK, "%s", why.text);
}

Test(log, a_line_without_fields_needs_none)
{
    open_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("started");
    char *text = read_file(path);
    cr_expect_not_null(strstr(text, " level=info msg=started\n"), "%s", text);
    int64_t at_ms = 0;
    cr_assert(strlen(text) > 29 && strncmp(text, "time=", 5) == 0);
    cr_expect(time_parse((struct span){text + 5, 24}, &at_ms));
    cr_expect(llabs(clock_now_ms() - at_ms) < 60000);
    free(text);
}

/* What comes after "msg=" for a field of each kind. */
Test(log, values_are_quoted_when_they_need_it)
{
    static const struct row {
        const char *value, *written;
    } rows[] = {
        {"plain", "plain"},
        {"127.0.0.1:8080", "127.0.0.1:8080"},
        {"", "\"\""},
        {NULL, "\"\""},
        {"two words", "\"two words\""},
        {"a \"b\"", "\"a \\\"b\\\"\""},
        {"a=b", "\"a=b\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"line\nbreak\x1B[0m", "\"line\\nbreak\\u001b[0m\""},
        {"caf\xC3\xA9", "caf\xC3\xA9"},
        {"bad\xFF", "\"bad" UTF8_REPLACEMENT "\""},
    };
    open_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    struct buf wanted = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        log_warn("x y", LOG_STR("key", rows[i].value), LOG_INT("n", -(int64_t)i));
        buf_addf(&wanted, "level=warn msg=\"x y\" key=%s n=%d\n", rows[i].written, -(int)i);
    }
    char *text = read_file(path);
    struct buf seen = {0};
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        buf_adds(&seen, line + strlen("time=2026-01-02T03:04:05.678Z "));
        buf_addc(&seen, '\n');
    }
    cr_expect_str_eq(buf_cstr(&seen), buf_cstr(&wanted));
    buf_release(&seen);
    buf_release(&wanted);
    free(text);
}

Test(log, json_lines_are_json)
{
    open_log(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    log_debug("a \"b\"\n", LOG_STR("text", "\xFF\t"), LOG_SPAN("part", ((struct span){"abcdef", 3})),
              LOG_SPAN("absent", ((struct span){NULL, 0})), LOG_INT("number", INT64_MIN));
    char *text = read_file(path);
    size_t length = strlen(text);
    cr_assert_eq(json_check(text, length, 1, NULL), OK, "%s", text);
    cr_expect_eq(text[length - 1], '\n');
    cr_expect_eq(strcspn(text, "\n"), length - 1);
    struct span line = json_trim(span_of(text));
    cr_expect(span_is(json_get(line, "level"), "\"debug\""));
    cr_expect(span_is(json_get(line, "msg"), "\"a \\\"b\\\"\\n\""));
    cr_expect(span_is(json_get(line, "text"), "\"" UTF8_REPLACEMENT "\\t\""));
    cr_expect(span_is(json_get(line, "part"), "\"abc\""));
    cr_expect(span_is(json_get(line, "absent"), "\"\""));
    cr_expect(span_is(json_get(line, "number"), "-9223372036854775808"));
    free(text);
}

static int evaluated;

static const char *evaluate(void)
{
    evaluated++;
    return "value";
}

Test(log, fields_of_lines_below_the_level_are_not_evaluated)
{
    open_log(LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
    log_debug("no", LOG_STR("x", evaluate()));
    log_info("no", LOG_STR("x", evaluate()));
    cr_expect_eq(evaluated, 0);
    log_warn("yes", LOG_STR("x", evaluate()));
    log_error("yes", LOG_STR("x", evaluate()));
    cr_expect_eq(evaluated, 2);
    char *text = read_file(path);
    cr_expect_null(strstr(text, "msg=no"));
    cr_expect_not_null(strstr(text, "level=error msg=yes x=value\n"));
    free(text);
}

Test(log, opening_again_appends_and_follows_a_moved_file)
{
    char moved[80];
    snprintf(moved, sizeof moved, "%s.1", path);
    open_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("first");
    cr_assert_eq(rename(path, moved), 0);
    log_info("second");
    open_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("third");
    open_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("fourth");

    char *before = read_file(moved);
    char *after = read_file(path);
    cr_expect_not_null(strstr(before, "first"));
    cr_expect_not_null(strstr(before, "second"));
    cr_expect_null(strstr(after, "second"));
    cr_expect_not_null(strstr(after, "third"));
    cr_expect_not_null(strstr(after, "fourth"));
    free(before);
    free(after);
    unlink(moved);
}

Test(log, a_missing_directory_is_made_and_an_impossible_one_is_told)
{
    char inside[80], file[96];
    snprintf(inside, sizeof inside, "%s/log", folder);
    snprintf(file, sizeof file, "%s/errand.log", inside);
    struct reason why = {""};
    cr_expect_eq(log_open(&(struct log_settings){LOG_LEVEL_INFO, LOG_FORMAT_TEXT, inside, {0}}, &why), OK, "%s",
                 why.text);
    log_info("here");
    struct stat status;
    cr_assert_eq(stat(inside, &status), 0);
    cr_expect_eq(status.st_mode & 0700, 0700);
    cr_expect_eq(access(file, F_OK), 0);

    cr_expect_eq(log_open(&(struct log_settings){LOG_LEVEL_INFO, LOG_FORMAT_TEXT, file, {0}}, &why), ERR_IO);
    cr_expect_not_null(strstr(why.text, file), "%s", why.text);
    log_info("still here");
    char *text = read_file(file);
    cr_expect_not_null(strstr(text, "still here"));
    free(text);
    unlink(file);
    rmdir(inside);
}

enum { THREADS = 4, LINES = 500 };

static void *write_lines(void *arg)
{
    for (int i = 0; i < LINES; i++) {
        if (i % 50 == 0)
            (void)!log_open(&(struct log_settings){LOG_LEVEL_INFO, LOG_FORMAT_JSON, folder, {0}}, NULL);
        log_info("a line", LOG_INT("thread", (int64_t)(intptr_t)arg), LOG_INT("line", i));
    }
    return NULL;
}

Test(log, lines_of_many_threads_do_not_mix_nor_get_lost)
{
    open_log(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    char *text = read_file(path);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
        cr_expect_eq(json_check(line, strlen(line), 1, NULL), OK, "%s", line);
    cr_expect_eq(lines, THREADS * LINES);
    free(text);
}

/* All that the other end holds now, or gets within a moment. */
static void drain(int fd, struct buf *out)
{
    char piece[65536];
    ssize_t n;
    while ((n = read(fd, piece, sizeof piece)) > 0)
        buf_add(out, piece, (size_t)n);
}

static void log_large_lines(int count, size_t size)
{
    char *text = malloc(size + 1);
    memset(text, 'x', size);
    text[size] = '\0';
    for (int i = 0; i < count; i++)
        log_info("large", LOG_STR("text", text));
    free(text);
}

/* Some are there, whole, and all others are counted. */
static bool all_are_accounted_for(char *text, int logged, size_t size)
{
    int there = 0, missing = 0, n;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *large = strstr(line, "msg=large text="), *count = strstr(line, " lines=");
        if (large && strspn(large + 15, "x") == size)
            there++;
        else if (count && sscanf(count, " lines=%d", &n) == 1)
            missing += n;
    }
    return there > 2 && missing > 0 && there + missing == logged;
}

/* A pipe or a socket that nobody read stopped the whole service. */
Test(log, a_stderr_that_nobody_reads_costs_lines_and_no_time, .timeout = 20)
{
    static const size_t sizes[] = {100, 3000, 20000};
    for (int sockets = 0; sockets < 2; sockets++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int ends[2], before = dup(STDERR_FILENO);
            struct reason why;
            struct buf all = {0};
            cr_assert_eq(sockets ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends), 0);
            fcntl(ends[0], F_SETFL, O_NONBLOCK);
            dup2(ends[1], STDERR_FILENO);
            pid_t pid = fork(); /* it opens its stderr once */
            if (pid == 0) {
                if (log_open(&(struct log_settings){LOG_LEVEL_INFO, LOG_FORMAT_TEXT, NULL, {0}}, &why) != OK)
                    _exit(1);
                log_large_lines(5000, sizes[i]);
                drain(ends[0], &all);
                log_large_lines(2, sizes[i]);
                drain(ends[0], &all);
                bool shared = fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK;
                buf_cstr(&all);
                _exit(shared ? 2 : all_are_accounted_for(all.data, 5002, sizes[i]) ? 0 : 3);
            }
            dup2(before, STDERR_FILENO);
            close(before);
            int status;
            waitpid(pid, &status, 0);
            cr_expect_eq(status, 0, "%s, lines of %zu: %x", sockets ? "socket" : "pipe", sizes[i], status);
            close(ends[0]);
            close(ends[1]);
        }
}
