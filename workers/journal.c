#include "workers/journal.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALTERNATE_STACK_BYTES = 64 * 1024 };

struct journal_record {
    struct page *page;
    struct journal_file_record *written; /* where a crash leaves it */
    struct journal_file_log *log;        /* NULL: no turn of it has logged, */
    bool no_log;                         /* or there was no room for what this one logs */
    struct journal_record *next;         /* of the free ones */
};

struct page {
    struct journal *journal;
    struct page *next;
    struct journal_file_record *written; /* mapped, or in plain memory */
    struct journal_record **free;        /* where its records go when they are */
    bool in_file;
    struct journal_record records[];
};

struct journal {
    int fd; /* locked as long as the journal is open; -1 in memory */
    size_t page_bytes;
    int page_records;
    struct journal_file_start *start; /* NULL in memory */

    pthread_mutex_t grow_lock; /* guards the size of the file, and is held while a page is added to it */
    size_t size;

    pthread_mutex_t lock; /* guards what follows, for a few instructions; taken under grow_lock */
    char *path;           /* NULL: in memory, or abandoned */
    struct page *pages;
    struct journal_record *free, *free_unwritten; /* the latter in plain memory, for want of a file */
    int taken;
    bool full; /* the last page that was wanted could not be added, which is logged; grow_lock guards it */
};

/* The turn that the calling thread runs, for the handlers. The record may have
 * become another's since: the lease says whether it is still this turn's.
 * Initial-exec: a plain load, safe in a signal handler. */
static __thread struct {
    struct journal_record *volatile record;
    volatile int64_t lease;
} running __attribute__((tls_model("initial-exec")));

static pid_t process; /* the server's: what a body forks is not to blame */

/* The order of the stores counts, not their time: whoever reads them, reads
 * them after the process is dead. */
static void in_this_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* --- pages ------------------------------------------------------------------------- */

/* All blocks are taken now: a full disk must not become a SIGBUS later.
 * Returns 0 or an errno. */
static int map_page(struct journal *journal, size_t at, void **out)
{
    if (at + journal->page_bytes > JOURNAL_FILE_BYTES_MAX)
        return EFBIG;
    int error;
    while ((error = posix_fallocate(journal->fd, (off_t)at, (off_t)journal->page_bytes)) == EINTR) {
    }
    if (error)
        return error;
    void *mapped = mmap(NULL, journal->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, journal->fd, (off_t)at);
    if (mapped == MAP_FAILED)
        return errno;
    memset(mapped, 0, journal->page_bytes); /* at the start, the last process's is there */
    *out = mapped;
    return 0;
}

static void add_page_locked(struct journal *journal, void *mapped)
{
    size_t records = (size_t)journal->page_records;
    struct page *page = xcalloc(1, sizeof(*page) + records * sizeof(*page->records));
    struct journal_record **list = mapped || journal->fd < 0 ? &journal->free : &journal->free_unwritten;
    page->journal = journal;
    page->free = list;
    page->in_file = mapped != NULL;
    page->written = mapped ? mapped : xcalloc(records, sizeof(*page->written));
    page->next = journal->pages;
    journal->pages = page;
    for (size_t i = records; i-- > 0;) { /* so that the first is taken first */
        page->records[i] = (struct journal_record){.page = page, .written = &page->written[i], .next = *list};
        *list = &page->records[i];
    }
}

/* The next page of the file; NULL in memory. grow_lock is the caller's. 0 or an errno. */
static int next_page(struct journal *journal, void **mapped)
{
    *mapped = NULL;
    int error = journal->fd >= 0 ? map_page(journal, journal->size, mapped) : 0;
    if (!error)
        journal->size += journal->page_bytes;
    return error;
}

static void free_pages(struct journal *journal)
{
    for (struct page *page = journal->pages, *next; page; page = next) {
        next = page->next;
        for (int i = 0; i < journal->page_records; i++)
            if (page->records[i].log)
                munmap(page->records[i].log, journal->page_bytes);
        if (page->in_file)
            munmap(page->written, journal->page_bytes);
        else
            free(page->written);
        free(page);
    }
}

