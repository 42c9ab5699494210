#include "server/config/config.h"
#include "server/config/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 4 << 20 };

/* What the file, the variables and the flags are gathered into. */
struct loading {
    struct config *config;
    struct yaml *doc; /* NULL if there is no file, or it cannot be read */
    struct config_origin listen, store;
    struct faults *faults;
};

/* ---- the file ---- */

static int line_of(const struct loading *l, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(yaml_root(l->doc), key);
    return item ? yaml_line(l->doc, item) : 0;
}

static void read_text(struct loading *l, struct span text)
{
    l->doc = yaml_parse(text, l->faults);
    if (!l->doc)
        return;
    const cJSON *root = yaml_root(l->doc);
    struct keys_input in = {l->doc, l->config->folder, l->faults};
    keys_read(&in, root, "", &(struct key_section){.keys = config_keys, .target = l->config}, 1);
    if (!cJSON_IsObject(root))
        return;
    l->listen.line = line_of(l, "listen");
    l->store.line = line_of(l, "store");
}

static void read_tasks(struct loading *l)
{
    const cJSON *root = l->doc ? yaml_root(l->doc) : NULL;
    l->config->registry = registry_parse(kinds,
                                         &(struct registry_source){
                                             .doc = l->doc,
                                             .tasks = cJSON_GetObjectItemCaseSensitive(root, "tasks"),
                                             .pools = cJSON_GetObjectItemCaseSensitive(root, "pools"),
                                             .defaults = cJSON_GetObjectItemCaseSensitive(root, "defaults"),
                                             .callbacks = cJSON_GetObjectItemCaseSensitive(root, "callbacks"),
                                             .folder = l->config->folder,
                                         },
                                         l->faults);
    if (l->config->registry)
        config_settle_log(l->config);
}

/* They name tasks: if those have faults, what is said of these would be wrong. */
static void read_schedules(struct loading *l)
{
    const cJSON *root = l->doc ? yaml_root(l->doc) : NULL;
    if (l->config->registry)
        l->config->schedules = schedule_list_parse(l->doc, cJSON_GetObjectItemCaseSensitive(root, "schedules"),
                                                   l->config->registry, l->faults);
}

/* The whole file, or false with errno set. Stops a little past the size that
 * yaml_parse() refuses, so that it is refused and not cut. */
static bool read_file(const char *path, struct buf *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n;
    do {
        buf_reserve(text, 65536);
        n = read(fd, text->data + text->len, 65536);
        if (n > 0)
            text->len += (size_t)n;
    } while ((n > 0 && text->len <= FILE_MAX_BYTES) || (n < 0 && errno == EINTR));
    int error = errno;
    close(fd);
    errno = error;
    return n >= 0;
}

/* ---- flags and variables ---- */

/* What a flag and its variable may set, in place of which key. */
static const struct {
    const char *flag, *variable;
    const char *parent, *key; /* the parent is NULL for a key of the top */
    size_t offset;            /* in struct config_flags */
} overrides[] = {
    {"--listen", "ERRAND_LISTEN", NULL, "listen", offsetof(struct config_flags, listen)},
    {"--store", "ERRAND_STORE", NULL, "store", offsetof(struct config_flags, store)},
    {"--slots", "ERRAND_SLOTS", NULL, "slots", offsetof(struct config_flags, slots)},
    {"--log-level", "ERRAND_LOG_LEVEL", "log", "level", offsetof(struct config_flags, log_level)},
    {"--log-format", "ERRAND_LOG_FORMAT", "log", "format", offsetof(struct config_flags, log_format)},
    {"--log-directory", "ERRAND_LOG_DIRECTORY", "log", "directory", offsetof(struct config_flags, log_directory)},
};

