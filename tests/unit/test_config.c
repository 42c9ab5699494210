#include "server/config/config.h"
#include "workers/kinds/command/command.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder of its own, which is also the working directory. */
static char folder[64];

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    cr_assert(file);
    fputs(text, file);
    fclose(file);
}

static void make_folder(void)
{
    static const char *const variables[] = {"ERRAND_CONFIG",       "ERRAND_LISTEN",    "ERRAND_STORE",
                                            "ERRAND_SLOTS",        "ERRAND_LOG_LEVEL", "ERRAND_LOG_FORMAT",
                                            "ERRAND_LOG_DIRECTORY"};
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
        unsetenv(variables[i]);
    strcpy(folder, "/tmp/errand-config-XXXXXX");
    cr_assert(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    cr_assert_eq(mkdir("sub", 0755), 0);
    write_file("cert.pem", "");
    write_file("key.pem", "");
}

static void remove_folder(void)
{
    static const char *const names[] = {"cert.pem", "key.pem", "errand.yaml", "sub/errand.yaml", "sub/other.yaml"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(names[i]);
    rmdir("sub");
    rmdir(folder);
}

TestSuite(config, .init = make_folder, .fini = remove_folder);

static struct buf listed(const struct faults *faults)
{
    struct buf text = {0};
    for (int i = 0; i < faults->count; i++)
        buf_addf(&text, "%d %s: %s\n", faults->items[i].line, faults->items[i].pointer, faults->items[i].detail);
    buf_cstr(&text);
    return text;
}

static struct config *good(const char *text)
{
    struct faults faults = {0};
    struct config *config = config_parse(span_of(text), folder, &faults);
    struct buf wrong = listed(&faults);
    cr_assert(config, "%s\n%s", text, wrong.data);
    buf_release(&wrong);
    return config;
}

/* What is wrong with the text, with FOLDER for the folder. */
static struct buf faults_of(const char *text)
{
    struct faults faults = {0};
    struct buf shown = {0};
    cr_expect_null(config_parse(span_of(text), folder, &faults));
    struct buf wrong = listed(&faults);
    for (const char *p = wrong.data; *p;) {
        const char *mark = strstr(p, folder);
        buf_add(&shown, p, mark ? (size_t)(mark - p) : strlen(p));
        buf_adds(&shown, mark ? "FOLDER" : "");
        p = mark ? mark + strlen(folder) : "";
    }
    buf_release(&wrong);
    faults_release(&faults);
    buf_cstr(&shown);
    return shown;
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

/* Every value of a configuration, one a line. */
static struct buf dumped(const struct config *c)
{
    struct buf text = {0};
    buf_addf(&text, "%s %d %s %d %d\n", c->listen_host, c->listen_port, c->store, c->slots, c->insecure);
    buf_addf(&text, "%u %u %s\n", c->log.level, c->log.format, c->log.directory ? c->log.directory : "-");
    buf_addf(&text, "%d tokens\n", c->token_count);
    for (int i = 0; c->hosts[i]; i++)
        buf_addf(&text, "host %s\n", c->hosts[i]);
    for (int i = 0; c->cors_origins[i]; i++)
        buf_addf(&text, "origin %s\n", c->cors_origins[i]);
    buf_addf(&text, "%s %s\n", c->tls_certificate ? c->tls_certificate : "-", c->tls_key ? c->tls_key : "-");
    const int64_t numbers[] = {
        c->shutdown_timeout_ms,
        c->kill_grace_ms,
        c->retain_max,
        c->limits.body_bytes,
        c->limits.bulk_body_bytes,
        c->limits.bulk_lines,
        c->limits.result_bytes,
        c->limits.log_bytes,
        c->limits.answers_bytes,
        c->limits.connections,
        c->limits.connections_per_address,
        c->limits.streams,
        c->limits.header_bytes,
        c->limits.request_timeout_ms,
        c->limits.idle_timeout_ms,
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        buf_addf(&text, "%lld ", (long long)numbers[i]);
    buf_addf(&text, "%d\n", registry_count(c->registry));
    for (int i = 0; i < registry_count(c->registry); i++) {
        task_add_options(&text, registry_at(c->registry, i));
        buf_addc(&text, '\n');
    }
    buf_cstr(&text);
    return text;
}

Test(config, nothing_configured_is_every_default)
{
    struct config *c = good("");
    cr_expect_str_eq(c->listen_host, "127.0.0.1");
    cr_expect_eq(c->listen_port, 8080);
    cr_expect_str_eq(c->store, in_folder("errand.db"));
    cr_expect(c->slots >= 2 && c->slots <= 1024 && c->slots % 2 == 0);
    cr_expect_not(c->insecure);
    cr_expect_eq(c->log.level, LOG_LEVEL_INFO);
    cr_expect_eq(c->log.format, LOG_FORMAT_TEXT);
    cr_expect_null(c->log.directory);
    cr_expect_eq(c->token_count, 0);
    cr_expect(c->hosts && !c->hosts[0] && c->cors_origins && !c->cors_origins[0]);
    cr_expect(!c->tls_certificate && !c->tls_key);
    cr_expect_eq(c->shutdown_timeout_ms, 30000);
    cr_expect_eq(c->kill_grace_ms, 5000);
    cr_expect_eq(c->retain_max, 0);
    cr_expect_eq(c->limits.body_bytes, 1 << 20);
    cr_expect_eq(c->limits.bulk_body_bytes, 64 << 20);
    cr_expect_eq(c->limits.bulk_lines, 100000);
    cr_expect_eq(c->limits.result_bytes, 8 << 20);
    cr_expect_eq(c->limits.log_bytes, 10 << 20);
    cr_expect_eq(c->limits.answers_bytes, 64 << 20);
    cr_expect_eq(c->limits.connections, 2000);
    cr_expect_eq(c->limits.connections_per_address, 0);
    cr_expect_eq(c->limits.streams, 1000);
    cr_expect_eq(c->limits.header_bytes, 8 << 10);
    cr_expect_eq(c->limits.request_timeout_ms, 30000);
    cr_expect_eq(c->limits.idle_timeout_ms, 60000);
    cr_expect_eq(registry_count(c->registry), 0);
    config_free(c);
}

Test(config, the_printed_defaults_are_a_configuration_that_says_the_same)
{
    struct buf text = {0}, empty = {0};
    config_add_defaults(&text);
    buf_adds(&empty, "tasks: {a: {kind: command, run: [cat]}}");
    /* one task, so that the options of `defaults` show */
    char *tasks = strstr(buf_cstr(&text), "\ntasks: {} ");
    cr_assert(tasks);
    size_t at = (size_t)(tasks - text.data) + strlen("\ntasks: ");
    struct buf with_task = {0};
    buf_add(&with_task, text.data, at);
    buf_adds(&with_task, "{a: {kind: command, run: [cat]}}");
    buf_adds(&with_task, text.data + at + 2);

    struct config *printed = good(buf_cstr(&with_task)), *built_in = good(buf_cstr(&empty));
    struct buf x = dumped(printed), y = dumped(built_in);
    cr_expect_str_eq(x.data, y.data);
    config_free(good(text.data));
    config_free(printed);
    config_free(built_in);
    buf_release(&x);
    buf_release(&y);
    buf_release(&text);
    buf_release(&empty);
    buf_release(&with_task);
}

Test(config, the_printed_defaults_name_every_key)
{
    static const char *const keys[] = {
        "listen",       "url",
        "store",        "slots",
        "level",        "format",
        "directory",    "tokens",
        "name",         "sha256",
        "scopes",       "hosts",
        "origins",      "certificate",
        "key",          "shutdown_timeout",
        "kill_grace",   "retain_max",
        "body",         "bulk_body",
        "bulk_lines",   "result",
        "connections",  "connections_per_address",
        "streams",      "header",
        "answers",      "request_timeout",
        "idle_timeout", "priority",
        "timeout",      "expires_in",
        "max_retries",  "max_recoveries",
        "retry_for",    "initial",
        "factor",       "max",
        "jitter",       "retention",
        "max_queued",   "unique",
        "per",          "while",
        "on_conflict",  "debounce",
        "max_wait",     "cache_results",
        "deadline",     "index",
        "for",          "kind",
        "description",  "params",
        "module",       "function",
        "run",          "cwd",
        "env",
    };
    struct buf text = {0};
    config_add_defaults(&text);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), " %s:", keys[i]);
        cr_expect(strstr(buf_cstr(&text), line) || strstr(text.data, line + 1), "%s", keys[i]);
    }
    buf_release(&text);
}

Test(config, every_key_can_be_set)
{
    struct config *c =
        good("listen: '[::1]:0'\n"
             "store: sub/x.db\n"
             "slots: 3\n"
             "log: {level: error, format: json, directory: logs}\n"
             "tokens:\n"
             "  - {name: shop, sha256: 9F86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, scopes: "
             "[read, "
             "submit]}\n"
             "  - {name: 7, sha256: 1111111111111111111111111111111111111111111111111111111111111111, scopes: "
             "[admin]}\n"
             "hosts: [Errand.Example.org, '[2001:DB8::1]', 10.0.0.1]\n"
             "cors: {origins: ['*', 'HTTPS://Example.org:8443']}\n"
             "tls: {certificate: cert.pem, key: key.pem}\n"
             "shutdown_timeout: 0s\n"
             "kill_grace: 1m30s\n"
             "retain_max: 1000000\n"
             "limits: {body: 2KiB, bulk_body: 1GiB, bulk_lines: 5, result: 4096, log: 3MiB, answers: 5MiB,\n"
             "         connections: 7, connections_per_address: 3, streams: 9, header: 64KiB, request_timeout: "
             "2s, idle_timeout: 3s}\n"
             "defaults: {priority: 5}\n"
             "tasks: {cat: {kind: command, run: [cat]}}\n");
    cr_expect_str_eq(c->listen_host, "::1");
    cr_expect_eq(c->listen_port, 0);
    cr_expect_str_eq(c->store, in_folder("sub/x.db"));
    cr_expect_eq(c->slots, 3);
    cr_expect_eq(c->log.level, LOG_LEVEL_ERROR);
    cr_expect_eq(c->log.format, LOG_FORMAT_JSON);
    cr_expect_str_eq(c->log.directory, in_folder("logs"));
    cr_assert_eq(c->token_count, 2);
    cr_expect_str_eq(c->tokens[0].name, "shop");
    cr_expect_eq(c->tokens[0].sha256[0], 0x9f);
    cr_expect_eq(c->tokens[0].sha256[31], 0x08);
    cr_expect_eq(c->tokens[0].scopes, SCOPE_READ | SCOPE_SUBMIT);
    cr_expect_str_eq(c->tokens[1].name, "7");
    cr_expect_eq(c->tokens[1].sha256[0], 0x11, "digits alone are a text too");
    cr_expect_eq(c->tokens[1].scopes, SCOPE_ALL);
    cr_expect_str_eq(c->hosts[0], "errand.example.org");
    cr_expect_str_eq(c->hosts[1], "2001:db8::1");
    cr_expect_str_eq(c->hosts[2], "10.0.0.1");
    cr_expect_null(c->hosts[3]);
    cr_expect_str_eq(c->cors_origins[0], "*");
    cr_expect_str_eq(c->cors_origins[1], "https://example.org:8443");
    cr_expect_str_eq(c->tls_certificate, in_folder("cert.pem"));
    cr_expect_str_eq(c->tls_key, in_folder("key.pem"));
    cr_expect_eq(c->shutdown_timeout_ms, 0);
    cr_expect_eq(c->kill_grace_ms, 90000);
    cr_expect_eq(c->retain_max, 1000000);
    cr_expect_eq(c->limits.body_bytes, 2048);
    cr_expect_eq(c->limits.bulk_body_bytes, 1 << 30);
    cr_expect_eq(c->limits.bulk_lines, 5);
    cr_expect_eq(c->limits.result_bytes, 4096);
    cr_expect_eq(c->limits.log_bytes, 3 << 20);
    cr_expect_eq(c->limits.answers_bytes, 5 << 20);
    cr_expect_eq(c->limits.connections, 7);
    cr_expect_eq(c->limits.connections_per_address, 3);
    cr_expect_eq(c->limits.streams, 9);
    cr_expect_eq(c->limits.header_bytes, 65536);
    cr_expect_eq(c->limits.request_timeout_ms, 2000);
    cr_expect_eq(c->limits.idle_timeout_ms, 3000);
    cr_expect_eq(registry_find(c->registry, SPAN("cat"))->options.priority, 5);
    config_free(c);
}

Test(config, an_address_is_figures_or_localhost_with_a_port)
{
    static const struct {
        const char *listen, *host; /* NULL: refused */
        int port;
        bool loopback;
    } rows[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080, true},
        {"127.9.9.9:1", "127.9.9.9", 1, true},
        {"localhost:9", "127.0.0.1", 9, true},
        {"'[::1]:65535'", "::1", 65535, true},
        {"'[::ffff:127.0.0.1]:1'", "::ffff:127.0.0.1", 1, true},
        {"0.0.0.0:8080", "0.0.0.0", 8080, false},
        {"'[::]:8080'", "::", 8080, false},
        {"10.0.0.5:0", "10.0.0.5", 0, false},
        {"':8080'", NULL, 0, false},
        {"8080", NULL, 0, false},
        {"127.0.0.1", NULL, 0, false},
        {"127.0.0.1:", NULL, 0, false},
        {"127.0.0.1:65536", NULL, 0, false},
        {"unix:x.sock", "localhost", 0, true},
        {"unix:/run/errand/x.sock", "localhost", 0, true},
        {"unix:", NULL, 0, false},
        {"unix:/"
         "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
         "0123456789",
         NULL, 0, false},
        {"127.0.0.1:+80", NULL, 0, false},
        {"127.0.0.1:http", NULL, 0, false},
        {"127.1:80", NULL, 0, false},
        {"example.org:80", NULL, 0, false},
        {"'::1:8080'", NULL, 0, false},
        {"'[::1]'", NULL, 0, false},
        {"'[127.0.0.1]:80'", NULL, 0, false},
        {"'[]:80'", NULL, 0, false},
        {"'*:80'", NULL, 0, false},
        {"''", NULL, 0, false},
        {"[127.0.0.1, 80]", NULL, 0, false},
        {"~", NULL, 0, false},
    };
    static const char tokens[] = "tokens: [{name: a, scopes: [read], sha256: "
                                 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}]";
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        struct faults faults = {0};
        snprintf(text, sizeof(text), "listen: %s\n%s\n", rows[i].listen, tokens);
        struct config *c = config_parse(span_of(text), folder, &faults);
        cr_expect_eq(c != NULL, rows[i].host != NULL, "%s", rows[i].listen);
        if (c) {
            cr_expect_str_eq(c->listen_host, rows[i].host);
            cr_expect_eq(c->listen_port, rows[i].port);
            cr_expect_eq(config_is_loopback(c), rows[i].loopback, "%s", rows[i].listen);
        } else {
            cr_expect_eq(faults.total, 1);
        }
        config_free(c);
        faults_release(&faults);
    }
}

