#include "server/cli/cli.h"

#include "base/log.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>

/* 0 once it was told to stop. */
static int serve(struct config *config, const struct config_flags *flags)
{
    struct reason why = {""};
    struct faults faults = {0};
    char *file = config->file ? xstrdup(config->file) : NULL; /* the server takes the configuration */
    enum err err = server_run(config, flags, &faults, &why);
    if (faults.total)
        cli_print_faults(file, &faults);
    else if (err != OK)
        fprintf(stderr, "errand: %s\n", why.text);
    faults_release(&faults);
    free(file);
    return err == OK ? 0 : 1;
}

int cli_serve(int argc, char **argv)
{
    static const char *const allowed[] = {"--config",        "--listen",    "--store",
                                          "--slots",         "--log-level", "--log-format",
                                          "--log-directory", "--insecure",  NULL};
    struct options options;
    struct reason why;
    if (!cli_options(argc, argv, allowed, &options))
        return 2;
    if (options.help)
        return cli_help(argc, argv);
    if (options.argument_count) {
        fprintf(stderr, "errand serve: unexpected argument %s; see errand help\n", options.arguments[0]);
        return 2;
    }
    server_block_signals();
    struct config *config = cli_config(&options.flags);
    if (!config)
        return 2;
    if (log_open(&config->log, &why) != OK) {
        fprintf(stderr, "errand: %s\n", why.text);
        config_free(config);
        return 1;
    }
    int status = serve(config, &options.flags);
    log_close();
    return status;
}
