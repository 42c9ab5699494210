/* The commands of the program: `errand COMMAND [OPTIONS] [ARGUMENTS]`. Each
 * gets argv from its own name on and returns the exit status: 0 done, 1 it
 * failed, 2 it was called wrongly. */
#pragma once

#include "server/config/config.h"

int cli_serve(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_isolated(int argc, char **argv);
int cli_backup(int argc, char **argv);
int cli_token(int argc, char **argv);
int cli_version(int argc, char **argv);
int cli_help(int argc, char **argv);

/* What the options gave: the configuration's flags, and what a command has of
 * its own. */
struct options {
    struct config_flags flags;
    const char *scopes; /* token --scopes */
    bool defaults;      /* check --defaults */
    bool help;
    char **arguments; /* what is left; argument_count of them */
    int argument_count;
};

/* Reads options up to the first argument (or `--`), in the forms `--name
 * value` and `--name=value`. `allowed` names those that the command takes.
 * False after a message on stderr. */
bool cli_options(int argc, char **argv, const char *const *allowed, struct options *out);

/* Loads the configuration; NULL after printing every fault to stderr. */
struct config *cli_config(const struct config_flags *flags);
void cli_print_faults(const char *file, const struct faults *faults);
