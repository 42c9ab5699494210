#include "workers/tasks/params.h"
#include "base/nearest.h"
#include "workers/tasks/bounds.h"
#include "workers/tasks/reference.h"

#include <stdlib.h>

struct param {
    char *name;
    size_t name_len;
    enum param_type type;
    struct buf prefix;     /* "name": as it is written */
    struct buf standard;   /* the default as JSON, empty: the parameter is required */
    struct buf choices;    /* the enum as a JSON array, empty: any value */
    struct bounds *bounds; /* NULL: none */
    char *description;
};

struct params {
    int count;
    struct param items[];
};

enum { PARAM_NAME_MAX = 64, DESCRIPTION_MAX = 1000 };

static const char *const type_names[] = {"any", "string", "integer", "number", "boolean", "array", "object"};
static const char *const type_phrases[] = {"any value",     "a string", "an integer", "a number",
                                           "true or false", "an array", "an object"};
enum { TYPES = sizeof(type_names) / sizeof(type_names[0]) };

static const char *value_phrase(struct span value)
{
    switch (json_type(value)) {
    case JSON_NULL: return "null";
    case JSON_FALSE: return "false";
    case JSON_TRUE: return "true";
    case JSON_STRING: return "a string";
    case JSON_ARRAY: return "an array";
    case JSON_OBJECT: return "an object";
    case JSON_NUMBER: break;
    }
    return json_is_integer(value) ? "an integer" : "a number with a fraction or an exponent";
}

static bool type_fits(enum param_type type, struct span value)
{
    enum json_type is = json_type(value);
    switch (type) {
    case PARAM_ANY: return true;
    case PARAM_STRING: return is == JSON_STRING;
    case PARAM_INTEGER: return is == JSON_NUMBER && json_is_integer(value);
    case PARAM_NUMBER: return is == JSON_NUMBER;
    case PARAM_BOOLEAN: return is == JSON_TRUE || is == JSON_FALSE;
    case PARAM_ARRAY: return is == JSON_ARRAY;
    case PARAM_OBJECT: return is == JSON_OBJECT;
    }
    return false;
}

/* Neither escapes nor white space nor the order of members make another value. */
static bool same_value(struct span a, struct span b)
{
    struct buf one = {0}, other = {0};
    if (a.len == b.len && memcmp(a.p, b.p, a.len) == 0)
        return true;
    if (json_type(a) != json_type(b) || json_type(a) < JSON_STRING)
        return false;
    json_add_canonical(&one, a, NULL);
    json_add_canonical(&other, b, NULL);
    bool same = one.len == other.len && memcmp(one.data, other.data, one.len) == 0;
    buf_release(&one);
    buf_release(&other);
    return same;
}

static bool choice_fits(const struct param *param, struct span value)
{
    if (param->choices.len == 0)
        return true;
    struct json_iter it = json_iter(buf_span(&param->choices));
    struct span choice;
    while (json_element(&it, &choice))
        if (same_value(choice, value))
            return true;
    return false;
}

/* ---- the definition ---- */

