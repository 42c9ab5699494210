#include "server/cli/cli.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct option {
    const char *name;
    size_t offset;
    bool flag; /* it takes no value */
} known[] = {
    {"--config", offsetof(struct options, flags.config), false},
    {"--listen", offsetof(struct options, flags.listen), false},
    {"--store", offsetof(struct options, flags.store), false},
    {"--slots", offsetof(struct options, flags.slots), false},
    {"--log-level", offsetof(struct options, flags.log_level), false},
    {"--log-format", offsetof(struct options, flags.log_format), false},
    {"--log-directory", offsetof(struct options, flags.log_directory), false},
    {"--insecure", offsetof(struct options, flags.insecure), true},
    {"--scopes", offsetof(struct options, scopes), false},
    {"--defaults", offsetof(struct options, defaults), true},
    {"--help", offsetof(struct options, help), true},
};

static const struct option *find(const char *word, size_t len, const char *const *allowed)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].name) != len || memcmp(known[i].name, word, len) != 0)
            continue;
        for (; *allowed; allowed++)
            if (strcmp(*allowed, known[i].name) == 0)
                return &known[i];
        return strcmp(known[i].name, "--help") == 0 ? &known[i] : NULL;
    }
    return NULL;
}

bool cli_options(int argc, char **argv, const char *const *allowed, struct options *out)
{
    int i = 1;
    *out = (struct options){0};
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--") == 0) {
            i++;
            break;
        }
        if (strcmp(word, "-h") == 0)
            word = "--help";
        const char *equals = strchr(word, '=');
        const struct option *option = find(word, equals ? (size_t)(equals - word) : strlen(word), allowed);
        if (!option) {
            fprintf(stderr, "errand %s: unknown option %s; see errand help\n", argv[0], word);
            return false;
        }
        char *field = (char *)out + option->offset;
        if (option->flag && equals) {
            fprintf(stderr, "errand %s: %s takes no value\n", argv[0], option->name);
            return false;
        }
        if (option->flag) {
            *(bool *)field = true;
        } else if (equals) {
            *(const char **)field = equals + 1;
        } else if (i + 1 < argc) {
            *(const char **)field = argv[++i];
        } else {
            fprintf(stderr, "errand %s: %s needs a value\n", argv[0], option->name);
            return false;
        }
    }
    out->arguments = argv + i;
    out->argument_count = argc - i;
    return true;
}

void cli_print_faults(const char *file, const struct faults *faults)
{
    for (int i = 0; i < faults->count; i++) {
        const struct fault *fault = &faults->items[i];
        if (fault->line)
            fprintf(stderr, "%s:%d: ", file ? file : "errand.yaml", fault->line);
        fprintf(stderr, "%s%s%s\n", fault->pointer, fault->pointer[0] ? ": " : "", fault->detail);
    }
    if (faults->total > faults->count)
        fprintf(stderr, "and %d more\n", faults->total - faults->count);
}

struct config *cli_config(const struct config_flags *flags)
{
    struct faults faults = {0};
    struct config *config = config_load(flags, &faults);
    if (!config)
        cli_print_faults(flags->config, &faults);
    faults_release(&faults);
    return config;
}
