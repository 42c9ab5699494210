#include "workers/transfers/settings.h"

#include "base/digest.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SECRET_MIN_BYTES = 24, /* as the Standard Webhooks rules have it */
    SECRET_MAX_BYTES = 64,
};

#define SECRET_PREFIX "whsec_"

/* --- texts that may stand elsewhere -------------------------------------------------- */

/* The first line of it, without its end. NULL with the fault. */
static char *read_file(const struct keys_input *in, const cJSON *item, const char *pointer, const char *name)
{
    struct buf path = {0};
    char text[SETTINGS_TEXT_BYTES + 2];
    if (*name != '/')
        buf_addf(&path, "%s/", in->folder);
    buf_adds(&path, name);
    int fd = open(buf_cstr(&path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "cannot read %s: %s", buf_cstr(&path),
                   strerrordesc_np(error));
    buf_release(&path);
    if (n < 0)
        return NULL;
    struct span line = {text, (size_t)n};
    const char *end = memchr(text, '\n', line.len);
    if (end)
        line.len = (size_t)(end - text);
    if (line.len && line.p[line.len - 1] == '\r')
        line.len--;
    return span_dup(line);
}

static char *read_elsewhere(const struct keys_input *in, const cJSON *item, const char *pointer)
{
    const cJSON *only = item->child;
    bool one = only && !only->next && cJSON_IsString(only);
    if (one && strcmp(only->string, "file") == 0)
        return read_file(in, item, pointer, only->valuestring);
    if (one && strcmp(only->string, "env") == 0) {
        const char *value = getenv(only->valuestring);
        if (value)
            return xstrdup(value);
        faults_add(in->faults, yaml_line(in->doc, item), pointer, "there is no variable %s in the environment",
                   only->valuestring);
        return NULL;
    }
    faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a text, {file: PATH} or {env: NAME}");
    return NULL;
}

char *settings_text(const struct keys_input *in, const cJSON *item, const char *pointer)
{
    if (cJSON_IsObject(item))
        return read_elsewhere(in, item, pointer);
    struct span text = keys_text(item);
    if (text.p)
        return span_dup(text);
    faults_add(in->faults, yaml_line(in->doc, item), pointer, "must be a text, {file: PATH} or {env: NAME}");
    return NULL;
}

/* --- the secret ------------------------------------------------------------------------ */

void settings_secret(const struct keys_input *in, const cJSON *item, const char *pointer, struct buf *out)
{
    char *text = settings_text(in, item, pointer);
    if (!text)
        return;
    size_t n = strlen(SECRET_PREFIX);
    bool good = strncmp(text, SECRET_PREFIX, n) == 0 && base64_decode(span_of(text + n), out) &&
                out->len >= SECRET_MIN_BYTES && out->len <= SECRET_MAX_BYTES;
    if (!good)
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be " SECRET_PREFIX " and %d to %d bytes in base64, as `echo " SECRET_PREFIX
                   "$(openssl rand -base64 32)` prints them",
                   SECRET_MIN_BYTES, SECRET_MAX_BYTES);
    explicit_bzero(text, strlen(text));
    free(text);
}

void settings_secret_release(struct buf *secret)
{
    if (secret->len)
        explicit_bzero(secret->data, secret->len);
    buf_release(secret);
}

/* --- the proxy ------------------------------------------------------------------------- */

bool settings_check_proxy(char *text, struct reason *why)
{
    CURLU *url = curl_url();
    bool good =
        strstr(text, "://") && curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK;
    curl_url_cleanup(url);
    if (!good)
        reason_set(why, "is no URL like http://proxy.example.org:3128 or socks5h://127.0.0.1:1080");
    return good;
}