/* --- opening ------------------------------------------------------------------------ */

/* The file is first made long enough and only then written, so that for want of
 * room nothing is lost of what the last process left. Returns 0 or an errno. */
static int begin_anew(struct journal *journal, int turns)
{
    int pages = 1 + (turns + journal->page_records - 1) / journal->page_records;
    size_t size = (size_t)pages * journal->page_bytes;
    void *mapped = NULL;
    if (journal->fd >= 0) {
        int error = posix_fallocate(journal->fd, 0, (off_t)size);
        if (!error && ftruncate(journal->fd, (off_t)size) != 0)
            error = errno;
        if (!error)
            error = map_page(journal, 0, &mapped);
        if (error)
            return error;
        journal->start = mapped;
    }
    journal->size = journal->page_bytes;
    while (journal->size < size) {
        int error = next_page(journal, &mapped);
        if (error)
            return error;
        add_page_locked(journal, mapped);
    }
    if (journal->start)
        journal_file_begin(journal->start, journal->page_bytes);
    return 0;
}

static enum err fail_open(const char *what, const char *path, int error, struct reason *why)
{
    log_error("turn journal", LOG_STR("what", what), LOG_STR("path", path ? path : ""),
              LOG_STR("error", strerrordesc_np(error)));
    reason_set(why, "cannot %s the turn journal %s: %s", what, path ? path : "in memory", strerrordesc_np(error));
    return ERR_IO;
}

static enum err open_file(struct journal *journal, struct reason *why)
{
    journal->fd = open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (journal->fd < 0)
        return fail_open("open", journal->path, errno, why);
    /* Not flock(): a child that a module forked would hold that, too. */
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(journal->fd, F_SETLK, &whole) != 0) {
        if (errno != EAGAIN && errno != EACCES)
            return fail_open("lock", journal->path, errno, why);
        reason_set(why, "the turn journal %s is in use by another server", journal->path);
        return ERR_BUSY;
    }
    return OK;
}

static void release(struct journal *journal)
{
    free_pages(journal);
    if (journal->start)
        munmap(journal->start, journal->page_bytes);
    if (journal->fd >= 0)
        close(journal->fd);
    pthread_mutex_destroy(&journal->grow_lock);
    pthread_mutex_destroy(&journal->lock);
    free(journal->path);
    free(journal);
}

enum err journal_open(const char *path, int turns, struct journal **out, struct journal_left *left,
                      struct reason *why)
{
    *out = NULL;
    *left = (struct journal_left){0};
    struct journal *journal = xcalloc(1, sizeof(*journal));
    journal->path = path ? xstrdup(path) : NULL;
    journal->fd = -1;
    journal->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    journal->page_records = (int)(journal->page_bytes / sizeof(struct journal_file_record));
    pthread_mutex_init(&journal->grow_lock, NULL);
    pthread_mutex_init(&journal->lock, NULL);
    process = getpid();

    enum err err = OK;
    if (path)
        err = open_file(journal, why);
    if (!err && path)
        journal_file_read(journal->fd, path, left);
    if (!err) {
        int error = begin_anew(journal, turns);
        if (error)
            err = fail_open("write", path, error, why);
    }
    if (err) {
        journal_left_release(left);
        release(journal);
        return err;
    }
    *out = journal;
    return OK;
}

void journal_set_cgroup(struct journal *journal, const char *path)
{
    if (journal->start)
        strcpy(journal->start->cgroup, path);
}

void journal_left_release(struct journal_left *left)
{
    for (int i = 0; i < left->count; i++)
        buf_release(&left->entries[i].log);
    free(left->entries);
    *left = (struct journal_left){0};
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (running.record && running.record->page->journal == journal)
        running.record = NULL;
    if (journal->taken == 0 && journal->path)
        unlink(journal->path);
    release(journal);
}

void journal_abandon(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    for (struct page *page = journal->pages; page; page = page->next)
        for (int i = 0; i < journal->page_records; i++)
            page->written[i].id = 0;
    if (journal->path)
        unlink(journal->path);
    free(journal->path);
    journal->path = NULL;
    pthread_mutex_unlock(&journal->lock);
}

