/* The server: what puts the rooms together. */
#pragma once

#include "server/config/config.h"
#include "server/http/http.h"

/* Every route there is: routes.c. */
extern const struct route server_routes[];

/* The first thing of all, before any other thread is there: from here on no
 * signal ends the process by default. */
void server_block_signals(void);

/* Opens everything, prints where it listens, serves until it is told to stop,
 * and closes everything. Takes the configuration; `flags` is for reloads. An
 * error comes with faults of the configuration, or else with a reason. Call
 * server_block_signals() before. */
MUST_USE enum err server_run(struct config *config, const struct config_flags *flags, struct faults *faults,
                             struct reason *why);