Test(config, off_loopback_tokens_are_needed)
{
    struct buf wrong = faults_of("slots: 2\nlisten: 0.0.0.0:80\n");
    cr_expect_str_eq(wrong.data, "2 /listen: 0.0.0.0 is not loopback: it needs `tokens`, so that not everyone may "
                                 "call (or --insecure)\n");
    buf_release(&wrong);

    struct faults faults = {0};
    struct config_flags flags = {.listen = "0.0.0.0:80", .insecure = true};
    struct config *c = config_load(&flags, &faults);
    cr_assert(c);
    cr_expect(c->insecure);
    config_free(c);

    flags.insecure = false;
    cr_expect_null(config_load(&flags, &faults));
    cr_assert_eq(faults.count, 1);
    cr_expect_str_eq(faults.items[0].pointer, "--listen");
    faults_release(&faults);
}

Test(config, a_store_is_a_path_or_memory)
{
    struct config *c = good("store: ':memory:'");
    cr_expect_str_eq(c->store, ":memory:");
    config_free(c);
    c = good("store: /tmp/a.db");
    cr_expect_str_eq(c->store, "/tmp/a.db");
    config_free(c);

    static const struct {
        const char *text, *faults;
    } rows[] = {
        {"store: postgresql://h/d",
         "1 /store: `postgresql://h/d` is not supported: write the path of a file, or :memory:\n"},
        {"store: sqlite:x.db",
         "1 /store: `sqlite:x.db` is not supported: write the path of a file, or :memory:\n"},
        {"store: nowhere/x.db", "1 /store: there is no folder FOLDER/nowhere\n"},
        {"store: sub", "1 /store: FOLDER/sub is a folder, not a file\n"},
        {"store: ''", "1 /store: must not be empty\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf wrong = faults_of(rows[i].text);
        cr_expect_str_eq(wrong.data, rows[i].faults);
        buf_release(&wrong);
    }
}

Test(config, every_fault_of_a_file_is_named_with_its_line)
{
    struct buf wrong = faults_of("slot: 4\n"
                                 "slots: 0\n"
                                 "log: {level: warning, colour: 1, format: yaml}\n"
                                 "hosts: ['example.org:80', 'http://x', '']\n"
                                 "cors: {origins: ['https://x/', example.org]}\n"
                                 "tls: {certificate: nope.pem}\n"
                                 "kill_grace: 5\n"
                                 "limits:\n"
                                 "  body: 1MB\n"
                                 "  result: 0\n"
                                 "  bulk_body: 99999999999999999GiB\n"
                                 "  connections: '5'\n"
                                 "defaults: {timeut: 10m}\n"
                                 "tasks:\n"
                                 "  a: {kind: native}\n");
    cr_expect_str_eq(
        wrong.data,
        "1 /slot: unknown key `slot`; did you mean `slots`?\n"
        "2 /slots: 0 is out of range: 1 to 1024\n"
        "3 /log/level: `warning` is not debug, info, warn or error; did you mean `warn`?\n"
        "3 /log/colour: unknown key `colour`\n"
        "3 /log/format: `yaml` is not text or json\n"
        "4 /hosts/0: `example.org:80` is not the name or the address of a host, without scheme and port\n"
        "4 /hosts/1: `http://x` is not the name or the address of a host, without scheme and port\n"
        "4 /hosts/2: `` is not the name or the address of a host, without scheme and port\n"
        "5 /cors/origins/0: `https://x/` is not an origin, such as https://example.org (no path, no / at the "
        "end), "
        "or *\n"
        "5 /cors/origins/1: `example.org` is not an origin, such as https://example.org (no path, no / at the "
        "end), "
        "or *\n"
        "6 /tls/certificate: there is no file FOLDER/nope.pem\n"
        "6 /tls: `key` is missing: PEM\n"
        "7 /kill_grace: `5` is not a duration with its unit, such as 250ms, 30s or 1h30m\n"
        "9 /limits/body: `1MB` is not a size in bytes or with its unit, such as 4096, 64KiB or 1MiB\n"
        "10 /limits/result: 0 is out of range: 1KiB to 256MiB\n"
        "11 /limits/bulk_body: `99999999999999999GiB` is not a size in bytes or with its unit, such as 4096, "
        "64KiB "
        "or 1MiB\n"
        "12 /limits/connections: must be a number without quotes\n"
        "13 /defaults/timeut: unknown key `timeut`; did you mean `timeout`?\n"
        "15 /tasks/a: `module` is missing: native: the shared object\n");
    buf_release(&wrong);
}

Test(config, tokens_are_checked)
{
    static const struct {
        const char *tokens, *faults;
    } rows[] = {
        {"shop", "/tokens: must be a list of at most 1000 mappings, {name, sha256, scopes}\n"},
        {"[5]", "/tokens/0: must be a mapping, {key: value}\n"},
        {"[{}]", "/tokens/0: `name` is missing: whose it is\n"
                 "/tokens/0: `sha256` is missing: the token's SHA-256 in hex\n"
                 "/tokens/0: `scopes` is missing: of read, submit, work, admin (all of them)\n"},
        {"[{name: '', sha256: zz, scopes: [red, 5, [read]], scope: x}]",
         "/tokens/0/name: must be 1 to 100 bytes long, not 0\n"
         "/tokens/0/sha256: must be 64 hex digits; `errand token NAME` prints such a line\n"
         "/tokens/0/scopes: `red` is not read, submit, work or admin\n"
         "/tokens/0/scopes: `5` is not read, submit, work or admin\n"
         "/tokens/0/scopes: an element is not read, submit, work or admin\n"
         "/tokens/0/scope: unknown key `scope`; did you mean `scopes`?\n"},
        {"[{name: a b, sha256: HEX, scopes: []}]",
         "/tokens/0/name: must not have spaces or control characters\n"
         "/tokens/0/scopes: must be a list of at least one of read, submit, work and admin\n"},
        {"[{name: a, sha256: HEX, scopes: [read]}, {name: b, sha256: HEX, scopes: [read]}]",
         "/tokens/1: `a` and `b` are the same token\n"},
        {"[{name: a, sha256: HEX, scopes: [read]}, {name: a, sha256: OTHER, scopes: [read]}]",
         "/tokens/1: there are two tokens named `a`\n"},
    };
    static const char hex[] = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    static const char other[] = "0f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf text = {0}, shown = {0};
        struct faults faults = {0};
        buf_addl(&text, "tokens: ");
        for (const char *p = rows[i].tokens; *p;) {
            bool is_hex = strncmp(p, "HEX", 3) == 0, is_other = strncmp(p, "OTHER", 5) == 0;
            if (is_hex || is_other)
                buf_adds(&text, is_hex ? hex : other);
            else
                buf_addc(&text, *p);
            p += is_hex ? 3 : is_other ? 5 : 1;
        }
        cr_expect_null(config_parse(buf_span(&text), folder, &faults));
        for (int k = 0; k < faults.count; k++)
            buf_addf(&shown, "%s: %s\n", faults.items[k].pointer, faults.items[k].detail);
        cr_expect_str_eq(buf_cstr(&shown), rows[i].faults, "%s: %s", rows[i].tokens, shown.data);
        buf_release(&text);
        buf_release(&shown);
        faults_release(&faults);
    }
}

