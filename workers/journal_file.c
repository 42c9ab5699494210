#include "workers/journal_file.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "ERRNDJNL";

void journal_file_begin(struct journal_file_start *start, size_t page_bytes)
{
    struct journal_file_header *header = &start->header;
    memset(start, 0, sizeof(*start));
    memcpy(header->magic, magic, sizeof(magic));
    header->version = JOURNAL_FILE_VERSION;
    header->page_bytes = (int32_t)page_bytes;
    if (!survivors_boot_id(header->boot_id))
        memset(header->boot_id, 0, BOOT_ID_BYTES);
}

/* --- what is found in it ---------------------------------------------------------- */

struct found {
    struct journal_entry entry;
    pid_t group;
    int64_t group_since_ms;
};

struct reading {
    const char *bytes;
    size_t size;
    const char *cgroup; /* NULL: none is known */
    struct found *found;
    int count, cap;
};

static bool add(struct reading *reading, const struct found *found)
{
    const struct journal_entry *entry = &found->entry;
    if (entry->id <= 0 || entry->attempt <= 0 || found->group < 0) {
        log_warn("a record of the turn journal is damaged and left out");
        return false;
    }
    if (reading->count == reading->cap) {
        reading->cap = reading->cap ? reading->cap * 2 : 64;
        reading->found = xrealloc(reading->found, (size_t)reading->cap * sizeof(*reading->found));
    }
    reading->found[reading->count++] = *found;
    return true;
}

/* --- version 2 ---------------------------------------------------------------------- */

/* The log's last bytes, and how many there were before them. */
static void read_log(const struct reading *reading, size_t page_bytes, int64_t number, struct buf *out)
{
    if (number < 1 || number >= (int64_t)(reading->size / page_bytes))
        return;
    const struct journal_file_log *log = (const void *)(reading->bytes + (size_t)number * page_bytes);
    int64_t total = log->total, room = (int64_t)(page_bytes - sizeof(*log));
    if (log->kind != JOURNAL_FILE_LOG || total <= 0)
        return;
    size_t at = total > room ? (size_t)(total % room) : 0;
    if (total > room) {
        buf_addf(out, "[errand: the %" PRId64 " bytes before this were lost in the crash]\n", total - room);
        buf_add(out, log->bytes + at, (size_t)room - at);
        buf_add(out, log->bytes, at);
    } else {
        buf_add(out, log->bytes, (size_t)total);
    }
}

static void add_record(struct reading *reading, size_t page_bytes, const struct journal_file_record *record)
{
    bool marked = record->marked == record->lease;
    bool sane = record->lease && !(record->flags & ~(JOURNAL_FILE_ALONE | JOURNAL_FILE_REFUSED)) &&
                record->signal >= 0 && record->signal < NSIG;
    if (!add(reading, &(struct found){
                          .entry = {.id = sane ? record->id : -1,
                                    .lease = record->lease,
                                    .started_at = record->started_at,
                                    .attempt = record->attempt,
                                    .signal = marked ? record->signal : 0,
                                    .marked = marked,
                                    .refused = record->flags & JOURNAL_FILE_REFUSED},
                          .group = record->group,
                          .group_since_ms = record->group_since_ms,
                      }))
        return;
    read_log(reading, page_bytes, record->log, &reading->found[reading->count - 1].entry.log);
}

/* It becomes part of a path here: only one that a server may have written is taken. */
static const char *read_cgroup(const struct reading *reading)
{
    const char *path = ((const struct journal_file_start *)reading->bytes)->cgroup;
    if (!*path || cgroup_is_path(path))
        return *path ? path : NULL;
    log_warn("the cgroup in the turn journal is damaged and left out");
    return NULL;
}

/* A page that was being added when the disk was full may be there in part. */
static bool read_pages(struct reading *reading)
{
    size_t page_bytes = (size_t)((const struct journal_file_header *)reading->bytes)->page_bytes;
    if (page_bytes < 4096 || page_bytes % 4096 != 0 || page_bytes > reading->size)
        return false;
    reading->cgroup = read_cgroup(reading);
    for (size_t page = page_bytes; page + page_bytes <= reading->size; page += page_bytes) {
        const struct journal_file_record *records = (const struct journal_file_record *)(reading->bytes + page);
        if (records->id == JOURNAL_FILE_LOG)
            continue;
        for (size_t i = 0; i < page_bytes / sizeof(*records); i++)
            if (records[i].id)
                add_record(reading, page_bytes, &records[i]);
    }
    return true;
}

