#include "base/clock.h"
#include "tests/store/support.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <fcntl.h>
#include <unistd.h>

STORE_TEST(one_file_has_one_owner)
{
    struct store *second = NULL;
    struct reason why = {""};
    struct store_options options = {.url = f->url, .node = 1};
    cr_assert_eq(store_open(&options, &second, &why), ERR_BUSY);
    cr_assert_not_null(strstr(why.text, "in use"));
    char link_url[200];
    snprintf(link_url, sizeof link_url, "%s/link.db", f->folder);
    cr_assert_eq(symlink(f->url, link_url), 0);
    options.url = link_url;
    cr_assert_eq(store_open(&options, &second, &why), ERR_BUSY, "a link leads to the same file");
    submit(f);
}

STORE_TEST(a_newer_schema_is_refused)
{
    fixture_shut(f);
    struct db *db;
    IS_OK(db_open(f->url, DB_WRITER, &db, NULL));
    IS_OK(db_exec(db, "INSERT INTO schema_version (version) VALUES (1000)"));
    db_close(db);
    struct store *store = NULL;
    struct reason why = {""};
    struct store_options options = {.url = f->url};
    cr_assert_eq(store_open(&options, &store, &why), ERR_CONFLICT);
    cr_assert_not_null(strstr(why.text, "1000"));
}

STORE_TEST(tasks_keep_their_numbers)
{
    int again;
    uint64_t before = store_version(f->store);
    IS_OK(store_task_id(f->store, SPAN("gamma"), &again));
    cr_assert_gt(store_version(f->store), before, "a list of tasks shows it");
    int gamma = again;
    fixture_again(f);
    IS_OK(store_task_id(f->store, SPAN("gamma"), &again));
    cr_assert_eq(again, gamma);
    cr_assert_str_eq(store_task_name(f->store, gamma), "gamma");
    cr_assert_str_eq(store_task_name(f->store, 1000), "");
    bool paused;
    int64_t counts[STATUS_SLOTS];
    cr_assert(!store_task_counts(f->store, 1000, &paused, counts));
}

static struct fixture *naming;

static void *name_tasks(void *arg)
{
    int *ids = arg;
    for (int i = 0; i < 50; i++) {
        char name[24];
        snprintf(name, sizeof name, "task-%d", i);
        if (store_task_id(naming->store, span_of(name), &ids[i]) != OK)
            ids[i] = -1;
    }
    return NULL;
}

/* The slower of two threads got ERR_CONFLICT. */
STORE_TEST(two_threads_may_name_the_same_task)
{
    int a[50], b[50];
    pthread_t thread;
    naming = f;
    cr_assert_eq(pthread_create(&thread, NULL, name_tasks, a), 0);
    name_tasks(b);
    pthread_join(thread, NULL);
    for (int i = 0; i < 50; i++)
        cr_assert(a[i] > 0 && a[i] == b[i]);
}