Test(config, a_file_that_is_no_mapping_or_no_yaml_is_refused)
{
    static const char *const rows[] = {"[a]", "5", "text", "a: [", "a: 1\na: 2\n", "\xff", "listen: [::1]:8080\n"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct faults faults = {0};
        cr_expect_null(config_parse(span_of(rows[i]), folder, &faults), "%s", rows[i]);
        cr_expect(faults.total > 0 && faults.items[0].line > 0);
        faults_release(&faults);
    }
}

Test(config, flags_beat_variables_beat_the_file)
{
    write_file("errand.yaml",
               "listen: 127.0.0.1:1\nstore: file.db\nslots: 1\nlog: {level: debug, format: text}\n");
    setenv("ERRAND_LISTEN", "127.0.0.1:2", 1);
    setenv("ERRAND_SLOTS", "2", 1);
    setenv("ERRAND_LOG_LEVEL", "warn", 1);
    setenv("ERRAND_STORE", "", 1); /* empty: not set */
    struct config_flags flags = {.listen = "127.0.0.1:3", .log_format = "json", .log_directory = "logs"};
    struct faults faults = {0};
    struct config *c = config_load(&flags, &faults);
    cr_assert(c);
    cr_expect_eq(c->listen_port, 3);
    cr_expect_eq(c->slots, 2);
    cr_expect_eq(c->log.level, LOG_LEVEL_WARN);
    cr_expect_eq(c->log.format, LOG_FORMAT_JSON);
    cr_expect_str_eq(c->log.directory, in_folder("logs"));
    cr_expect_str_eq(c->store, in_folder("file.db"));
    cr_expect_str_eq(c->file, in_folder("errand.yaml"));
    cr_expect_str_eq(c->folder, folder);
    config_free(c);
}

