/* What the end-to-end tests are written with: the real binary, started in a
 * folder of its own on a port of its own, and a small HTTP client.
 *
 * A test is a process of its own that lives for seconds: what these functions
 * return is never freed, and a helper that cannot do its work fails the test.
 * Nothing sleeps: what must come is awaited (WAIT_UNTIL, `wait=`) until a
 * deadline that only a hung server reaches.
 *
 * Requests are written with single quotes: in a path or a body given as a
 * format, every ' of the format (not of its arguments) becomes ".
 *
 * With ERRAND_RECORD=FILE in the environment every conversation is appended to
 * the file, one JSON object a line, for tests/e2e/openapi.sh to validate. */
#pragma once

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Suites are declared with this, so that servers end and folders go with them. */
#define SUITE(name) TestSuite(name, .init = support_begin, .fini = support_end, .timeout = 120)

void support_begin(void);
void support_end(void);

enum { PATIENCE_MS = 30000 }; /* the deadline of everything that must come */

/* Milliseconds, monotonic. */
int64_t now_ms(void);

/* Waits until the expression is true; fails the test after PATIENCE_MS. */
#define WAIT_UNTIL(condition)                                                      \
    do {                                                                           \
        int64_t wait_until_ = now_ms() + PATIENCE_MS;                              \
        while (!(condition)) {                                                     \
            if (now_ms() > wait_until_)                                            \
                fail_at(__FILE__, __LINE__, "in vain waited for: %s", #condition); \
            breathe();                                                             \
        }                                                                          \
    } while (0)

/* As cr_assert, but says what the servers logged. */
#define REQUIRE(condition, ...)                                              \
    do {                                                                     \
        if (!(condition))                                                    \
            require_failed(__FILE__, __LINE__, #condition, " " __VA_ARGS__); \
    } while (0)

void fail_at(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4), noreturn));
void require_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));
void breathe(void); /* 5 ms, between two looks at a condition */
char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));
char *quoted(const char *text); /* every ' as " */
char *replaced(const char *text, const char *what, const char *with);

/* --- the server ------------------------------------------------------------- */

struct server {
    pid_t pid; /* 0: it does not run */
    int port;
    char *folder;
    char *host;                   /* 127.0.0.1 */
    char *token;                  /* sent with every request if set */
    int out;                      /* its stdout */
    const char *const *arguments; /* NULL-terminated, after `serve --config FILE` */
    const char *const *variables; /* NULL-terminated, NAME=value */
};

/* A test's configuration says what is peculiar to it. $NATIVE in it is the path
 * of tests/e2e/native/tasks.c as a module, $FOLDER the server's folder; without
 * `listen:` in it, port 0 of loopback is added. */
struct server *serve(const char *config);
struct server *serve_with(const char *config, const char *const *arguments, const char *const *variables);

/* The folder and the configuration without the process. */
struct server *prepare(const char *config);
void configure(struct server *server, const char *config); /* writes the file anew */
void start(struct server *server);
bool try_start(struct server *server); /* false if it ends before it listens */

void send_signal(struct server *server, int signal);
int await_exit(struct server *server); /* its exit status, or 128 and the signal */
int terminate(struct server *server);  /* SIGTERM and await_exit */
void kill_hard(struct server *server); /* SIGKILL */
void restart(struct server *server);   /* kill_hard, start */

char *server_log(struct server *server);     /* its stderr so far */
int64_t processor_ms(struct server *server); /* the processor time it has used */
int64_t resident_kb(struct server *server);

/* Is the server built as it is shipped? A sanitizer has memory and time of its own, wants to
 * be loaded first, and keeps what is freed. */
bool is_plain(void);
#define REQUIRE_GROWTH_BELOW(limit_kb, before_kb, now_kb) \
    require_growth(__FILE__, __LINE__, limit_kb, before_kb, now_kb)
void require_growth(const char *file, int line, int64_t limit_kb, int64_t before_kb, int64_t now_kb);

/* What is held is a commit on its way to disk, as long as a test likes. Before
 * start(): preloads native/slow_commits.c (the test is skipped under a
 * sanitizer). From hold_commits() to release_commits() no commit ends;
 * await_held_commit() returns once one has begun. */
void prepare_to_hold_commits(struct server *server);
void hold_commits(struct server *server);
void await_held_commit(struct server *server);
void release_commits(struct server *server);

bool is_alive(pid_t pid); /* and not a zombie that nobody has waited for */

/* A file in the server's folder. */
char *file_in(const struct server *server, const char *name);
char *read_whole(const char *path); /* "" if it is not there */
void write_whole(const char *path, const char *text);
bool exists(const char *path);
void touch(const char *path);

/* Runs a program to its end; its exit status. Its stdout and stderr come back
 * (either may be NULL). `input` may be NULL. */
