/* The server's processes and the answers; http_client.c is the client. */
#include "tests/e2e/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SERVERS_MAX = 8 };

static struct server *servers[SERVERS_MAX];
static int server_count;
static bool failed;

/* ---- small things ---- */

int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void breathe(void)
{
    nanosleep(&(struct timespec){0, 5000000}, NULL);
}

void fail_at(const char *file, int line, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    char *why = NULL;
    if (vasprintf(&why, text, args) < 0)
        abort();
    va_end(args);
    failed = true;
    fprintf(stderr, "%s:%d: %s\n", file, line, why);
    for (int i = 0; i < server_count; i++) {
        char *log = server_log(servers[i]);
        size_t n = strlen(log);
        fprintf(stderr, "--- the log of the server in %s%s ends:\n%s\n---\n", servers[i]->folder,
                servers[i]->pid ? "" : " (it has ended)", n > 3000 ? log + n - 3000 : log);
    }
    cr_assert(false, "%s:%d: %s", file, line, why);
    abort();
}

void require_failed(const char *file, int line, const char *condition, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    char *why = NULL;
    if (vasprintf(&why, text, args) < 0)
        abort();
    va_end(args);
    fail_at(file, line, "not so: %s.%s", condition, why);
}

char *format(const char *text, ...)
{
    va_list args;
    char *out = NULL;
    va_start(args, text);
    if (vasprintf(&out, text, args) < 0)
        abort();
    va_end(args);
    return out;
}

char *quoted(const char *text)
{
    char *out = strdup(text);
    for (char *p = out; *p; p++)
        if (*p == '\'')
            *p = '"';
    return out;
}

bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

char *read_whole(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return strdup("");
    char *text = NULL;
    size_t length = 0, got;
    char piece[65536];
    FILE *out = open_memstream(&text, &length);
    while ((got = fread(piece, 1, sizeof(piece), file)) > 0)
        fwrite(piece, 1, got, out);
    fclose(file);
    fclose(out);
    return text;
}

void write_whole(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    REQUIRE(file, "cannot write %s: %s", path, strerror(errno));
    fputs(text, file);
    REQUIRE(fclose(file) == 0, "cannot write %s: %s", path, strerror(errno));
}

void touch(const char *path)
{
    write_whole(path, "");
}

char *file_in(const struct server *server, const char *name)
{
    return format("%s/%s", server->folder, name);
}

/* ---- programs ---- */

const char *errand_binary(void)
{
    static char path[4096];
    const char *name = getenv("ERRAND_BIN");
    if (!realpath(name && *name ? name : "build/errand", path))
        fail_at(__FILE__, __LINE__, "there is no program %s", name ? name : "build/errand");
    return path;
}

static void pump(int from, FILE *to, bool *open)
{
    char piece[65536];
    ssize_t got = read(from, piece, sizeof(piece));
    if (got > 0)
        fwrite(piece, 1, (size_t)got, to);
    else if (got == 0 || errno != EINTR)
        *open = false;
}