/* --- turns ---------------------------------------------------------------------------- */

static struct journal_record *take_from_locked(struct journal *journal, struct journal_record **list)
{
    struct journal_record *record = *list;
    if (record) {
        *list = record->next;
        journal->taken++;
    }
    return record;
}

static struct journal_record *take_free(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_record *record = take_from_locked(journal, &journal->free);
    pthread_mutex_unlock(&journal->lock);
    return record;
}

/* Of a new page; one in plain memory, if there is none to be had and meanwhile
 * none was given back. Under one lock with what adds it: others take from it at once. */
static struct journal_record *take_of_more(struct journal *journal, int *error)
{
    void *mapped;
    *error = next_page(journal, &mapped);
    pthread_mutex_lock(&journal->lock);
    if (!*error || (!journal->free && !journal->free_unwritten))
        add_page_locked(journal, mapped);
    struct journal_record **list = journal->free ? &journal->free : &journal->free_unwritten;
    struct journal_record *record = take_from_locked(journal, list);
    pthread_mutex_unlock(&journal->lock);
    return record;
}

/* There was none free: another thread may have added some meanwhile. */
static struct journal_record *take_new(struct journal *journal)
{
    int error = 0;
    bool news = false;
    pthread_mutex_lock(&journal->grow_lock);
    struct journal_record *record = take_free(journal);
    if (!record) {
        record = take_of_more(journal, &error);
        news = error && !journal->full;
        journal->full = error;
    }
    pthread_mutex_unlock(&journal->grow_lock);
    if (news)
        log_warn("the turn journal cannot grow: after a crash it is not known of some turns that they ran",
                 LOG_STR("error", strerrordesc_np(error)));
    return record;
}

static struct journal_record *take(struct journal *journal)
{
    struct journal_record *record = take_free(journal);
    return record ? record : take_new(journal);
}

static void give_back(struct journal_record *record)
{
    struct journal *journal = record->page->journal;
    pthread_mutex_lock(&journal->lock);
    record->next = *record->page->free;
    *record->page->free = record;
    journal->taken--;
    pthread_mutex_unlock(&journal->lock);
}

struct journal_record *journal_enter(struct journal *journal, const struct turn *turn)
{
    struct journal_record *record = take(journal);
    struct journal_file_record *written = record->written;
    written->lease = turn->lease;
    written->started_at = clock_now_ms();
    written->marked = 0;
    written->attempt = turn->attempt;
    written->flags = 0;
    written->group = 0;
    record->no_log = !record->page->in_file;
    journal_log_sent(record);
    in_this_order();
    written->id = turn->id;
    in_this_order();
    running.record = NULL;
    in_this_order();
    running.lease = turn->lease;
    in_this_order();
    running.record = record;
    return record;
}

void journal_thread_is_free(void)
{
    running.record = NULL;
}

void journal_refused(struct journal_record *record)
{
    record->written->flags |= JOURNAL_FILE_REFUSED;
}

/* Called in a child that shares the memory, too: system calls and stores only. */
__attribute__((no_sanitize("address", "undefined", "thread"))) void journal_child(struct journal_record *record,
                                                                                  pid_t group)
{
    struct journal_file_record *written = record->written;
    written->group = 0;
    in_this_order();
    if (group == 0)
        return;
    written->group_since_ms = survivors_clock_ms();
    in_this_order();
    written->group = group;
}

void journal_child_since(struct journal_record *record, pid_t group, int64_t since_ms)
{
    struct journal_file_record *written = record->written;
    written->group = 0;
    in_this_order();
    written->group_since_ms = since_ms;
    in_this_order();
    written->group = group;
}

static struct journal_file_log *add_log(struct journal_record *record)
{
    struct journal *journal = record->page->journal;
    void *mapped;
    pthread_mutex_lock(&journal->grow_lock);
    size_t at = journal->size;
    int error = next_page(journal, &mapped);
    pthread_mutex_unlock(&journal->grow_lock);
    if (error)
        return NULL;
    struct journal_file_log *log = mapped;
    log->kind = JOURNAL_FILE_LOG;
    in_this_order();
    record->written->log = (int64_t)(at / journal->page_bytes);
    return log;
}

