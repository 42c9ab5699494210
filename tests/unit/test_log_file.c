#include "base/log_file.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[80];

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/errand-log-file-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.log", folder);
}

static void remove_folder(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(log_file, .init = make_folder, .fini = remove_folder);

static struct log_file *open_file(int64_t max_bytes, int keep)
{
    struct reason why = {""};
    struct log_file *file = log_file_open(path, &(struct log_rotation){max_bytes, keep}, &why);
    cr_assert_not_null(file, "%s", why.text);
    return file;
}

/* What stands in PATH.number (0: PATH), "-" if there is none. */
static const char *content(int number)
{
    static char text[4096];
    char name[100];
    snprintf(name, sizeof name, number ? "%s.%d" : "%s", path, number);
    FILE *f = fopen(name, "r");
    if (!f)
        return "-";
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void write_text(struct log_file *file, const char *text)
{
    log_file_write(file, span_of(text));
}

Test(log_file, is_put_away_when_the_next_line_would_be_too_much)
{
    static const struct {
        int keep;
        const char *files[4];
    } rows[] = {
        {0, {"5555\n", "-", "-", "-"}},
        {1, {"5555\n", "3333\n4444\n", "-", "-"}},
        {2, {"5555\n", "3333\n4444\n", "1111\n2222\n", "-"}},
        {5, {"5555\n", "3333\n4444\n", "1111\n2222\n", "-"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct log_file *file = open_file(12, rows[i].keep);
        for (int k = 1; k <= 5; k++) {
            char line[8];
            snprintf(line, sizeof line, "%d%d%d%d\n", k, k, k, k);
            write_text(file, line);
        }
        log_file_close(file);
        for (int k = 0; k < 4; k++)
            cr_expect_str_eq(content(k), rows[i].files[k], "keep %d, file %d: %s", rows[i].keep, k, content(k));
        remove_folder();
        mkdir(folder, 0700);
    }
}

Test(log_file, goes_on_where_it_was_and_counts_what_is_there)
{
    struct log_file *file = open_file(12, 2);
    write_text(file, "before..\n");
    log_file_close(file);
    file = open_file(12, 2);
    write_text(file, "after\n");
    log_file_close(file);
    cr_expect_str_eq(content(0), "after\n");
    cr_expect_str_eq(content(1), "before..\n");
}

Test(log_file, what_is_larger_than_a_file_stands_in_one_all_the_same)
{
    struct log_file *file = open_file(8, 3);
    write_text(file, "a line that is long\n");
    write_text(file, "another that is\n");
    log_file_close(file);
    cr_expect_str_eq(content(0), "another that is\n");
    cr_expect_str_eq(content(1), "a line that is long\n");
    cr_expect_str_eq(content(2), "-");
}

Test(log_file, without_a_limit_it_grows)
{
    struct log_file *file = open_file(0, 3);
    for (int i = 0; i < 100; i++)
        write_text(file, "0123456789\n");
    log_file_close(file);
    cr_expect_eq(strlen(content(0)), 1100);
    cr_expect_str_eq(content(1), "-");
}

/* logrotate moves a file and sends SIGHUP; or somebody removes it. */
Test(log_file, somebody_elses_rotation_is_met)
{
    char moved[100];
    struct reason why;
    struct log_file *file = open_file(30, 3);
    write_text(file, "first\n");
    snprintf(moved, sizeof moved, "%s.old", path);
    cr_assert_eq(rename(path, moved), 0);
    write_text(file, "second\n");
    cr_expect_eq(log_file_move(file, path, &(struct log_rotation){30, 3}, &why), OK);
    write_text(file, "third\n");
    cr_expect_str_eq(content(0), "third\n");
    cr_assert_eq(unlink(path), 0);
    write_text(file, "a line for which there would be no room\n");
    cr_expect_str_eq(content(0), "a line for which there would be no room\n");
    cr_expect_str_eq(content(1), "-");
    log_file_close(file);
}

Test(log_file, what_cannot_be_put_away_is_written_on)
{
    char blocked[100];
    snprintf(blocked, sizeof blocked, "%s.1", path);
    cr_assert_eq(mkdir(blocked, 0700), 0);
    struct log_file *file = open_file(8, 1);
    for (int i = 0; i < 5; i++)
        write_text(file, "0123456\n");
    log_file_close(file);
    cr_expect_eq(strlen(content(0)), 40);
}

Test(log_file, where_there_is_no_folder_the_reason_is_said_and_the_old_file_stays)
{
    struct reason why = {""};
    char nowhere[100];
    snprintf(nowhere, sizeof nowhere, "%s/none/a.log", folder);
    cr_expect_null(log_file_open(nowhere, &(struct log_rotation){0}, &why));
    cr_expect_not_null(strstr(why.text, nowhere), "%s", why.text);
    struct log_file *file = open_file(0, 1);
    cr_expect_eq(log_file_move(file, nowhere, &(struct log_rotation){0}, &why), ERR_IO);
    write_text(file, "here\n");
    log_file_close(file);
    cr_expect_str_eq(content(0), "here\n");
}

static void *write_lines(void *file)
{
    for (int i = 0; i < 500; i++)
        write_text(file, "0123456789\n");
    return NULL;
}

Test(log_file, threads_lose_nothing_while_files_are_put_away)
{
    enum { THREADS = 4, FILES = 40 };
    pthread_t threads[THREADS];
    struct log_file *file = open_file(1100, FILES);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, file), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_file_close(file);
    size_t bytes = 0;
    for (int i = 0; i <= FILES; i++)
        bytes += strcmp(content(i), "-") == 0 ? 0 : strlen(content(i));
    cr_expect_eq(bytes, THREADS * 500 * 11);
}