Test(config, paths_of_the_file_start_at_its_folder_and_paths_of_flags_where_one_stands)
{
    write_file("sub/other.yaml", "store: a.db\nlog: {directory: logs}\n"
                                 "tasks: {cat: {kind: command, run: [cat]}}\n");
    struct config_flags flags = {.config = "./sub/other.yaml"};
    struct faults faults = {0};
    struct config *c = config_load(&flags, &faults);
    cr_assert(c);
    cr_expect_str_eq(c->folder, in_folder("sub"));
    cr_expect_str_eq(c->file, in_folder("sub/other.yaml"));
    cr_expect_str_eq(c->store, in_folder("sub/a.db"));
    cr_expect_str_eq(c->log.directory, in_folder("sub/logs"));
    cr_expect_str_eq(command_task(registry_at(c->registry, 0))->program.cwd, in_folder("sub"));
    config_free(c);

    setenv("ERRAND_CONFIG", in_folder("sub/other.yaml"), 1);
    flags = (struct config_flags){.store = "b.db"};
    c = config_load(&flags, &faults);
    cr_assert(c);
    cr_expect_str_eq(c->folder, in_folder("sub"));
    cr_expect_str_eq(c->store, in_folder("b.db"));
    config_free(c);
}

Test(config, without_a_file_the_defaults_hold)
{
    struct config_flags flags = {0};
    struct faults faults = {0};
    struct config *c = config_load(&flags, &faults);
    cr_assert(c);
    cr_expect_null(c->file);
    cr_expect_str_eq(c->folder, folder);
    config_free(c);
}