static bool name_is_good(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return n > 0 && n <= PARAM_NAME_MAX && name[n] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

/* What one parameter's definition is being read with. */
struct reading {
    const struct yaml *doc;
    const char *pointer; /* of the parameter */
    struct faults *faults;
};

static void read_type(const struct reading *r, struct param *param, const cJSON *item, const char *pointer)
{
    int line = yaml_line(r->doc, item);
    if (!cJSON_IsString(item)) {
        faults_add(r->faults, line, pointer,
                   "the type must be a word: any, string, integer, number, boolean, "
                   "array or object");
        return;
    }
    struct nearest near = nearest_to(span_of(item->valuestring));
    for (int i = 0; i < TYPES; i++) {
        if (strcmp(item->valuestring, type_names[i]) == 0) {
            param->type = (enum param_type)i;
            return;
        }
        nearest_try(&near, type_names[i]);
    }
    faults_add(r->faults, line, pointer,
               "`%s` is no type: any, string, integer, number, boolean, array or object" NEAREST_FORMAT,
               item->valuestring, NEAREST_ARGS(near));
}

static void read_choices(const struct reading *r, struct param *param, const cJSON *item)
{
    int line = yaml_line(r->doc, item);
    if (!cJSON_IsArray(item) || !item->child) {
        faults_add_member(r->faults, line, r->pointer, SPAN("enum"), "must be a list of at least one value");
        return;
    }
    yaml_add_json(&param->choices, item);
    struct json_iter it = json_iter(buf_span(&param->choices));
    struct span choice;
    while (json_element(&it, &choice))
        if (!type_fits(param->type, choice))
            faults_add_member(r->faults, line, r->pointer, SPAN("enum"), "%.*s is not %s", (int)choice.len,
                              choice.p, type_phrases[param->type]);
}

static void read_standard(const struct reading *r, struct param *param, const cJSON *item)
{
    int line = yaml_line(r->doc, item);
    struct reason why;
    yaml_add_json(&param->standard, item);
    struct span value = buf_span(&param->standard);
    if (!type_fits(param->type, value))
        faults_add_member(r->faults, line, r->pointer, SPAN("default"), "must be %s, not %s",
                          type_phrases[param->type], value_phrase(value));
    else if (!choice_fits(param, value))
        faults_add_member(r->faults, line, r->pointer, SPAN("default"), "must be one of the `enum` values");
    else if (!bounds_fit(param->bounds, value, &why))
        faults_add_member(r->faults, line, r->pointer, SPAN("default"), "%s", why.text);
}

static void read_description(const struct reading *r, struct param *param, const cJSON *item)
{
    if (cJSON_IsString(item) && strlen(item->valuestring) <= DESCRIPTION_MAX)
        param->description = xstrdup(item->valuestring);
    else
        faults_add_member(r->faults, yaml_line(r->doc, item), r->pointer, SPAN("description"),
                          "must be a text of at most %d bytes", DESCRIPTION_MAX);
}

/* The long form. The type comes first, whatever the order in the file: the
 * other keys are checked against it. */
static void read_mapping(const struct reading *r, struct param *param, const cJSON *item)
{
    static const char *const known[] = {"type", "default", "description", "enum"};
    const cJSON *found[4] = {NULL};

    for (const cJSON *member = item->child; member; member = member->next) {
        struct nearest near = nearest_to(span_of(member->string));
        int k = 0;
        while (k < 4 && strcmp(member->string, known[k]) != 0)
            nearest_try(&near, known[k++]);
        if (k < 4)
            found[k] = member;
        else if (bounds_knows(member->string))
            bounds_read(&param->bounds, r->doc, member, r->pointer, r->faults);
        else
            faults_add_member(r->faults, yaml_line(r->doc, member), r->pointer, near.word,
                              "unknown key `%s`" NEAREST_FORMAT, member->string, NEAREST_ARGS(near));
    }

    int before = r->faults->total;
    if (found[0]) {
        struct buf pointer = {0};
        buf_adds(&pointer, r->pointer);
        buf_addl(&pointer, "/type");
        read_type(r, param, found[0], buf_cstr(&pointer));
        buf_release(&pointer);
    }
    bounds_check_type(param->bounds, param->type == PARAM_STRING,
                      param->type == PARAM_INTEGER || param->type == PARAM_NUMBER, yaml_line(r->doc, item),
                      r->pointer, r->faults);
    bool typed = r->faults->total == before;
    if (found[2])
        read_description(r, param, found[2]);
    if (found[3] && typed)
        read_choices(r, param, found[3]);
    if (found[1] && typed)
        read_standard(r, param, found[1]);
}

static void read_param(struct param *param, const struct yaml *doc, const cJSON *item, const char *parent,
                       struct faults *faults)
{
    struct buf pointer = {0};
    buf_adds(&pointer, parent);
    pointer_add(&pointer, span_of(item->string));
    struct reading r = {doc, buf_cstr(&pointer), faults};
    int line = yaml_line(doc, item);

    param->name = xstrdup(item->string);
    param->name_len = strlen(item->string);
    param->type = PARAM_ANY;
    if (!name_is_good(item->string))
        faults_add(faults, line, r.pointer,
                   "`%s` is no parameter name: 1 to %d letters, digits and _, no digit first", item->string,
                   PARAM_NAME_MAX);
    else {
        json_add_string(&param->prefix, span_of(item->string));
        buf_addc(&param->prefix, ':');
    }

    if (cJSON_IsObject(item))
        read_mapping(&r, param, item);
    else
        read_type(&r, param, item, r.pointer);
    buf_release(&pointer);
}

struct params *params_parse(const struct yaml *doc, const cJSON *item, const char *pointer, struct faults *faults)
{
    int before = faults->total;
    if (!cJSON_IsObject(item)) {
        faults_add(faults, yaml_line(doc, item), pointer,
                   "must be a mapping of names to types; `{}` is no parameters at all");
        return NULL;
    }
    int count = cJSON_GetArraySize(item);
    if (count > PARAMS_MAX) {
        faults_add(faults, yaml_line(doc, item), pointer, "%d parameters are more than %d", count, PARAMS_MAX);
        return NULL;
    }

    struct params *params = xcalloc(1, sizeof(*params) + (size_t)count * sizeof(params->items[0]));
    for (const cJSON *member = item->child; member; member = member->next)
        read_param(&params->items[params->count++], doc, member, pointer, faults);
    if (faults->total == before)
        return params;
    params_free(params);
    return NULL;
}

void params_free(struct params *params)
{
    if (!params)
        return;
    for (int i = 0; i < params->count; i++) {
        struct param *param = &params->items[i];
        free(param->name);
        free(param->description);
        bounds_free(param->bounds);
        buf_release(&param->prefix);
        buf_release(&param->standard);
        buf_release(&param->choices);
    }
    free(params);
}

/* ---- binding ---- */

/* The index of the name, -1 if there is none. Clients send names in order, so
 * the search starts where the last one ended. */
static int find(const struct params *params, struct span name, int start)
{
    for (int i = start; i < params->count; i++)
        if (params->items[i].name_len == name.len && memcmp(params->items[i].name, name.p, name.len) == 0)
            return i;
    for (int i = 0; i < start && i < params->count; i++)
        if (params->items[i].name_len == name.len && memcmp(params->items[i].name, name.p, name.len) == 0)
            return i;
    return -1;
}

bool params_has(const struct params *params, struct span name)
{
    return find(params, name, 0) >= 0;
}

int params_position(const struct params *params, struct span name)
{
    return find(params, name, 0);
}

static bool choices_let_options(const struct param *param)
{
    struct json_iter it = json_iter(buf_span(&param->choices));
    struct span choice;
    while (json_element(&it, &choice))
        if (choice.len > 2 && choice.p[0] == '"' && choice.p[1] == '-')
            return true;
    return false;
}

bool params_let_options(const struct params *params, struct span name)
{
    int i = params ? find(params, name, 0) : -1;
    if (i < 0)
        return true;
    const struct param *param = &params->items[i];
    if (param->type != PARAM_STRING && param->type != PARAM_ANY)
        return false;
    return param->choices.len ? choices_let_options(param) : bounds_let_options(param->bounds);
}

/* What is bound to what. */
struct binding {
    const struct params *params;
    const struct params_given *given;
    struct span values[PARAMS_MAX];
    struct faults *faults;
};

static bool value_fits(const struct param *param, struct span value, bool references)
{
    struct reason why;
    bool of_type = type_fits(param->type, value);
    if (of_type && choice_fits(param, value) && bounds_fit(param->bounds, value, &why))
        return true;
    return references && (reference_is(value) || (of_type && reference_within(value)));
}

static void refuse_value(const struct param *param, struct span value, const char *parent, struct span key,
                         struct faults *faults)
{
    struct reason why;
    if (!type_fits(param->type, value))
        faults_add_member(faults, 0, parent, key, "`%s` must be %s, not %s", param->name,
                          type_phrases[param->type], value_phrase(value));
    else if (choice_fits(param, value) && !bounds_fit(param->bounds, value, &why))
        faults_add_member(faults, 0, parent, key, "`%s` %s", param->name, why.text);
    else
        faults_add_member(faults, 0, parent, key, "`%s` must be one of %.*s", param->name, (int)param->choices.len,
                          param->choices.data);
}

static void refuse_name(const struct params *params, struct span key, const char *parent, struct faults *faults)
{
    struct nearest near = nearest_to(key);
    if (faults->count < FAULTS_MAX) /* what is not shown needs no advice */
        for (int i = 0; i < params->count; i++)
            nearest_try(&near, params->items[i].name);
    int shown = key.len > 100 ? 100 : (int)key.len;
    faults_add_member(faults, 0, parent, key, "there is no parameter `%.*s`" NEAREST_FORMAT, shown, key.p,
                      NEAREST_ARGS(near));
}

/* What was sent is checked at once, what is shared when it is known what stands over it. */
static void bind_names(struct binding *b, struct span args, const char *pointer, bool sent)
{
    struct json_iter it = json_iter(args);
    struct span key, value;
    struct buf unescaped = {0};
    int next = 0;

    while (json_member(&it, &key, &value)) {
        if (memchr(key.p, '\\', key.len)) {
            unescaped.len = 0;
            json_unescape(key, &unescaped);
            key = buf_span(&unescaped);
        }
        int i = find(b->params, key, next);
        if (i < 0) {
            refuse_name(b->params, key, pointer, b->faults);
            continue;
        }
        b->values[i] = value;
        next = i + 1;
        if (sent && !value_fits(&b->params->items[i], value, b->given->references))
            refuse_value(&b->params->items[i], value, pointer, key, b->faults);
    }
    buf_release(&unescaped);
}

static struct span index_text(char text[static 16], int index)
{
    struct buf digits = {text, 0, 16}; /* an int never makes it grow */
    buf_add_int(&digits, index);
    return (struct span){text, digits.len};
}

static void bind_positions(struct binding *b, struct span args)
{
    struct json_iter it = json_iter(args);
    const struct params *params = b->params;
    const char *pointer = b->given->pointer;
    struct span value;
    char text[16];
    int i = 0;

    for (; json_element(&it, &value); i++) {
        if (i >= params->count)
            continue; /* only counted */
        b->values[i] = value;
        if (!value_fits(&params->items[i], value, b->given->references))
            refuse_value(&params->items[i], value, pointer, index_text(text, i), b->faults);
    }
    if (i > params->count)
        faults_add_member(b->faults, 0, pointer, index_text(text, params->count),
                          "%d values for %d parameter%s: this one and what follows have no name", i, params->count,
                          params->count == 1 ? "" : "s");
}

static void refuse_missing(const struct binding *b, bool named)
{
    for (int i = 0; i < b->params->count; i++) {
        const struct param *param = &b->params->items[i];
        if (b->values[i].p || param->standard.len)
            continue;
        char text[16];
        struct span key = named ? (struct span){param->name, param->name_len} : index_text(text, i);
        faults_add_member(b->faults, 0, b->given->pointer, key, "`%s` is missing: %s", param->name,
                          type_phrases[param->type]);
    }
}

/* Those over which nothing was sent. */
static void check_common(const struct binding *b)
{
    struct span common = b->given->common;
    for (int i = 0; common.p && i < b->params->count; i++) {
        const struct param *param = &b->params->items[i];
        struct span value = b->values[i], name = {param->name, param->name_len};
        bool shared = value.p >= common.p && value.p < common.p + common.len;
        if (value.p && shared && !value_fits(param, value, b->given->sketched))
            refuse_value(param, value, b->given->common_pointer, name, b->faults);
    }
}

static void add_bound(struct buf *out, const struct params *params, const struct span *values)
{
    size_t total = 2;
    for (int i = 0; i < params->count; i++) {
        const struct param *param = &params->items[i];
        total += param->prefix.len + (values[i].p ? values[i].len : param->standard.len) + 1;
    }
    buf_reserve(out, total);

    buf_addc(out, '{');
    for (int i = 0; i < params->count; i++) {
        const struct param *param = &params->items[i];
        if (i > 0)
            buf_addc(out, ',');
        buf_add(out, param->prefix.data, param->prefix.len);
        buf_add_span(out, values[i].p ? values[i] : buf_span(&param->standard));
    }
    buf_addc(out, '}');
}

static enum err bind(struct binding *b, struct span args, struct buf *bound)
{
    int before = b->faults->total;
    bool whole = b->given->references && reference_is(args), named = args.p[0] == '{';

    if (b->given->common.p)
        bind_names(b, b->given->common, b->given->common_pointer, false);
    if (named && !whole)
        bind_names(b, args, b->given->pointer, true);
    else if (args.p[0] == '[')
        bind_positions(b, args);
    else if (!whole) {
        faults_add(b->faults, 0, b->given->pointer,
                   "must be an object (by name) or an array (by position), not %s", value_phrase(args));
        return ERR_INVALID;
    }
    check_common(b);
    if (!whole)
        refuse_missing(b, named);
    if (b->faults->total != before)
        return ERR_INVALID;
    if (!whole)
        add_bound(bound, b->params, b->values);
    return OK;
}

enum err params_bind_given(const struct params *params, const struct params_given *given, struct buf *bound,
                           struct faults *faults)
{
    struct binding b; /* only as much of it as there are parameters is looked at */
    struct span args = given->args;

    b.params = params;
    b.given = given;
    b.faults = faults;
    if (params->count)
        memset(b.values, 0, (size_t)params->count * sizeof(b.values[0]));
    if (args.p)
        args = json_trim(args);
    if (args.len == 0)
        args = SPAN("{}");
    return bind(&b, args, bound);
}

enum err params_bind(const struct params *params, struct span args, const char *pointer, struct buf *bound,
                     struct faults *faults)
{
    struct params_given given = {.args = args, .pointer = pointer};
    return params_bind_given(params, &given, bound, faults);
}

/* ---- the schema ---- */

static void add_param_schema(struct buf *out, const struct param *param)
{
    const char *comma = "";
    buf_add(out, param->prefix.data, param->prefix.len);
    buf_addc(out, '{');
    if (param->type != PARAM_ANY) {
        buf_addf(out, "\"type\":\"%s\"", type_names[param->type]);
        comma = ",";
    }
    if (param->description) {
        buf_addf(out, "%s\"description\":", comma);
        json_add_string(out, span_of(param->description));
        comma = ",";
    }
    if (param->choices.len) {
        buf_addf(out, "%s\"enum\":", comma);
        buf_add_span(out, buf_span(&param->choices));
        comma = ",";
    }
    if (param->bounds) {
        bounds_add_schema(out, param->bounds, comma);
        comma = ",";
    }
    if (param->standard.len) {
        buf_addf(out, "%s\"default\":", comma);
        buf_add_span(out, buf_span(&param->standard));
    }
    buf_addc(out, '}');
}

void params_add_schema(struct buf *out, const struct params *params)
{
    if (!params) {
        buf_addl(out, "true");
        return;
    }
    buf_addl(out, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < params->count; i++) {
        if (i > 0)
            buf_addc(out, ',');
        add_param_schema(out, &params->items[i]);
    }
    buf_addl(out, "},\"required\":[");
    bool first = true;
    for (int i = 0; i < params->count; i++) {
        if (params->items[i].standard.len)
            continue;
        if (!first)
            buf_addc(out, ',');
        first = false;
        json_add_string(out, span_of(params->items[i].name));
    }
    buf_addl(out, "],\"additionalProperties\":false}");
}
