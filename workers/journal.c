/* The file: a header, then a record a slot. Native byte order and layout: it is
 * read on the machine that wrote it, or it is foreign and counts as empty. */
#include "workers/journal.h"

#include "base/log.h"
#include "workers/survivors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FORMAT_VERSION = 1, SLOTS_MAX = 4096, ALTERNATE_STACK_BYTES = 64 * 1024 };

static const char magic[8] = "ERRNDJNL";

enum { FLAG_MARKED = 1, FLAG_ALONE = 2, FLAGS_KNOWN = 3 };

struct record {
    volatile int64_t id; /* 0: the slot is idle. Written last, cleared first */
    volatile int32_t attempt;
    volatile int32_t flags;
    volatile int64_t group_since_ms; /* of the boot clock */
    volatile int32_t group;          /* 0: no child */
    int32_t unused;
    volatile int64_t lease; /* of the turn; 0 in a file from before there were leases */
    int32_t unused_too[6];
};

struct header {
    char magic[8];
    int32_t version;
    int32_t slots;
    char boot_id[BOOT_ID_BYTES];
    char unused[64 - 16 - BOOT_ID_BYTES];
};

_Static_assert(sizeof(struct header) == 64 && sizeof(struct record) == 64, "the layout of the file");

struct journal {
    char *path; /* NULL: in memory */
    int fd;     /* locked as long as the journal is open; -1 in memory */
    int slots;
    size_t size;
    struct header *header; /* the mapping */
    struct record *records;
};

/* What the calling thread runs, for the handlers. Initial-exec: a plain load,
 * safe in a signal handler. */
static __thread struct record *running __attribute__((tls_model("initial-exec")));

static size_t file_size(int slots)
{
    return sizeof(struct header) + (size_t)slots * sizeof(struct record);
}

/* --- reading what the last process left -------------------------------------- */

static bool header_is_ours(const struct header *header, size_t size)
{
    return memcmp(header->magic, magic, sizeof(magic)) == 0 && header->version == FORMAT_VERSION &&
           header->slots >= 1 && header->slots <= SLOTS_MAX && size == file_size(header->slots);
}

static bool record_is_sane(const struct record *record)
{
    return record->id > 0 && record->attempt > 0 && !(record->flags & ~FLAGS_KNOWN) && record->group >= 0;
}

static void kill_survivors(const struct header *header, const struct record *records)
{
    char boot_id[BOOT_ID_BYTES];
    if (!survivors_boot_id(boot_id) || memcmp(boot_id, header->boot_id, BOOT_ID_BYTES) != 0)
        return; /* the machine was started since: none is left */
    struct survivor *wanted = xcalloc((size_t)header->slots, sizeof(*wanted));
    int count = 0;
    for (int i = 0; i < header->slots; i++)
        if (record_is_sane(&records[i]) && records[i].group > 1)
            wanted[count++] = (struct survivor){records[i].group, records[i].id, records[i].group_since_ms};
    if (count > 0)
        survivors_kill(wanted, count);
    free(wanted);
}

static void take_entries(const struct header *header, const struct record *records, struct journal_entry **left,
                         int *left_count)
{
    struct journal_entry *entries = xcalloc((size_t)header->slots, sizeof(*entries));
    int count = 0;
    for (int i = 0; i < header->slots; i++) {
        const struct record *record = &records[i];
        if (record->id == 0)
            continue;
        if (!record_is_sane(record)) {
            log_warn("a record of the slot journal is damaged and left out", LOG_INT("slot", i));
            continue;
        }
        entries[count++] = (struct journal_entry){
            .id = record->id,
            .lease = record->lease,
            .attempt = record->attempt,
            .marked = record->flags & FLAG_MARKED,
            .alone = record->flags & FLAG_ALONE,
        };
    }
    *left_count = count;
    if (count == 0) {
        free(entries);
        entries = NULL;
    }
    *left = entries;
}