Test(config, a_file_that_was_asked_for_and_is_not_there_is_a_fault)
{
    struct config_flags flags = {.config = "none.yaml", .slots = "x"};
    struct faults faults = {0};
    cr_expect_null(config_load(&flags, &faults));
    cr_assert_eq(faults.count, 2, "the flags are checked all the same");
    cr_expect_str_eq(faults.items[0].pointer, "--config");
    cr_expect(strstr(faults.items[0].detail, "none.yaml: No such file"));
    cr_expect_str_eq(faults.items[1].pointer, "--slots");
    faults_release(&faults);

    setenv("ERRAND_CONFIG", "sub", 1);
    cr_expect_null(config_load(&(struct config_flags){0}, &faults));
    cr_assert_eq(faults.count, 1);
    cr_expect_str_eq(faults.items[0].pointer, "ERRAND_CONFIG");
    cr_expect(strstr(faults.items[0].detail, "Is a directory"));
    faults_release(&faults);
}

Test(config, faults_of_flags_and_variables_name_them)
{
    write_file("errand.yaml", "kill_grace: 5\n");
    setenv("ERRAND_SLOTS", "many", 1);
    setenv("ERRAND_LISTEN", ":80", 1);
    struct config_flags flags = {.slots = "0", .store = "postgresql://x", .log_level = "inf", .log_format = ""};
    struct faults faults = {0};
    cr_expect_null(config_load(&flags, &faults));
    struct buf wrong = listed(&faults);
    cr_expect_str_eq(wrong.data,
                     "1 /kill_grace: `5` is not a duration with its unit, such as 250ms, 30s or 1h30m\n"
                     "0 ERRAND_LISTEN: needs an address before the port: 127.0.0.1:8080 for this machine alone, "
                     "0.0.0.0:8080 for "
                     "every network\n"
                     "0 --store: `postgresql://x` is not supported: write the path of a file, or :memory:\n"
                     "0 ERRAND_SLOTS: `many` is not a whole number\n"
                     "0 --slots: 0 is out of range: 1 to 1024\n"
                     "0 --log-level: `inf` is not debug, info, warn or error; did you mean `info`?\n"
                     "0 --log-format: `` is not text or json\n");
    buf_release(&wrong);
    faults_release(&faults);
}

Test(config, a_file_that_is_too_large_is_refused)
{
    struct buf text = {0};
    for (int i = 0; i < 70000; i++)
        buf_addl(&text, "# nothing but a comment that makes the file too large for us\n");
    cr_assert(text.len > 4 << 20);
    write_file("errand.yaml", buf_cstr(&text));
    struct faults faults = {0};
    cr_expect_null(config_load(&(struct config_flags){0}, &faults));
    cr_expect_eq(faults.count, 1);
    buf_release(&text);
    faults_release(&faults);
}

Test(config, freeing_nothing_is_allowed)
{
    config_free(NULL);
}
