#include "workers/cgroup.h"

#include "base/buf.h"
#include "base/digest.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct cgroup {
    char *path;
    char *folder, *parent; /* where they are mounted */
};

/* --- where it is --------------------------------------------------------------------- */

/* What `take` makes of the first line that it makes anything of; NULL: of none. */
static char *first_of(const char *file, char *(*take)(char *line, const char *context), const char *context)
{
    FILE *lines = fopen(file, "re");
    char *line = NULL, *taken = NULL;
    size_t cap = 0;
    while (lines && !taken && getline(&line, &cap, lines) > 0)
        taken = take(line, context);
    free(line);
    if (lines)
        fclose(lines);
    return taken;
}

/* Of version 2: the line without controllers. */
static char *take_path(char *line, const char *unused)
{
    (void)unused;
    if (strncmp(line, "0::/", 4) != 0)
        return NULL;
    line[strcspn(line, "\n")] = '\0';
    return xstrdup(line + 3);
}

static char *path_of(pid_t pid)
{
    char file[64];
    snprintf(file, sizeof file, "/proc/%d/cgroup", (int)pid);
    return first_of(file, take_path, NULL);
}

/* A blank is \040 in /proc/self/mountinfo. */
static void unescape(char *text)
{
    char *to = text;
    unsigned byte;
    while (*text) {
        bool escaped = *text == '\\' && sscanf(text + 1, "%3o", &byte) == 1;
        *to++ = escaped ? (char)byte : *text;
        text += escaped ? 4 : 1;
    }
    *to = '\0';
}

/* Where the mount of this line has the cgroup: its fourth field is the cgroup
 * that is mounted, the fifth is where. */
static char *take_folder(char *line, const char *path)
{
    char top[PATH_MAX], at[PATH_MAX];
    if (!strstr(line, " - cgroup2 ") || sscanf(line, "%*s %*s %*s %4095s %4095s", top, at) != 2)
        return NULL;
    unescape(top);
    unescape(at);
    size_t above = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(path, top, above) != 0 || (path[above] != '/' && path[above] != '\0'))
        return NULL;
    struct buf folder = {0};
    buf_addf(&folder, "%s%s", at, path + above);
    return buf_take(&folder);
}

static char *folder_of(const char *path)
{
    return first_of("/proc/self/mountinfo", take_folder, path);
}

/* --- names -------------------------------------------------------------------------- */

/* Who made the cgroup of that name; 0: no server. */
static pid_t maker_of(const char *name)
{
    int pid, length = 0;
    if (sscanf(name, "errand-%9d-%*16[0-9a-f]%n", &pid, &length) != 1 || pid <= 0 ||
        (size_t)length != strlen(name))
        return 0;
    return pid;
}

bool cgroup_is_path(const char *bytes)
{
    if (!memchr(bytes, '\0', CGROUP_PATH_BYTES) || bytes[0] != '/' || strstr(bytes, "/../"))
        return false;
    return maker_of(strrchr(bytes, '/') + 1) > 0;
}

static char *new_path(const char *parent)
{
    struct buf path = {0};
    uint64_t unique;
    random_bytes(&unique, sizeof unique);
    buf_addf(&path, "%s/errand-%d-%016" PRIx64, strcmp(parent, "/") == 0 ? "" : parent, (int)getpid(), unique);
    return buf_take(&path);
}

/* --- in and out ---------------------------------------------------------------------- */

/* 0 or an errno. */
static int move_to(const char *folder)
{
    struct buf file = {0};
    buf_addf(&file, "%s/cgroup.procs", folder);
    int fd = open(buf_cstr(&file), O_WRONLY | O_CLOEXEC);
    int error = fd < 0 || write(fd, "0", 1) != 1 ? errno : 0; /* 0: who writes, with all its threads */
    if (fd >= 0)
        close(fd);
    buf_release(&file);
    return error;
}

/* One that is not empty stays. This process has made none yet: who had its pid is
 * gone, too. */
static void remove_stale(const char *parent)
{
    DIR *folder = opendir(parent);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        pid_t maker = maker_of(entry->d_name);
        if (maker && (maker == getpid() || (kill(maker, 0) != 0 && errno == ESRCH)))
            unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
    }
    if (folder)
        closedir(folder);
}

static bool is_service_of_systemd(void)
{
    const char *pid = getenv("SYSTEMD_EXEC_PID");
    return pid && strtol(pid, NULL, 10) == getpid();
}

static void free_cgroup(struct cgroup *cgroup)
{
    free(cgroup->path);
    free(cgroup->folder);
    free(cgroup->parent);
    free(cgroup);
}

static struct cgroup *skip(const char *why)
{
    log_debug("no cgroup of its own", LOG_STR("reason", why));
    return NULL;
}

/* NULL: it is not to be had. */
static struct cgroup *below(const char *parent)
{
    struct cgroup *cgroup = xcalloc(1, sizeof *cgroup);
    cgroup->path = new_path(parent);
    cgroup->folder = folder_of(cgroup->path);
    cgroup->parent = folder_of(parent);
    if (cgroup_is_path(cgroup->path) && cgroup->folder && cgroup->parent)
        return cgroup;
    free_cgroup(cgroup);
    return NULL;
}

struct cgroup *cgroup_enter(void)
{
    if (is_service_of_systemd())
        return skip("systemd has made one");
    char *parent = path_of(getpid());
    struct cgroup *cgroup = parent ? below(parent) : NULL;
    free(parent);
    if (!cgroup)
        return skip("no cgroup2 is mounted that has this process");
    remove_stale(cgroup->parent);
    int error = mkdir(cgroup->folder, 0755) == 0 ? move_to(cgroup->folder) : errno;
    if (error) {
        rmdir(cgroup->folder);
        free_cgroup(cgroup);
        return skip(strerrordesc_np(error));
    }
    log_debug("a cgroup of its own", LOG_STR("path", cgroup->path));
    return cgroup;
}

const char *cgroup_path(const struct cgroup *cgroup)
{
    return cgroup->path;
}

void cgroup_leave(struct cgroup *cgroup)
{
    if (!cgroup)
        return;
    int error = move_to(cgroup->parent);
    if (!error && rmdir(cgroup->folder) != 0)
        error = errno;
    if (error)
        log_debug("its cgroup stays", LOG_STR("path", cgroup->path), LOG_STR("error", strerrordesc_np(error)));
    free_cgroup(cgroup);
}

/* --- of an earlier process ------------------------------------------------------------- */

bool cgroup_has(const char *path, pid_t pid)
{
    char *its = path_of(pid);
    size_t n = strlen(path);
    bool has = its && strncmp(its, path, n) == 0 && (its[n] == '\0' || its[n] == '/');
    free(its);
    return has;
}

void cgroup_remove(const char *path)
{
    char *folder = folder_of(path);
    if (folder)
        rmdir(folder);
    free(folder);
}