int run(const char *folder, const char *const *argv, const char *input, char **out, char **err);

/* The path of the binary under test; of a module or preloadable library made
 * from tests/e2e/native/NAME.c. */
const char *errand_binary(void);
char *native(const char *name);

/* --- conversations ------------------------------------------------------------- */

struct reply {
    int status;
    char *head;          /* the status line and the headers, as they came */
    char *body;          /* NUL-terminated, decoded from chunks */
    size_t length;       /* of the body */
    const char *request; /* "GET /tasks" */
    cJSON *parsed;
};

/* One connection, used again for each request. */
struct client {
    struct server *server;
    int fd;
    char *held; /* bytes that were received and not yet used */
    size_t held_length, held_cap;
    bool chunked, until_close; /* of the body that is being streamed */
};

struct client *client_open(struct server *server);
void client_close(struct client *client);
void client_send(struct client *client, const char *bytes, size_t length);
void client_ask(struct client *client, const char *method, const char *path, const char *headers, const char *body,
                size_t length);
/* The next answer; NULL if the server closes instead. */
struct reply *client_receive(struct client *client, bool of_head_request);
/* The head of an answer alone; then pieces of its body as they come, NULL at its end. */
struct reply *client_receive_head(struct client *client);
char *client_receive_piece(struct client *client);
/* Has anything come within so many milliseconds? */
bool client_hears(struct client *client, int milliseconds);

/* On a connection of its own. `headers` are whole lines ending in \r\n, or NULL.
 * `body` NULL: none. */
struct reply *ask(struct server *server, const char *method, const char *path, const char *headers,
                  const char *body);
struct reply *ask_bytes(struct server *server, const char *method, const char *path, const char *headers,
                        const char *body, size_t length);
struct reply *get(struct server *server, const char *path, ...) __attribute__((format(printf, 2, 3)));
struct reply *post(struct server *server, const char *path, const char *body, ...)
    __attribute__((format(printf, 3, 4))); /* application/json; body NULL: none */
struct reply *patch(struct server *server, const char *path, const char *body, ...)
    __attribute__((format(printf, 3, 4)));

/* Submits, is answered 201, and returns the id. */
char *submit(struct server *server, const char *body, ...) __attribute__((format(printf, 2, 3)));

/* Waits until it is final. */
struct reply * final(struct server *server, const char *id);
#define AWAIT_STATUS(server, id, wanted) await_status(__FILE__, __LINE__, server, id, wanted)
struct reply *await_status(const char *file, int line, struct server *server, const char *id, const char *wanted);

/* --- answers ---------------------------------------------------------------------- */

/* By path: "items.0.id". NULL if it is not there. */
const cJSON *field(struct reply *reply, const char *path);
const char *text_of(struct reply *reply, const char *path); /* "" if it is no string */
double number_of(struct reply *reply, const char *path);    /* NAN if it is no number */
char *header(struct reply *reply, const char *name);        /* NULL if it is not there */
bool faults_mention(struct reply *reply, const char *pointer);

#define EXPECT(reply, status) expect_status(__FILE__, __LINE__, reply, status)
#define EXPECT_PROBLEM(reply, status, type) expect_problem(__FILE__, __LINE__, reply, status, type)
#define EXPECT_TEXT(reply, path, wanted) expect_text(__FILE__, __LINE__, reply, path, wanted)
#define EXPECT_NUMBER(reply, path, wanted) expect_number(__FILE__, __LINE__, reply, path, wanted)
#define EXPECT_NULL(reply, path) expect_null(__FILE__, __LINE__, reply, path)
#define EXPECT_HAS(reply, part) expect_has(__FILE__, __LINE__, reply, part)
struct reply *expect_status(const char *file, int line, struct reply *reply, int status);
struct reply *expect_problem(const char *file, int line, struct reply *reply, int status, const char *type);
struct reply *expect_text(const char *file, int line, struct reply *reply, const char *path, const char *wanted);
struct reply *expect_number(const char *file, int line, struct reply *reply, const char *path, double wanted);
struct reply *expect_null(const char *file, int line, struct reply *reply, const char *path);
struct reply *expect_has(const char *file, int line, struct reply *reply, const char *part); /* in the body */

/* --- tasks that most tests use ------------------------------------------------------ */

/* echo gives its arguments back; hold runs until the file that its argument
 * names is there; fail fails; count appends a line to the file `runs`. */
#define TASKS                                                \
    "tasks:\n"                                               \
    "  echo: {kind: native, module: $NATIVE}\n"              \
    "  hold: {kind: native, module: $NATIVE}\n"              \
    "  fail: {kind: native, module: $NATIVE}\n"              \
    "  count: {kind: native, module: $NATIVE}\n"             \
    "  add: {kind: native, module: $NATIVE, function: echo," \
    " params: {x: integer, y: {type: integer, default: 1}}}\n"