/* --- version 1 ---------------------------------------------------------------------- */

enum { SLOTS_MAX_1 = 4096, MARKED_1 = 1, ALONE_1 = 2 };

struct header_1 {
    char magic[8];
    int32_t version;
    int32_t slots;
    char boot_id[BOOT_ID_BYTES];
    char unused[64 - 16 - BOOT_ID_BYTES];
};

struct record_1 {
    int64_t id;
    int32_t attempt;
    int32_t flags;
    int64_t group_since_ms;
    int32_t group;
    int32_t unused;
    int64_t lease; /* 0 in a file from before there were leases */
    int32_t unused_too[6];
};

_Static_assert(sizeof(struct header_1) == 64 && sizeof(struct record_1) == 64, "the layout of version 1");
_Static_assert(offsetof(struct header_1, boot_id) == offsetof(struct journal_file_header, boot_id),
               "the boot id has its place in every version");

static void add_record_1(struct reading *reading, const struct record_1 *record)
{
    bool sane = !(record->flags & ~(MARKED_1 | ALONE_1));
    add(reading, &(struct found){
                     .entry = {.id = sane ? record->id : -1,
                               .lease = record->lease,
                               .attempt = record->attempt,
                               .signal = record->flags & MARKED_1 ? -1 : 0,
                               .marked = record->flags & MARKED_1},
                     .group = record->group,
                     .group_since_ms = record->group_since_ms,
                 });
}

static bool read_slots(struct reading *reading)
{
    const struct header_1 *header = (const struct header_1 *)reading->bytes;
    const struct record_1 *records = (const struct record_1 *)(reading->bytes + sizeof(*header));
    if (header->slots < 1 || header->slots > SLOTS_MAX_1 ||
        reading->size != sizeof(*header) + (size_t)header->slots * sizeof(*records))
        return false;
    for (int i = 0; i < header->slots; i++)
        if (records[i].id)
            add_record_1(reading, &records[i]);
    return true;
}

/* --- all of it ------------------------------------------------------------------------ */

static bool read_contents(struct reading *reading)
{
    const struct journal_file_header *header = (const struct journal_file_header *)reading->bytes;
    if (reading->size < sizeof(*header) || memcmp(header->magic, magic, sizeof(magic)) != 0)
        return false;
    switch (header->version) {
    case 1: return read_slots(reading);
    case JOURNAL_FILE_VERSION: return read_pages(reading);
    default: return false;
    }
}

static void kill_survivors(const struct reading *reading)
{
    char boot_id[BOOT_ID_BYTES];
    const struct journal_file_header *header = (const struct journal_file_header *)reading->bytes;
    if (!survivors_boot_id(boot_id) || memcmp(boot_id, header->boot_id, BOOT_ID_BYTES) != 0)
        return; /* the machine was started since: none is left */
    struct survivor *wanted = xcalloc((size_t)reading->count + 1, sizeof(*wanted));
    int count = 0;
    for (int i = 0; i < reading->count; i++) {
        const struct found *found = &reading->found[i];
        if (found->group > 1)
            wanted[count++] = (struct survivor){found->group, found->entry.id, found->group_since_ms};
    }
    if (count > 0)
        survivors_kill(wanted, count, reading->cgroup);
    if (reading->cgroup)
        cgroup_remove(reading->cgroup);
    free(wanted);
}

static void give_entries(const struct reading *reading, struct journal_left *left)
{
    left->entries = xcalloc((size_t)reading->count + 1, sizeof(*left->entries));
    for (int i = 0; i < reading->count; i++)
        left->entries[left->count++] = reading->found[i].entry;
}

/* What cannot be read is cut short. */
static size_t read_all(int fd, char *bytes, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = pread(fd, bytes + got, size - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    return got;
}

void journal_file_read(int fd, const char *path, struct journal_left *left)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size == 0)
        return;
    size_t size = st.st_size < JOURNAL_FILE_BYTES_MAX ? (size_t)st.st_size : JOURNAL_FILE_BYTES_MAX;
    char *bytes = xmalloc(size);
    struct reading reading = {.bytes = bytes, .size = read_all(fd, bytes, size)};
    if (read_contents(&reading)) {
        kill_survivors(&reading);
        give_entries(&reading, left);
    } else {
        log_warn("the turn journal is damaged or of another kind and counts as empty", LOG_STR("path", path));
    }
    free(reading.found);
    free(bytes);
}
