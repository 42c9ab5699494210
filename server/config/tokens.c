#include "base/digest.h"
#include "server/config/keys.h"

#include <stdlib.h>

enum { TOKENS_MAX = 1000 };

static bool check_token_name(char *text, struct reason *why)
{
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7F) {
            reason_set(why, "must not have spaces or control characters");
            return false;
        }
    return true;
}

static bool parse_sha256(struct span text, const char *folder, void *target, struct reason *why)
{
    struct token *token = target;
    (void)folder;
    if (hex_parse(text, token->sha256, sizeof(token->sha256)))
        return true;
    reason_set(why, "must be 64 hex digits; `errand token NAME` prints such a line");
    return false;
}

static void read_scopes(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    static const struct {
        const char *word;
        unsigned scope;
    } scopes[] = {{"read", SCOPE_READ}, {"submit", SCOPE_SUBMIT}, {"work", SCOPE_WORK}, {"admin", SCOPE_ALL}};
    struct token *token = target;
    if (!cJSON_IsArray(item) || !item->child) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be a list of at least one of read, submit, work and admin");
        return;
    }
    for (const cJSON *element = item->child; element; element = element->next) {
        struct span word = keys_text(element);
        unsigned found = 0;
        for (size_t i = 0; word.p && i < sizeof(scopes) / sizeof(scopes[0]); i++)
            if (span_is(word, scopes[i].word))
                found = scopes[i].scope;
        token->scopes |= found;
        if (!found)
            faults_add(in->faults, yaml_line(in->doc, element), pointer,
                       "%s%.*s%s is not read, submit, work or admin", word.p ? "`" : "an element", (int)word.len,
                       word.p ? word.p : "", word.p ? "`" : "");
    }
}

const struct key config_token_keys[] = {
    {.name = "name",
     .type = KEY_TEXT,
     .required = true,
     .min = 1,
     .max = 100,
     .check = check_token_name,
     .example = "shop",
     .offset = offsetof(struct token, name),
     .help = "whose it is"},
    {.name = "sha256",
     .type = KEY_PARSED,
     .parse = parse_sha256,
     .required = true,
     .example = "9f86d0...",
     .help = "the token's SHA-256 in hex"},
    {.name = "scopes",
     .type = KEY_OTHER,
     .read = read_scopes,
     .required = true,
     .example = "[submit, read]",
     .help = "of read, submit, work, admin (all of them)"},
    {0},
};

static void read_token(const struct keys_input *in, const cJSON *item, const char *pointer, struct config *config)
{
    struct token *token = &config->tokens[config->token_count++];
    int before = in->faults->total;
    keys_read(in, item, pointer, &(struct key_section){.keys = config_token_keys, .target = token}, 1);
    if (in->faults->total != before)
        return;
    for (const struct token *other = config->tokens; other < token; other++) {
        if (other->name && token->name && strcmp(other->name, token->name) == 0)
            faults_add(in->faults, yaml_line(in->doc, item), pointer, "there are two tokens named `%s`",
                       token->name);
        if (memcmp(other->sha256, token->sha256, sizeof(token->sha256)) == 0)
            faults_add(in->faults, yaml_line(in->doc, item), pointer, "`%s` and `%s` are the same token",
                       other->name ? other->name : "", token->name ? token->name : "");
    }
}

void config_read_tokens(const struct keys_input *in, const cJSON *item, const char *pointer, void *target)
{
    struct config *config = target;
    int count = cJSON_GetArraySize(item);
    if ((!cJSON_IsArray(item) && !cJSON_IsNull(item)) || count > TOKENS_MAX) {
        faults_add(in->faults, yaml_line(in->doc, item), pointer,
                   "must be a list of at most %d mappings, {name, sha256, scopes}", TOKENS_MAX);
        return;
    }
    config->tokens = xrealloc(config->tokens, (size_t)(count + 1) * sizeof(*config->tokens));
    memset(config->tokens, 0, (size_t)(count + 1) * sizeof(*config->tokens));
    for (const cJSON *element = item->child; element; element = element->next) {
        struct buf place = {0};
        buf_addf(&place, "%s/%d", pointer, config->token_count);
        read_token(in, element, buf_cstr(&place), config);
        buf_release(&place);
    }
}

const char *scope_name(unsigned scope)
{
    return scope & SCOPE_READ ? "read" : scope & SCOPE_SUBMIT ? "submit" : scope & SCOPE_WORK ? "work" : "admin";
}
