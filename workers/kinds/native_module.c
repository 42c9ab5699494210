#include "workers/kinds/native_module.h"

#include "base/digest.h"
#include "base/log.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

/* What was last loaded from a path. */
struct module {
    char *path;
    void *handle;
    struct stat file;
    uint8_t digest[SHA256_BYTES];
    struct module *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows; only ever held to load */
static struct module *modules;
static int loads;

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

/* The file and its bytes; false if it cannot be read, which the loader then says. */
static bool read_file(const char *path, struct stat *file, struct buf *bytes)
{
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, file) == 0 && S_ISREG(file->st_mode)) {
        do {
            buf_reserve(bytes, 1 << 16);
            n = read(fd, bytes->data + bytes->len, bytes->cap - bytes->len);
            bytes->len += n > 0 ? (size_t)n : 0;
        } while (n > 0 || (n < 0 && errno == EINTR));
    }
    if (fd >= 0)
        close(fd);
    return n == 0;
}

static bool write_all(int fd, struct span bytes)
{
    while (bytes.len) {
        ssize_t n = write(fd, bytes.p, bytes.len);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            bytes = (struct span){bytes.p + n, bytes.len - (size_t)n};
    }
    return true;
}

/* So many slashes as objects were loaded make a name that none had: the numbers
 * of descriptors come again. */
static void *load_as(const char *folder, const char *name)
{
    struct buf text = {0};
    buf_adds(&text, folder);
    for (int i = 0; i <= loads; i++)
        buf_addc(&text, '/');
    buf_adds(&text, name);
    void *handle = dlopen(buf_cstr(&text), RTLD_NOW | RTLD_LOCAL);
    buf_release(&text);
    return handle;
}

static void *load_from_memory(const char *name, struct span bytes)
{
    char digits[16];
    void *handle = NULL;
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd >= 0 && write_all(fd, bytes)) {
        struct buf number = {digits, 0, sizeof digits}; /* an int never makes it grow */
        buf_add_int(&number, fd);
        buf_addc(&number, '\0');
        handle = load_as("/proc/self/fd", digits);
    }
    if (fd >= 0)
        close(fd);
    return handle;
}

static void *load(const char *path, struct span bytes)
{
    const char *slash = strrchr(path, '/'); /* it is absolute */
    char *folder = span_dup((struct span){path, (size_t)(slash - path)});
    void *handle = load_from_memory(slash + 1, bytes);
    if (!handle)
        handle = loads ? load_as(folder, slash + 1) : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    loads++;
    free(folder);
    return handle;
}

static struct module *find(const char *path)
{
    struct module *module;
    LL_FOREACH (modules, module)
        if (strcmp(module->path, path) == 0)
            return module;
    module = xcalloc(1, sizeof *module);
    module->path = xstrdup(path);
    LL_PREPEND(modules, module);
    return module;
}

/* Loads what is there now, unless it is what was loaded last. */
static void *load_anew(struct module *module, const char **fault)
{
    struct buf bytes = {0};
    struct stat file = {0};
    uint8_t digest[SHA256_BYTES] = {0};
    void *handle = module->handle;
    bool read = read_file(module->path, &file, &bytes);
    if (read)
        sha256(buf_span(&bytes), digest);
    if (!handle || !read || memcmp(digest, module->digest, sizeof digest) != 0) {
        handle = load(module->path, buf_span(&bytes));
        if (!handle)
            *fault = dlerror();
        else if (module->handle)
            log_info("a module has changed, and is loaded anew", LOG_STR("module", module->path));
    }
    buf_release(&bytes);
    if (!handle)
        return NULL;
    module->handle = handle;
    module->file = file;
    memcpy(module->digest, digest, sizeof digest);
    return handle;
}

void *native_module_load(const char *path, const char **fault)
{
    struct stat now;
    pthread_mutex_lock(&lock);
    struct module *module = find(path);
    void *handle = module->handle;
    if (!handle || stat(path, &now) != 0 || !same_file(&now, &module->file))
        handle = load_anew(module, fault);
    pthread_mutex_unlock(&lock);
    return handle;
}