int run(const char *folder, const char *const *argv, const char *input, char **out, char **err)
{
    int in_pipe[2], out_pipe[2], err_pipe[2];
    if (pipe2(in_pipe, O_CLOEXEC) || pipe2(out_pipe, O_CLOEXEC) || pipe2(err_pipe, O_CLOEXEC))
        fail_at(__FILE__, __LINE__, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in_pipe[0], 0);
        dup2(out_pipe[1], 1);
        dup2(err_pipe[1], 2);
        if (folder && chdir(folder) != 0)
            _exit(126);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(in_pipe[0]), close(out_pipe[1]), close(err_pipe[1]);
    signal(SIGPIPE, SIG_IGN);
    if (input && write(in_pipe[1], input, strlen(input)) < 0 && errno != EPIPE)
        fail_at(__FILE__, __LINE__, "write: %s", strerror(errno));
    close(in_pipe[1]);
    char *texts[2] = {NULL, NULL};
    size_t lengths[2];
    FILE *files[2] = {open_memstream(&texts[0], &lengths[0]), open_memstream(&texts[1], &lengths[1])};
    int fds[2] = {out_pipe[0], err_pipe[0]};
    bool open[2] = {true, true};
    int64_t deadline = now_ms() + 2 * PATIENCE_MS;
    while (open[0] || open[1]) {
        struct pollfd polls[2] = {{open[0] ? fds[0] : -1, POLLIN, 0}, {open[1] ? fds[1] : -1, POLLIN, 0}};
        if (now_ms() > deadline) {
            kill(pid, SIGKILL);
            fail_at(__FILE__, __LINE__, "%s %s does not end", argv[0], argv[1] ? argv[1] : "");
        }
        poll(polls, 2, 100);
        for (int i = 0; i < 2; i++)
            if (polls[i].revents)
                pump(fds[i], files[i], &open[i]);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    for (int i = 0; i < 2; i++) {
        fclose(files[i]);
        close(fds[i]);
    }
    if (out)
        *out = texts[0];
    if (err)
        *err = texts[1];
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Compiled on first use, under a name of its own, and renamed: tests that run
 * side by side do not see half a file. */
char *native(const char *name)
{
    char *source = format("tests/e2e/native/%s.c", name);
    char *target = format("build/tests/%s.so", name);
    struct stat made = {0}, from = {0}, headed = {0};
    REQUIRE(stat(source, &from) == 0, "there is no %s here: run the tests from the repository", source);
    if (stat("workers/sdk/errand_task.h", &headed) == 0 && headed.st_mtime > from.st_mtime)
        from = headed;
    if (stat(target, &made) != 0 || made.st_mtime < from.st_mtime) {
        mkdir("build", 0777);
        mkdir("build/tests", 0777);
        char *raw = format("build/tests/%s-%d.so", name, (int)getpid());
        const char *cc = getenv("CC");
        const char *argv[] = {cc && *cc ? cc : "cc",
                              "-Iworkers/sdk",
                              "-O1",
                              "-g",
                              "-Wall",
                              "-D_GNU_SOURCE",
                              "-shared",
                              "-fPIC",
                              "-o",
                              raw,
                              source,
                              "-ldl",
                              NULL};
        char *err;
        REQUIRE(run(NULL, argv, NULL, NULL, &err) == 0, "%s does not compile: %s", source, err);
        REQUIRE(rename(raw, target) == 0, "rename");
    }
    return realpath(target, NULL);
}

/* ---- the server ---- */

char *replaced(const char *text, const char *what, const char *with)
{
    char *out = NULL;
    size_t length;
    FILE *file = open_memstream(&out, &length);
    for (const char *at; (at = strstr(text, what)); text = at + strlen(what))
        fprintf(file, "%.*s%s", (int)(at - text), text, with);
    fputs(text, file);
    fclose(file);
    return out;
}

void configure(struct server *server, const char *config)
{
    char *text = replaced(config, "$FOLDER", server->folder);
    if (strstr(text, "$NATIVE"))
        text = replaced(text, "$NATIVE", native("tasks"));
    if (!strstr(text, "listen:"))
        text = format("%s\nlisten: 127.0.0.1:0\n", text);
    write_whole(file_in(server, "errand.yaml"), text);
}

struct server *prepare(const char *config)
{
    const char *base = getenv("TMPDIR");
    struct server *server = calloc(1, sizeof(*server));
    REQUIRE(server_count < SERVERS_MAX);
    server->folder = format("%s/errand-e2e-XXXXXX", base && *base ? base : "/tmp");
    REQUIRE(mkdtemp(server->folder), "mkdtemp: %s", strerror(errno));
    server->host = "127.0.0.1";
    server->out = -1;
    servers[server_count++] = server;
    configure(server, config);
    return server;
}

struct server *serve_with(const char *config, const char *const *arguments, const char *const *variables)
{
    struct server *server = prepare(config);
    server->arguments = arguments;
    server->variables = variables;
    start(server);
    return server;
}

struct server *serve(const char *config)
{
    return serve_with(config, NULL, NULL);
}

static void become_server(struct server *server, const char *binary, int out)
{
    const char *argv[64] = {binary, "serve", "--config", "errand.yaml"};
    int count = 4;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int log = open(file_in(server, "stderr"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    int nothing = open("/dev/null", O_RDONLY);
    if (chdir(server->folder) != 0)
        _exit(126);
    dup2(nothing, 0);
    dup2(out, 1);
    dup2(log, 2);
    for (int i = 0; server->arguments && server->arguments[i] && count < 63; i++)
        argv[count++] = server->arguments[i];
    for (int i = 0; server->variables && server->variables[i]; i++)
        putenv((char *)server->variables[i]);
    signal(SIGPIPE, SIG_DFL);
    execv(binary, (char *const *)argv);
    _exit(127);
}

/* Reads the line `listening on http://ADDRESS:PORT`. */
static bool read_port(struct server *server)
{
    char line[256] = {0};
    size_t length = 0;
    int64_t deadline = now_ms() + PATIENCE_MS;
    while (!memchr(line, '\n', length) && length < sizeof(line) - 1) {
        struct pollfd p = {server->out, POLLIN, 0};
        REQUIRE(now_ms() < deadline, "the server does not say that it listens");
        if (poll(&p, 1, 100) <= 0)
            continue;
        ssize_t got = read(server->out, line + length, sizeof(line) - 1 - length);
        if (got <= 0)
            return false;
        length += (size_t)got;
    }
    const char *start_of = strstr(line, "listening on http");
    const char *colon = strrchr(line, ':');
    REQUIRE(start_of && colon, "it said `%s` and not where it listens", line);
    server->port = atoi(colon + 1);
    REQUIRE(server->port > 0, "it said `%s`", line);
    return true;
}

bool try_start(struct server *server)
{
    const char *binary = errand_binary();
    int out[2];
    REQUIRE(server->pid == 0, "it runs already");
    REQUIRE(pipe2(out, O_CLOEXEC) == 0);
    server->pid = fork();
    REQUIRE(server->pid >= 0, "fork: %s", strerror(errno));
    if (server->pid == 0)
        become_server(server, binary, out[1]);
    close(out[1]);
    if (server->out >= 0)
        close(server->out);
    server->out = out[0];
    return read_port(server);
}

void start(struct server *server)
{
    if (!try_start(server)) {
        int status = await_exit(server);
        fail_at(__FILE__, __LINE__, "the server did not start (exit status %d)", status);
    }
}

void send_signal(struct server *server, int signal)
{
    REQUIRE(server->pid > 0, "it does not run");
    REQUIRE(kill(server->pid, signal) == 0, "kill: %s", strerror(errno));
}

int await_exit(struct server *server)
{
    int status = 0;
    pid_t pid;
    REQUIRE(server->pid > 0, "it does not run");
    WAIT_UNTIL((pid = waitpid(server->pid, &status, WNOHANG)) != 0);
    REQUIRE(pid == server->pid, "waitpid: %s", strerror(errno));
    server->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int terminate(struct server *server)
{
    send_signal(server, SIGTERM);
    return await_exit(server);
}

void kill_hard(struct server *server)
{
    send_signal(server, SIGKILL);
    await_exit(server);
}

void restart(struct server *server)
{
    kill_hard(server);
    start(server);
}

char *server_log(struct server *server)
{
    return read_whole(file_in(server, "stderr"));
}

int64_t processor_ms(struct server *server)
{
    unsigned long user = 0, kernel = 0;
    char *stat = read_whole(format("/proc/%d/stat", (int)server->pid));
    const char *after = strrchr(stat, ')');
    REQUIRE(after &&
                sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) == 2,
            "/proc/PID/stat: %s", stat);
    return (int64_t)(user + kernel) * 1000 / sysconf(_SC_CLK_TCK);
}

bool is_alive(pid_t pid)
{
    char *stat = read_whole(format("/proc/%d/stat", (int)pid));
    const char *after = strrchr(stat, ')');
    return after && after[2] != 'Z' && after[2] != 'X';
}

int64_t resident_kb(struct server *server)
{
    const char *at = strstr(read_whole(format("/proc/%d/status", (int)server->pid)), "VmRSS:");
    return at ? atoll(at + 6) : 0;
}

bool is_plain(void)
{
    const char *variant = getenv("ERRAND_VARIANT");
    return !variant || !*variant;
}

void require_growth(const char *file, int line, int64_t limit_kb, int64_t before_kb, int64_t now_kb)
{
    if (is_plain() && now_kb >= before_kb + limit_kb)
        fail_at(file, line, "memory grew from %lld to %lld kB, more than %lld", (long long)before_kb,
                (long long)now_kb, (long long)limit_kb);
}

/* ---- commits that are held ---- */

void prepare_to_hold_commits(struct server *server)
{
    if (!is_plain())
        cr_skip_test("a sanitizer wants to be loaded first");
    const char **variables = calloc(5, sizeof(*variables));
    variables[0] = format("LD_PRELOAD=%s", native("slow_commits"));
    variables[1] = format("SLOW_HOLD=%s", file_in(server, "hold"));
    variables[2] = "SLOW_MIN_MS=2"; /* so that no commit is done on the HTTP thread, and held there */
    variables[3] = "SLOW_MAX_MS=2";
    server->variables = variables;
}

void hold_commits(struct server *server)
{
    unlink(file_in(server, "hold.reached"));
    touch(file_in(server, "hold"));
}

void await_held_commit(struct server *server)
{
    WAIT_UNTIL(exists(file_in(server, "hold.reached")));
}

void release_commits(struct server *server)
{
    REQUIRE(unlink(file_in(server, "hold")) == 0, "nothing was held");
}

/* ---- the end ---- */

void support_begin(void)
{
    signal(SIGPIPE, SIG_IGN);
}

static void remove_folder(const char *folder)
{
    const char *argv[] = {"rm", "-rf", "--one-file-system", folder, NULL};
    run(NULL, argv, NULL, NULL, NULL);
}

/* Under a sanitizer it ends in order, so that what it leaks is reported. */
static void end_server(pid_t pid)
{
    int64_t deadline = now_ms() + (!is_plain() && !failed ? 10000 : 0);
    kill(pid, SIGTERM);
    kill(pid, SIGINT); /* the second signal stops what runs */
    while (now_ms() < deadline) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return;
        breathe();
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void support_end(void)
{
    for (int i = 0; i < server_count; i++) {
        if (servers[i]->pid > 0)
            end_server(servers[i]->pid);
        cr_expect_null(strstr(server_log(servers[i]), "too much was read"),
                       "something long ran on the loop's thread");
        if (!failed || !getenv("ERRAND_KEEP"))
            remove_folder(servers[i]->folder);
    }
}

/* ---- answers ---- */

const cJSON *field(struct reply *reply, const char *path)
{
    if (!reply->parsed)
        reply->parsed = cJSON_Parse(reply->body);
    const cJSON *at = reply->parsed;
    char *copy = strdup(path), *rest = copy;
    for (char *name; at && (name = strsep(&rest, "."));)
        at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(name)) : cJSON_GetObjectItemCaseSensitive(at, name);
    free(copy);
    return at;
}

const char *text_of(struct reply *reply, const char *path)
{
    const cJSON *item = field(reply, path);
    return cJSON_IsString(item) ? item->valuestring : "";
}

double number_of(struct reply *reply, const char *path)
{
    const cJSON *item = field(reply, path);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

char *header(struct reply *reply, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = strstr(reply->head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':') {
            const char *value = line + 3 + n;
            value += strspn(value, " \t");
            return strndup(value, strcspn(value, "\r\n"));
        }
    return NULL;
}

bool faults_mention(struct reply *reply, const char *pointer)
{
    const cJSON *each;
    cJSON_ArrayForEach(each, field(reply, "errors"))
    {
        const cJSON *where = cJSON_GetObjectItemCaseSensitive(each, "pointer");
        if (cJSON_IsString(where) && strcmp(where->valuestring, pointer) == 0)
            return true;
    }
    return false;
}

struct reply *expect_status(const char *file, int line, struct reply *reply, int status)
{
    if (reply->status != status)
        fail_at(file, line, "%s: %d instead of %d: %.2000s", reply->request, reply->status, status, reply->body);
    return reply;
}

struct reply *expect_problem(const char *file, int line, struct reply *reply, int status, const char *type)
{
    expect_status(file, line, reply, status);
    const char *content_type = header(reply, "Content-Type");
    if (!content_type || strcmp(content_type, "application/problem+json") != 0)
        fail_at(file, line, "%s: a problem of the type %s", reply->request, content_type);
    if (strcmp(text_of(reply, "type"), format("urn:errand:problem:%s", type)) != 0 ||
        number_of(reply, "status") != status || !*text_of(reply, "title") || !*text_of(reply, "detail"))
        fail_at(file, line, "%s: not the problem %s: %s", reply->request, type, reply->body);
    return reply;
}

struct reply *expect_text(const char *file, int line, struct reply *reply, const char *path, const char *wanted)
{
    if (!cJSON_IsString(field(reply, path)) || strcmp(text_of(reply, path), wanted) != 0)
        fail_at(file, line, "%s: %s is not \"%s\": %.2000s", reply->request, path, wanted, reply->body);
    return reply;
}

struct reply *expect_number(const char *file, int line, struct reply *reply, const char *path, double wanted)
{
    if (!(number_of(reply, path) == wanted))
        fail_at(file, line, "%s: %s is not %g: %.2000s", reply->request, path, wanted, reply->body);
    return reply;
}

struct reply *expect_null(const char *file, int line, struct reply *reply, const char *path)
{
    if (!cJSON_IsNull(field(reply, path)))
        fail_at(file, line, "%s: %s is not null: %.2000s", reply->request, path, reply->body);
    return reply;
}

struct reply *expect_has(const char *file, int line, struct reply *reply, const char *part)
{
    if (!memmem(reply->body, reply->length, part, strlen(part)))
        fail_at(file, line, "%s: `%s` is not in: %.2000s", reply->request, part, reply->body);
    return reply;
}

/* ---- conversations that many tests have ---- */

#define QUOTED_FORMAT(text)                                     \
    ({                                                          \
        char *made_ = NULL;                                     \
        va_list args_;                                          \
        va_start(args_, text);                                  \
        if (text && vasprintf(&made_, quoted(text), args_) < 0) \
            abort();                                            \
        va_end(args_);                                          \
        made_;                                                  \
    })

#define AS_JSON "Content-Type: application/json\r\n"

struct reply *get(struct server *server, const char *path, ...)
{
    return ask(server, "GET", QUOTED_FORMAT(path), NULL, NULL);
}

struct reply *post(struct server *server, const char *path, const char *body, ...)
{
    return ask(server, "POST", path, body ? AS_JSON : NULL, QUOTED_FORMAT(body));
}

struct reply *patch(struct server *server, const char *path, const char *body, ...)
{
    return ask(server, "PATCH", path, AS_JSON, QUOTED_FORMAT(body));
}

char *submit(struct server *server, const char *body, ...)
{
    struct reply *r = ask(server, "POST", "/tasks", AS_JSON, QUOTED_FORMAT(body));
    EXPECT(r, 201);
    return strdup(text_of(r, "id"));
}

struct reply * final(struct server *server, const char *id)
{
    struct reply *r = get(server, "/invocations/%s?wait=%d", id, PATIENCE_MS / 1000);
    EXPECT(r, 200);
    REQUIRE(cJSON_IsString(field(r, "finished_at")), "%s did not become final: %s", id, r->body);
    return r;
}

struct reply *await_status(const char *file, int line, struct server *server, const char *id, const char *wanted)
{
    int64_t deadline = now_ms() + PATIENCE_MS;
    for (;;) {
        struct reply *r = get(server, "/invocations/%s", id);
        expect_status(file, line, r, 200);
        if (strcmp(text_of(r, "status"), wanted) == 0)
            return r;
        if (now_ms() > deadline)
            fail_at(file, line, "%s did not become %s: %s", id, wanted, r->body);
        breathe();
    }
}
