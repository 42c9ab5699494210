/* A copy is whole, on disk, and alone. */
#include "tests/e2e/support.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

SUITE(backup);

/* A folder with a database of one invocation, whose id comes back. */
static struct server *stopped(char **id)
{
    struct server *s = serve(TASKS);
    *id = submit(s, "{'task': 'echo', 'args': 'kept'}");
    final(s, *id);
    cr_assert_eq(terminate(s), 0);
    return s;
}

/* `errand backup copy.db` with variables in its environment. */
static int backup(struct server *s, const char *variables, char **err)
{
    char *line = format("%s exec %s backup --config errand.yaml copy.db", variables, errand_binary());
    return run(s->folder, (const char *[]){"sh", "-c", line, NULL}, NULL, NULL, err);
}

static char *preload(void)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    return format("LD_PRELOAD=%s", native("odd_disk"));
}

static void expect_whole(struct server *s, const char *id)
{
    struct server *second = prepare(TASKS);
    second->arguments = (const char *[]){"--store", file_in(s, "copy.db"), NULL};
    start(second);
    EXPECT_TEXT(EXPECT(get(second, "/invocations/%s", id), 200), "result", "kept");
    cr_assert_eq(terminate(second), 0);
}

static void expect_no_leftovers(struct server *s)
{
    char *left;
    run(s->folder, (const char *[]){"sh", "-c", "ls | grep part", NULL}, NULL, &left, NULL);
    cr_assert_str_empty(left);
}

/* The second took away the first's unfinished copy, and both said that they had one. */
Test(backup, two_at_once_do_not_tear_each_others_copy)
{
    char *id, *err;
    struct server *s = stopped(&id);
    char *hold = file_in(s, "hold");
    char *with = format("%s SYNC_HOLD=%s", preload(), hold);
    touch(hold);
    pid_t first = fork();
    if (first == 0)
        _exit(backup(s, with, NULL));
    WAIT_UNTIL(exists(format("%s.reached", hold)));
    cr_assert_eq(backup(s, "", &err), 1);
    REQUIRE(strstr(err, "another backup"), "%s", err);
    unlink(hold);
    int status;
    REQUIRE(waitpid(first, &status, 0) == first && status == 0, "%x", status);
    expect_whole(s, id);
    expect_no_leftovers(s);
    cr_assert_eq(backup(s, "", &err), 1);
    REQUIRE(strstr(err, "there already"), "%s", err);
}

Test(backup, the_copys_name_is_on_disk_and_needs_no_hard_links)
{
    char *id, *err;
    struct server *s = stopped(&id);
    char *synced = file_in(s, "synced");
    cr_assert_eq(backup(s, format("%s NO_LINKS=1 SYNCED=%s", preload(), synced), &err), 0, "%s", err);
    char *list = read_whole(synced);
    REQUIRE(strstr(list, format("%s\n", realpath(s->folder, NULL))), "the folder was not synced:\n%s", list);
    expect_whole(s, id);
    expect_no_leftovers(s);
    unlink(file_in(s, "copy.db"));
    write_whole(file_in(s, "copy.db"), "mine");
    cr_assert_eq(backup(s, format("%s NO_LINKS=1", preload()), &err), 1);
    cr_assert_str_eq(read_whole(file_in(s, "copy.db")), "mine");
}

Test(backup, a_failed_one_leaves_nothing)
{
    char *id, *err;
    struct server *s = stopped(&id);
    cr_assert_eq(backup(s, "ulimit -f 8;", &err), 1);
    REQUIRE(*err, "it does not say why");
    REQUIRE(!exists(file_in(s, "copy.db")));
    expect_no_leftovers(s);
}

/* What one that was killed left is no hindrance, and not part of the next. */
Test(backup, a_killed_one_does_not_hinder_the_next)
{
    char *id, *err;
    struct server *s = stopped(&id);
    write_whole(file_in(s, "copy.db.part"), "half a copy");
    write_whole(file_in(s, "copy.db.part-journal"), "of that");
    cr_assert_eq(backup(s, "", &err), 0, "%s", err);
    expect_whole(s, id);
    expect_no_leftovers(s);
}
