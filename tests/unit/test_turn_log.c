#include "base/log.h"
#include "workers/turn_log.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];

static void open_log(void)
{
    struct reason why = {""};
    snprintf(folder, sizeof folder, "/tmp/errand-turn-log-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(log_open(&(struct log_settings){.level = LOG_LEVEL_ERROR, .directory = folder}, &why), OK);
}

static void close_log(void)
{
    char command[96];
    log_close();
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(turn_log, .init = open_log, .fini = close_log);

/* All that was logged so far, and nothing is left of it. */
static const char *take_log(void)
{
    static char text[8192];
    char path[96];
    snprintf(path, sizeof path, "%s/errand.log", folder);
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    cr_assert_eq(truncate(path, 0), 0);
    return text;
}

static const struct turn turn = {.id = 1, .lease = 2, .task = 3, .attempt = 4};

static struct turn_said said_of(enum log_level level, enum turn_log_arguments arguments, const char *args)
{
    return (struct turn_said){
        .task = "add",
        .level = level,
        .arguments = arguments,
        .turn = &turn,
        .worker = SPAN("slot-1"),
        .args = span_of(args),
    };
}

Test(turn_log, says_of_arguments_what_it_is_told_to)
{
    static const struct {
        enum turn_log_arguments arguments;
        const char *args, *line;
    } rows[] = {
        {LOG_ARGUMENTS_FULL, "{\"x\": 1}", " worker=slot-1 args=\"{\\\"x\\\": 1}\"\n"},
        {LOG_ARGUMENTS_KEYS, "{\"x\": 1, \"secret\": \"s\"}", " worker=slot-1 args=x,secret\n"},
        {LOG_ARGUMENTS_KEYS, "{}", " worker=slot-1 args=\"\"\n"},
        {LOG_ARGUMENTS_KEYS, "[1, [2, 3], 4]", " worker=slot-1 args=[3]\n"},
        {LOG_ARGUMENTS_KEYS, " \"text\" ", " worker=slot-1 args=string\n"},
        {LOG_ARGUMENTS_KEYS, "null", " worker=slot-1 args=null\n"},
        {LOG_ARGUMENTS_TRUNCATED, "[12]", " worker=slot-1 args=[12]\n"},
        {LOG_ARGUMENTS_HIDDEN, "{\"x\": 1}", " worker=slot-1\n"},
        {LOG_ARGUMENTS_FULL, "", " worker=slot-1\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct turn_said said = said_of(LOG_LEVEL_DEBUG, rows[i].arguments, rows[i].args);
        turn_log_started(&said);
        const char *line = take_log();
        cr_expect_not_null(strstr(line, rows[i].line), "row %zu: %s", i, line);
        cr_expect_not_null(strstr(line, " level=debug msg=\"a turn starts\" task=add id="), "row %zu: %s", i,
                           line);
    }
}

Test(turn_log, truncated_arguments_are_cut_between_characters)
{
    char args[600];
    size_t n = 0;
    args[n++] = '"';
    while (n < 500) {
        args[n++] = '\xc3';
        args[n++] = '\xa9';
    }
    args[n++] = '"';
    args[n] = '\0';
    struct turn_said said = said_of(LOG_LEVEL_DEBUG, LOG_ARGUMENTS_TRUNCATED, args);
    turn_log_started(&said);
    const char *line = take_log();
    cr_expect_not_null(strstr(line, "\xc3\xa9...\""), "%s", line);
    cr_expect_lt(strlen(line), 350);
}

Test(turn_log, has_a_level_of_its_own)
{
    static const struct {
        enum log_level level;
        int lines;
    } rows[] = {{LOG_LEVEL_DEBUG, 3}, {LOG_LEVEL_INFO, 1}, {LOG_LEVEL_WARN, 1}, {LOG_LEVEL_ERROR, 0}};
    struct op_finish finish = {
        .next = FINISH_RETRY,
        .error = SPAN("{\"type\":\"E\",\"message\":\"no \\u00e9\"}"),
        .error_type = SPAN("E"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct turn_said said = said_of(rows[i].level, LOG_ARGUMENTS_KEYS, "{\"x\": 1}");
        turn_log_started(&said);
        turn_log_ended(&said, &finish, 12);
        turn_log_failed(&said, &finish, 7);
        const char *text = take_log();
        int lines = 0;
        for (const char *p = text; (p = strchr(p, '\n')); p++)
            lines++;
        cr_expect_eq(lines, rows[i].lines, "level %d: %s", (int)rows[i].level, text);
        if (rows[i].lines)
            cr_expect_not_null(strstr(text, "args=x error=E message=\"no \xc3\xa9\" then=retry left_out=7\n"),
                               "%s", text);
        if (rows[i].lines == 3)
            cr_expect_not_null(strstr(text, "args=x as=retry ms=12\n"), "%s", text);
    }
}
