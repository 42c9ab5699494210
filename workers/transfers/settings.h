/* What a configuration says of requests that go out, whosever they are: texts that may
 * stand elsewhere, secrets, proxies.
 *
 * Threads: no shared state. */
#pragma once

#include "base/buf.h"
#include "base/keys.h"

enum { SETTINGS_TEXT_BYTES = 8 * 1024 };

/* A text, {file: PATH} or {env: NAME}: the caller's. NULL with the fault. */
char *settings_text(const struct keys_input *in, const cJSON *item, const char *pointer);

/* A secret that signs by the Standard Webhooks rules, whsec_BASE64, as its bytes; nothing with
 * the fault. */
void settings_secret(const struct keys_input *in, const cJSON *item, const char *pointer, struct buf *out);
void settings_secret_release(struct buf *secret);

/* Of a key: is it the address of a proxy? */
bool settings_check_proxy(char *text, struct reason *why);