static ssize_t read_all(int fd, char *bytes, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = pread(fd, bytes + got, size - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static void read_left(const struct journal *journal, struct journal_entry **left, int *left_count)
{
    struct stat st;
    if (fstat(journal->fd, &st) != 0 || st.st_size == 0)
        return;
    size_t size = (size_t)st.st_size;
    bool good = size >= sizeof(struct header) && size <= file_size(SLOTS_MAX);
    char *bytes = NULL;
    if (good) {
        bytes = xmalloc(size);
        good = read_all(journal->fd, bytes, size) == (ssize_t)size &&
               header_is_ours((const struct header *)bytes, size);
    }
    if (good) {
        const struct header *header = (const struct header *)bytes;
        const struct record *records = (const struct record *)(bytes + sizeof(*header));
        kill_survivors(header, records);
        take_entries(header, records, left, left_count);
    } else {
        log_warn("the slot journal is damaged or of another kind and counts as empty",
                 LOG_STR("path", journal->path));
    }
    free(bytes);
}

/* --- opening ------------------------------------------------------------------- */

/* All blocks are taken now: a full disk must not become a SIGBUS later. */
static bool begin_anew(struct journal *journal)
{
    int error = 0;
    if (journal->fd >= 0) {
        if (ftruncate(journal->fd, 0) != 0)
            return false;
        error = posix_fallocate(journal->fd, 0, (off_t)journal->size);
    }
    if (error) {
        errno = error;
        return false;
    }
    int flags = journal->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *bytes = mmap(NULL, journal->size, PROT_READ | PROT_WRITE, flags, journal->fd, 0);
    if (bytes == MAP_FAILED)
        return false;
    journal->header = bytes;
    journal->records = (struct record *)((char *)bytes + sizeof(struct header));
    memcpy(journal->header->magic, magic, sizeof(magic));
    journal->header->version = FORMAT_VERSION;
    journal->header->slots = journal->slots;
    if (!survivors_boot_id(journal->header->boot_id))
        memset(journal->header->boot_id, 0, BOOT_ID_BYTES);
    return true;
}

static enum err fail_open(const char *what, const char *path, struct reason *why)
{
    int error = errno;
    log_error("slot journal", LOG_STR("what", what), LOG_STR("path", path ? path : ""),
              LOG_STR("error", strerrordesc_np(error)));
    reason_set(why, "cannot %s the slot journal %s: %s", what, path ? path : "in memory", strerrordesc_np(error));
    return ERR_IO;
}

static enum err open_file(struct journal *journal, struct reason *why)
{
    journal->fd = open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (journal->fd < 0)
        return fail_open("open", journal->path, why);
    /* Not flock(): a child that a module forked would hold that, too. */
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(journal->fd, F_SETLK, &whole) != 0) {
        if (errno != EAGAIN && errno != EACCES)
            return fail_open("lock", journal->path, why);
        reason_set(why, "the slot journal %s is in use by another server", journal->path);
        return ERR_BUSY;
    }
    return OK;
}

static void release(struct journal *journal)
{
    if (journal->header)
        munmap(journal->header, journal->size);
    if (journal->fd >= 0)
        close(journal->fd);
    free(journal->path);
    free(journal);
}

enum err journal_open(const char *path, int slots, struct journal **out, struct journal_entry **left,
                      int *left_count, struct reason *why)
{
    *out = NULL;
    *left = NULL;
    *left_count = 0;
    if (slots < 1 || slots > SLOTS_MAX) {
        reason_set(why, "a slot journal has 1 to %d slots", SLOTS_MAX);
        return ERR_INVALID;
    }
    struct journal *journal = xcalloc(1, sizeof(*journal));
    journal->path = path ? xstrdup(path) : NULL;
    journal->fd = -1;
    journal->slots = slots;
    journal->size = file_size(slots);

    enum err err = OK;
    if (path)
        err = open_file(journal, why);
    if (!err && path)
        read_left(journal, left, left_count);
    if (!err && !begin_anew(journal))
        err = fail_open("write", path, why);
    if (err) {
        free(*left);
        *left = NULL;
        *left_count = 0;
        release(journal);
        return err;
    }
    *out = journal;
    return OK;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    bool idle = true;
    for (int i = 0; i < journal->slots; i++)
        idle = idle && journal->records[i].id == 0;
    if (idle && journal->path)
        unlink(journal->path);
    release(journal);
}

void journal_abandon(struct journal *journal)
{
    for (int i = 0; i < journal->slots; i++)
        journal->records[i].id = 0;
    if (journal->path)
        unlink(journal->path);
}

/* --- what the slots write ------------------------------------------------------- */

/* The order of the stores counts, not their time: whoever reads them, reads
 * them after the process is dead. */
static void in_this_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

void journal_enter(struct journal *journal, int slot, const struct turn *turn, bool alone)
{
    struct record *record = &journal->records[slot];
    record->id = 0;
    in_this_order();
    record->attempt = turn->attempt;
    record->lease = turn->lease;
    record->flags = alone ? FLAG_ALONE : 0;
    record->group = 0;
    in_this_order();
    record->id = turn->id;
    running = record;
}

/* Called in a child that shares the memory, too: system calls and stores only. */
__attribute__((no_sanitize("address", "undefined", "thread"))) void journal_child(struct journal *journal,
                                                                                  int slot, pid_t group)
{
    struct record *record = &journal->records[slot];
    record->group = 0;
    in_this_order();
    if (group == 0)
        return;
    record->group_since_ms = survivors_clock_ms();
    in_this_order();
    record->group = group;
}

void journal_leave(struct journal *journal, int slot)
{
    struct record *record = &journal->records[slot];
    running = NULL;
    record->id = 0;
    in_this_order();
    record->group = 0;
}

/* --- marks ------------------------------------------------------------------------ */

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { FATAL_COUNT = sizeof(fatal) / sizeof(fatal[0]) };

static struct sigaction before[FATAL_COUNT];

static void mark(void)
{
    if (running)
        running->flags |= FLAG_MARKED;
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
        mark();
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
    mark();
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
