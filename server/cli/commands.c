/* The small commands: check, run, isolated, backup, token, version, help. */
#include "server/cli/cli.h"

#include "base/digest.h"
#include "base/json.h"
#include "base/nearest.h"
#include "server/http/http.h"
#include "server/resources/version.h"
#include "store/db.h"
#include "workers/foreground.h"
#include "workers/isolated.h"
#include "workers/kinds/kinds.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int print(struct buf *text, FILE *to)
{
    fwrite(text->data, 1, text->len, to);
    buf_release(text);
    return fflush(to) == 0 ? 0 : 1;
}

/* --- check ------------------------------------------------------------------------ */

static void print_advice(const struct registry *registry)
{
    for (int i = 0; i < registry_count(registry); i++) {
        const struct task *task = registry_at(registry, i);
        struct faults advice = {0};
        if (task->kind->advise)
            task->kind->advise(task, &advice);
        for (int j = 0; j < advice.count; j++)
            fprintf(stderr, "warning: /tasks/%s%s: %s\n", task->name, advice.items[j].pointer,
                    advice.items[j].detail);
        faults_release(&advice);
    }
}

int cli_check(int argc, char **argv)
{
    static const char *const allowed[] = {"--config", "--defaults", NULL};
    struct options options;
    struct faults faults = {0};
    if (!cli_options(argc, argv, allowed, &options))
        return 2;
    if (options.help)
        return cli_help(argc, argv);
    if (options.defaults) {
        struct buf text = {0};
        config_add_defaults(&text);
        return print(&text, stdout);
    }
    if (options.argument_count == 1 && !options.flags.config)
        options.flags.config = options.arguments[0];
    else if (options.argument_count) {
        fprintf(stderr, "usage: errand check [--config FILE] [--defaults]\n");
        return 2;
    }
    struct config *config = config_load(&options.flags, &faults);
    if (config)
        registry_load(config->registry, &faults);
    int tasks = config ? registry_count(config->registry) : 0;
    const char *file = config ? config->file : options.flags.config;
    bool missing = config && !file && !tasks;
    if (config && !faults.total)
        print_advice(config->registry);
    if (missing)
        fprintf(
            stderr,
            "errand check: there is no errand.yaml in this folder, and no --config FILE; so there are no tasks\n");
    else if (faults.total)
        cli_print_faults(file, &faults);
    else
        printf("%s: good, %d task%s\n", file, tasks, tasks == 1 ? "" : "s");
    int status = faults.total || missing ? 1 : 0;
    faults_release(&faults);
    config_free(config);
    return status;
}

/* --- run --------------------------------------------------------------------------- */

static void say_no_task(const struct config *config, const char *name)
{
    struct nearest near = nearest_to(span_of(name));
    for (int i = 0; i < registry_count(config->registry); i++)
        nearest_try(&near, registry_at(config->registry, i)->name);
    if (config->file)
        fprintf(stderr, "errand run: there is no task `%s` in %s" NEAREST_FORMAT "\n", name, config->file,
                NEAREST_ARGS(near));
    else
        fprintf(
            stderr,
            "errand run: there is no errand.yaml in this folder, and no --config FILE; so there are no tasks\n");
}

int cli_run(int argc, char **argv)
{
    static const char *const allowed[] = {"--config", "--log-level", "--log-format", NULL};
    struct options options;
    if (!cli_options(argc, argv, allowed, &options))
        return 2;
    if (options.help)
        return cli_help(argc, argv);
    if (options.argument_count < 1 || options.argument_count > 2) {
        fprintf(stderr, "usage: errand run [--config FILE] TASK [ARGS as JSON]\n");
        return 2;
    }
    options.flags.insecure = true; /* nothing listens here */
    struct config *config = cli_config(&options.flags);
    if (!config)
        return 2;
    int status = 2;
    struct faults faults = {0};
    struct json_fault fault;
    struct span args = {NULL, 0};
    struct task *task = registry_find(config->registry, span_of(options.arguments[0]));
    if (options.argument_count == 2)
        args = span_of(options.arguments[1]);
    if (!task) {
        say_no_task(config, options.arguments[0]);
    } else if (task->kind->elsewhere) {
        fprintf(stderr, "errand run: `%s` is run by workers elsewhere, which ask a server for it\n", task->name);
    } else if (args.p && json_check(args.p, args.len, JSON_DEPTH_MAX, &fault) != OK) {
        struct json_place place = json_place(args, fault.offset);
        fprintf(stderr, "errand run: the arguments are not JSON: line %d, column %d: %s\n", place.line,
                place.column, fault.detail);
    } else {
        registry_load(config->registry, &faults);
        if (faults.total) {
            cli_print_faults(config->file, &faults);
        } else {
            struct attempt_limits limits = {config->limits.result_bytes, config->limits.log_bytes,
                                            config->kill_grace_ms};
            status = foreground_run(task, args, &limits);
            kinds_end();
        }
    }
    faults_release(&faults);
    config_free(config);
    return status;
}

/* --- isolated -------------------------------------------------------------------------- */

