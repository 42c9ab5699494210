/* The configuration's keys: the table, and how its less simple values are read.
 * values.c has addresses, paths and hosts, tokens.c the tokens, log.c those of the log.
 *
 * Threads: no shared state. */
#pragma once

#include "base/keys.h"
#include "server/config/config.h"

/* Fills a struct config, all but `tasks`, `pools`, `callbacks` and `defaults`, which
 * registry_parse() reads, and `schedules`, which schedule_list_parse() does. */
extern const struct key config_keys[];

/* Of `log`, which fill a struct config. config_settle_log() tells each task what is logged of
 * its turns. */
extern const struct key config_log_keys[];
void config_settle_log(struct config *config);

/* Of one token, which fill a struct token. */
extern const struct key config_token_keys[];

/* Values of `listen`, `url`, `store`, `hosts`, `cors.origins` and `tokens`. */
bool config_parse_listen(struct span text, const char *folder, void *target, struct reason *why);
bool config_parse_store(struct span text, const char *folder, void *target, struct reason *why);
bool config_check_host(char *text, struct reason *why);
bool config_check_origin(char *text, struct reason *why);
bool config_check_url(char *text, struct reason *why);
void config_read_tokens(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);

/* Sets every key to its default. */
void config_set_defaults(struct config *config);

/* Where a value came from: the file's pointer and line, a flag, a variable. */
struct config_origin {
    const char *pointer;
    int line;
};

/* What no single key can see: an open address without tokens, a store in a
 * folder that is not there. */
void config_check(const struct config *config, struct config_origin listen, struct config_origin store,
                  struct faults *faults);

/* Frees what the keys own. */
void config_release_keys(struct config *config);