static int entries(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    cr_assert_not_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* The lock's file stayed, and the folder with it. */
Test(store, memory_is_removed_at_close)
{
    char folder[] = "/tmp/errand-test-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    setenv("TMPDIR", folder, 1);
    struct store *store, *second;
    struct reader *reader;
    struct reason why = {""};
    struct store_options options = {.url = ":memory:"};
    IS_OK(store_open(&options, &store, &why));
    cr_assert_eq(entries(folder), 1);
    cr_assert_eq(store_open(&options, &second, &why), ERR_BUSY);
    IS_OK(store_start(store, &why));
    IS_OK(reader_open(store, &reader, &why));
    int task;
    IS_OK(store_task_id(store, SPAN("t"), &task));
    struct submission s = {.task = task, .args = SPAN("1")};
    struct op_submit op;
    op_submit_init(&op, &s, 1);
    IS_OK(store_do(store, &op.op));
    struct invocation row;
    IS_OK(reader_get(reader, s.id, VIEW_FULL, &row));
    IS_SPAN(row.args, "1");
    store_stop(store);
    reader_close(reader);
    store_close(store);
    cr_assert_eq(entries(folder), 0);
    IS_OK(store_open(&options, &store, &why)); /* and again */
    store_close(store);
    cr_assert_eq(entries(folder), 0);
    cr_assert_eq(rmdir(folder), 0);
}

static struct {
    struct fixture *f;
    _Atomic int64_t rows;
    atomic_bool stop;
} writing;

static void *write_rows(void *arg)
{
    (void)arg;
    while (!writing.stop) {
        struct submission s[20];
        for (int i = 0; i < 20; i++)
            s[i] = plain(writing.f);
        submit_all(writing.f, s, 20);
        writing.rows += 20;
    }
    return NULL;
}

STORE_TEST(a_backup_taken_while_writing_is_whole)
{
    pthread_t thread;
    writing.f = f;
    cr_assert_eq(pthread_create(&thread, NULL, write_rows, NULL), 0);
    char file[200];
    struct reason why = {""};
    for (int i = 0; i < 5; i++) {
        snprintf(file, sizeof file, "%s/copy-%d.db", f->folder, i);
        while (writing.rows < i * 500)
            usleep(1000);
        int64_t before = writing.rows;
        cr_assert_eq(db_backup(f->url, file, &why), OK, "%s", why.text);
        struct fixture copy = {0};
        IS_OK(db_open(file, DB_READER, &copy.raw, NULL));
        int64_t n = ask(&copy, "SELECT COUNT(*) FROM invocations");
        cr_assert_geq(n, before);
        cr_assert_eq(n % 20, 0, "no half batch");
        cr_assert_eq(ask(&copy, "SELECT SUM(n) FROM counters"), n);
        db_close(copy.raw);
        check_integrity(file);
        cr_assert_eq(db_backup(f->url, file, &why), ERR_CONFLICT, "a file that is there is left alone");
    }
    writing.stop = true;
    pthread_join(thread, NULL);
    cr_assert_eq(db_backup("/nowhere/at/all.db", "/tmp/errand-no", &why), ERR_NOT_FOUND);
    struct store *store;
    IS_OK(store_open(&(struct store_options){.url = file}, &store, &why)); /* a copy is a store */
    store_close(store);
}

/* --- a full disk ------------------------------------------------------------------- */

static bool mount_small(const char *folder)
{
    return mount("errand-test", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=3m") == 0;
}

static void fill_disk(const char *path)
{
    char block[4096] = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    cr_assert_geq(fd, 0);
    while (write(fd, block, sizeof block) > 0)
        ;
    close(fd);
}

/* Writes until it is refused. */
static void exhaust(struct fixture *f)
{
    static char text[20000];
    memset(text, '1', sizeof text);
    for (int i = 0; i < 400; i++) {
        struct submission s = plain(f);
        struct op_submit op;
        s.args = (struct span){text, sizeof text};
        op_submit_init(&op, &s, 1);
        enum err err = store_do(f->store, &op.op);
        if (err != OK) {
            cr_assert_eq(err, ERR_UNAVAILABLE);
            return;
        }
    }
    cr_assert_fail("3 MB took 8 MB");
}

static void wait_healthy(struct fixture *f)
{
    pthread_mutex_lock(&f->lock);
    while (!f->healthy_again)
        pthread_cond_wait(&f->heard, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

STOPPED_TEST(a_full_disk_refuses_writers_keeps_finishes_and_heals_by_itself)
{
    char small[120], filler[160];
    fixture_shut(f);
    snprintf(small, sizeof small, "%s/small", f->folder);
    snprintf(filler, sizeof filler, "%s/filler", small);
    cr_assert_eq(mkdir(small, 0700), 0);
    if (!mount_small(small))
        cr_skip_test("a small file system cannot be mounted here (%s)", strerror(errno));
    snprintf(f->url, sizeof f->url, "%s/errand.db", small);
    fixture_open(f);
    fixture_start(f);
    int64_t id = submit(f), waiting = submit(f);
    struct waited w;
    started(&w, f, id, 1);
    fill_disk(filler);
    exhaust(f);
    cr_assert(!store_healthy(f->store));
    cr_assert_eq(f->unhealthy, 1, "the listener heard once");
    cr_assert_eq(status_of(f, waiting), STATUS_QUEUED, "readers go on");
    check_counters(f);

    static char large[200000]; /* larger than what the WAL has room for */
    memset(large, '2', sizeof large);
    w.finish.result = (struct span){large, sizeof large};
    queue_finish(&w, f);
    usleep(1300000); /* at least one more try */
    cr_assert_neq(sem_trywait(&w.finished), 0, "a finish is kept");
    cr_assert_eq(unlink(filler), 0);
    wait_healthy(f);
    IS_OK(wait_finished(&w));
    cr_assert_eq(status_of(f, id), STATUS_SUCCEEDED);
    submit(f);
    check_counters(f);

    /* And with nothing kept: the committer finds out by itself. */
    f->healthy_again = 0;
    fill_disk(filler);
    exhaust(f);
    cr_assert_eq(unlink(filler), 0);
    wait_healthy(f);
    submit(f);

    /* Stopping with a full disk ends, and answers what was kept. */
    started(&w, f, waiting, 1);
    fill_disk(filler);
    exhaust(f);
    w.finish.result = (struct span){large, sizeof large};
    queue_finish(&w, f);
    store_stop(f->store);
    cr_assert_eq(wait_finished(&w), ERR_UNAVAILABLE);
    unlink(filler);
    fixture_shut(f);
    cr_assert_eq(umount(small), 0);
}