void journal_log(struct journal_record *record, struct span bytes)
{
    if (!record->log && !record->no_log)
        record->log = add_log(record);
    record->no_log = !record->log;
    if (record->no_log)
        return;
    struct journal_file_log *log = record->log;
    size_t room = record->page->journal->page_bytes - sizeof(*log);
    int64_t total = log->total + (int64_t)bytes.len;
    if (bytes.len > room)
        bytes = (struct span){bytes.p + (bytes.len - room), room};
    size_t at = (size_t)(total - (int64_t)bytes.len) % room;
    size_t first = bytes.len < room - at ? bytes.len : room - at;
    memcpy(log->bytes + at, bytes.p, first);
    memcpy(log->bytes, bytes.p + first, bytes.len - first);
    in_this_order();
    log->total = total;
}

void journal_log_sent(struct journal_record *record)
{
    if (record->log)
        record->log->total = 0;
}

void journal_leave(struct journal_record *record)
{
    if (running.record == record)
        running.record = NULL;
    record->written->id = 0;
    in_this_order();
    record->written->group = 0;
    give_back(record);
}

/* --- marks ------------------------------------------------------------------------ */

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { FATAL_COUNT = sizeof(fatal) / sizeof(fatal[0]) };

static struct sigaction before[FATAL_COUNT];

/* The first one counts: what a handler does after it may end in another. */
static void mark(int sig)
{
    if (!running.record || getpid() != process)
        return;
    struct journal_file_record *written = running.record->written;
    if (written->lease != running.lease || written->marked == running.lease)
        return;
    written->signal = sig;
    in_this_order();
    written->marked = running.lease;
}

/* A fault of this thread's own, not a signal that somebody sent: those strike
 * any thread. */
static bool is_own_fault(const siginfo_t *info)
{
    return info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == getpid());
}

static void on_fatal(int sig, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    int i = 0;
    while (i < FATAL_COUNT - 1 && fatal[i] != sig)
        i++;
    if (is_own_fault(info))
        mark(sig);
    if (before[i].sa_flags & SA_SIGINFO) {
        before[i].sa_sigaction(sig, info, context);
    } else if (before[i].sa_handler != SIG_DFL && before[i].sa_handler != SIG_IGN) {
        before[i].sa_handler(sig);
    } else {
        /* Back to what was: a fault strikes again when this returns, with its
         * context as a core dump wants it; a sent signal has to be sent again. */
        sigaction(sig, &before[i], NULL);
        if (info->si_code <= 0)
            raise(sig);
    }
    errno = saved_errno;
}

static void on_exit_called(void)
{
    mark(0);
}

static pthread_key_t stack_key;

static void release_stack(void *stack)
{
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
    munmap(stack, ALTERNATE_STACK_BYTES);
}

static void install(void)
{
    pthread_key_create(&stack_key, release_stack);
    for (int i = 0; i < FATAL_COUNT; i++) {
        struct sigaction action = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        sigaction(fatal[i], &action, &before[i]);
    }
    atexit(on_exit_called);
}

static pthread_once_t install_once = PTHREAD_ONCE_INIT;

void journal_install_handlers(void)
{
    pthread_once(&install_once, install);
}

/* A body that overflows its stack can run a handler only on another one. */
void journal_thread_init(void)
{
    journal_install_handlers();
    stack_t old;
    if (sigaltstack(NULL, &old) == 0 && !(old.ss_flags & SS_DISABLE))
        return; /* a sanitizer's */
    void *stack =
        mmap(NULL, ALTERNATE_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return;
    stack_t alternate = {.ss_sp = stack, .ss_size = ALTERNATE_STACK_BYTES};
    if (sigaltstack(&alternate, NULL) != 0) {
        munmap(stack, ALTERNATE_STACK_BYTES);
        return;
    }
    pthread_setspecific(stack_key, stack);
}