/* A variable that is empty is one that is not set. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static void override(struct loading *l, const struct key *key, const char *text, const char *pointer,
                     const char *cwd)
{
    struct reason why = {""};
    if (!text)
        return;
    if (!keys_set_text(key, span_of(text), cwd, l->config, &why))
        faults_add(l->faults, 0, pointer, "%s", why.text);
    else if (strcmp(key->name, "listen") == 0)
        l->listen = (struct config_origin){pointer, 0};
    else if (strcmp(key->name, "store") == 0)
        l->store = (struct config_origin){pointer, 0};
}

/* Their relative paths start at the working directory, as a shell's do. */
static void read_overrides(struct loading *l, const struct config_flags *flags, const char *cwd)
{
    for (size_t i = 0; i < sizeof(overrides) / sizeof(overrides[0]); i++) {
        const struct key *keys = config_keys;
        if (overrides[i].parent)
            keys = keys_find(keys, overrides[i].parent)->members;
        const struct key *key = keys_find(keys, overrides[i].key);
        const char *flag = *(const char *const *)((const char *)flags + overrides[i].offset);
        override(l, key, variable(overrides[i].variable), overrides[i].variable, cwd);
        override(l, key, flag, overrides[i].flag, cwd);
    }
    l->config->insecure = flags->insecure;
}

/* ---- the whole ---- */

static void begin(struct loading *l, struct faults *faults, char *folder)
{
    *l = (struct loading){
        .config = xcalloc(1, sizeof(*l->config)),
        .listen = {"/listen", 0},
        .store = {"/store", 0},
        .faults = faults,
    };
    l->config->folder = folder;
    config_set_defaults(l->config);
}

static struct config *finish(struct loading *l, int faults_before)
{
    read_tasks(l);
    read_schedules(l);
    config_check(l->config, l->listen, l->store, l->faults);
    yaml_free(l->doc);
    if (l->faults->total == faults_before)
        return l->config;
    config_free(l->config);
    return NULL;
}

static char *absolute(const char *path, const char *cwd)
{
    struct buf whole = {0};
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    if (path[0] != '/')
        buf_addf(&whole, "%s/", strcmp(cwd, "/") == 0 ? "" : cwd);
    buf_adds(&whole, path);
    return buf_take(&whole);
}

static char *folder_of(const char *file)
{
    size_t n = (size_t)(strrchr(file, '/') - file);
    return span_dup((struct span){file, n ? n : 1});
}

/* The file's text, and where it is: nothing if there is no ./errand.yaml and
 * none was asked for. */
static void find_file(const struct config_flags *flags, const char *cwd, struct buf *text, char **file,
                      struct faults *faults)
{
    const char *asked = flags->config ? flags->config : variable("ERRAND_CONFIG");
    const char *pointer = flags->config ? "--config" : asked ? "ERRAND_CONFIG" : "";
    *file = absolute(asked ? asked : "errand.yaml", cwd);
    if (read_file(*file, text))
        return;
    if (asked || errno != ENOENT) {
        faults_add(faults, 0, pointer, "cannot read %s: %s", *file, strerror(errno));
        return;
    }
    free(*file);
    *file = NULL;
}

struct config *config_load(const struct config_flags *flags, struct faults *faults)
{
    int before = faults->total;
    struct loading l;
    struct buf text = {0};
    char *file = NULL;
    char *cwd = getcwd(NULL, 0);

    if (!cwd) {
        faults_add(faults, 0, "", "the working directory is gone: %s", strerror(errno));
        return NULL;
    }
    find_file(flags, cwd, &text, &file, faults);
    begin(&l, faults, file ? folder_of(file) : xstrdup(cwd));
    l.config->file = file;
    if (file && faults->total == before)
        read_text(&l, buf_span(&text));
    read_overrides(&l, flags, cwd);
    buf_release(&text);
    free(cwd);
    return finish(&l, before);
}

struct config *config_parse(struct span text, const char *folder, struct faults *faults)
{
    int before = faults->total;
    struct loading l;
    begin(&l, faults, xstrdup(folder));
    read_text(&l, text);
    return finish(&l, before);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    registry_unref(config->registry);
    schedule_list_unref(config->schedules);
    config_release_keys(config);
    free(config->file);
    free(config->folder);
    free(config);
}

struct config *config_ref(struct config *config)
{
    config->references++;
    return config;
}

void config_unref(struct config *config)
{
    if (config && config->references-- == 0) /* 0 stands for the loader's own */
        config_free(config);
}