/* For servers, not for people: so `errand help` does not name it. */
int cli_isolated(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: errand isolated MODULE FUNCTION\n");
        return 2;
    }
    return isolated_serve(argv[1], argv[2]);
}

/* --- backup --------------------------------------------------------------------------- */

int cli_backup(int argc, char **argv)
{
    static const char *const allowed[] = {"--config", "--store", NULL};
    struct options options;
    struct reason why = {""};
    if (!cli_options(argc, argv, allowed, &options))
        return 2;
    if (options.help)
        return cli_help(argc, argv);
    if (options.argument_count != 1) {
        fprintf(stderr, "usage: errand backup [--config FILE] [--store PATH] FILE\n");
        return 2;
    }
    options.flags.insecure = true; /* nothing listens here */
    signal(SIGXFSZ, SIG_IGN);      /* a limit on the size of files is a failure that cleans up */
    struct config *config = cli_config(&options.flags);
    if (!config)
        return 2;
    int status = 1;
    if (strcmp(config->store, ":memory:") == 0)
        fprintf(stderr, "errand backup: a store in memory cannot be copied from outside\n");
    else if (db_backup(config->store, options.arguments[0], &why) != OK)
        fprintf(stderr, "errand backup: %s\n", why.text);
    else
        status = 0;
    config_free(config);
    return status;
}

/* --- token ---------------------------------------------------------------------------- */

/* Words of a comma-separated list, each a scope; false if one is none. */
static bool scopes_are_known(const char *scopes)
{
    while (*scopes) {
        size_t n = strcspn(scopes, ",");
        bool known = false;
        for (unsigned scope = SCOPE_READ; scope <= SCOPE_ADMIN; scope <<= 1)
            known |= strlen(scope_name(scope)) == n && memcmp(scope_name(scope), scopes, n) == 0;
        if (!known)
            return false;
        scopes += n + (scopes[n] == ',');
    }
    return true;
}

int cli_token(int argc, char **argv)
{
    static const char *const allowed[] = {"--scopes", NULL};
    struct options options;
    if (!cli_options(argc, argv, allowed, &options))
        return 2;
    if (options.help)
        return cli_help(argc, argv);
    const char *scopes = options.scopes ? options.scopes : "submit,read";
    if (options.argument_count != 1 || !*scopes || !scopes_are_known(scopes)) {
        fprintf(stderr, "usage: errand token [--scopes read,submit,work,admin] NAME\n");
        return 2;
    }
    uint8_t secret[32], digest[SHA256_BYTES];
    struct buf token = {0}, name = {0}, text = {0};
    random_bytes(secret, sizeof secret);
    buf_adds(&token, "errand_");
    hex_add(&token, secret, sizeof secret);
    sha256(buf_span(&token), digest);
    json_add_lossy(&name, span_of(options.arguments[0])); /* JSON's strings are YAML's too */
    buf_addf(&text,
             "The token, shown this once:\n\n    %s\n\nThe line for `tokens:` in the configuration:\n\n    - "
             "{name: %s, sha256: ",
             buf_cstr(&token), buf_cstr(&name));
    hex_add(&text, digest, sizeof digest);
    buf_addf(&text, ", scopes: [");
    for (const char *p = scopes; *p;) {
        size_t n = strcspn(p, ",");
        buf_addf(&text, "%s%.*s", p == scopes ? "" : ", ", (int)n, p);
        p += n + (p[n] == ',');
    }
    buf_adds(&text, "]}\n");
    buf_release(&token);
    buf_release(&name);
    return print(&text, stdout);
}

/* --- version, help ------------------------------------------------------------------------ */

int cli_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("errand %s (%s), SQLite %s, libmicrohttpd %s\n", errand_version, errand_commit, db_version(),
           http_library_version());
    return 0;
}

int cli_help(int argc, char **argv)
{
    (void)argc, (void)argv;
    fputs("errand: a durable HTTP task service\n"
          "\n"
          "  errand serve [OPTIONS]             serve HTTP and run tasks\n"
          "  errand check [--config FILE]       say what is wrong with a configuration, every mistake with its "
          "line\n"
          "  errand check --defaults            print every key with its default\n"
          "  errand run TASK [ARGS]             run one invocation here, without server or database\n"
          "  errand backup FILE                 copy the database while it is in use\n"
          "  errand token [--scopes LIST] NAME  make a token and print its line for the configuration\n"
          "  errand version, errand help\n"
          "\n"
          "Options (each also as ERRAND_NAME in the environment; options beat the environment beats the file):\n"
          "  --config FILE                      the configuration (./errand.yaml if it is there)\n"
          "  --listen ADDRESS:PORT              where to listen; port 0 picks one (127.0.0.1:8080)\n"
          "  --store PATH                       the database, or :memory: (errand.db)\n"
          "  --slots N                          bodies that run at once (twice the processors)\n"
          "  --log-level debug|info|warn|error  --log-format text|json  --log-directory FOLDER\n"
          "  --insecure                         off loopback without tokens\n"
          "\n"
          "errand(1) says more.\n",
          stdout);
    return 0;
}
