#define PCRE2_CODE_UNIT_WIDTH 8
#include "workers/tasks/bounds.h"

#include <inttypes.h>
#include <pcre2.h>
#include <stdlib.h>

/* A pattern must not cost much whatever it is tried on: a text is tried at each
 * of its places, unless the pattern begins with ^. */
enum {
    PATTERN_MAX = 1000,
    STEPS_ANCHORED = 100000,
    STEPS_ANYWHERE = 2000, /* at each place */
    TEXT_ANYWHERE = 4096,  /* bytes */
    HEAP_KIB = 1024,
    LENGTH_MAX = 1 << 30,
};

struct bounds {
    pcre2_code *pattern;
    char *pattern_text;
    bool anchored;
    char *minimum, *maximum;        /* as they are written; NULL: none */
    int64_t min_length, max_length; /* of characters; -1: none */
};

static const char *const names[] = {"pattern", "minimum", "maximum", "min_length", "max_length"};

bool bounds_knows(const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* --- numbers of any size ----------------------------------------------------------- */

static int compare_whole(struct span a, struct span b)
{
    bool minus_a = a.p[0] == '-', minus_b = b.p[0] == '-';
    a.p += minus_a, a.len -= minus_a;
    b.p += minus_b, b.len -= minus_b;
    bool zero_a = span_is(a, "0"), zero_b = span_is(b, "0");
    if (zero_a && zero_b)
        return 0;
    if ((minus_a && !zero_a) != (minus_b && !zero_b))
        return minus_a && !zero_a ? -1 : 1;
    int order = a.len != b.len ? (a.len < b.len ? -1 : 1) : memcmp(a.p, b.p, a.len);
    return minus_a && !zero_a ? -order : order;
}

static double number_of(struct span text)
{
    char *copy = span_dup(text);
    double number = strtod(copy, NULL);
    free(copy);
    return number;
}

static int compare(struct span a, struct span b)
{
    if (json_is_integer(a) && json_is_integer(b))
        return compare_whole(a, b);
    double x = number_of(a), y = number_of(b);
    return x < y ? -1 : x > y;
}

/* --- the definition ------------------------------------------------------------------ */

struct reading {
    const char *pointer, *name;
    int line;
    struct faults *faults;
};

static void read_pattern(struct bounds *bounds, const cJSON *item, const struct reading *r)
{
    int code;
    uint32_t options;
    PCRE2_SIZE at;
    if (!cJSON_IsString(item) || strlen(item->valuestring) > PATTERN_MAX) {
        faults_add_member(r->faults, r->line, r->pointer, span_of(r->name),
                          "must be a regular expression of at most %d bytes", PATTERN_MAX);
        return;
    }
    bounds->pattern = pcre2_compile((PCRE2_SPTR)item->valuestring, PCRE2_ZERO_TERMINATED,
                                    PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!bounds->pattern) {
        PCRE2_UCHAR text[200];
        pcre2_get_error_message(code, text, sizeof text);
        faults_add_member(r->faults, r->line, r->pointer, span_of(r->name), "at character %zu: %s", at + 1,
                          (char *)text);
        return;
    }
    pcre2_pattern_info(bounds->pattern, PCRE2_INFO_ALLOPTIONS, &options);
    bounds->anchored = options & PCRE2_ANCHORED;
    bounds->pattern_text = xstrdup(item->valuestring);
}

static void read_number(char **out, const struct yaml *doc, const cJSON *item, const struct reading *r)
{
    struct buf text = {0};
    yaml_add_json(&text, item);
    (void)doc;
    if (json_type(buf_span(&text)) == JSON_NUMBER) {
        *out = buf_take(&text);
        return;
    }
    faults_add_member(r->faults, r->line, r->pointer, span_of(r->name), "must be a number");
    buf_release(&text);
}

static void read_length(int64_t *out, const struct yaml *doc, const cJSON *item, const struct reading *r)
{
    char *text = NULL;
    int before = r->faults->total;
    read_number(&text, doc, item, r);
    if (text && (strspn(text, "0123456789") != strlen(text) || strlen(text) > 10 || atoll(text) > LENGTH_MAX))
        faults_add_member(r->faults, r->line, r->pointer, span_of(r->name), "must be a number of characters");
    if (r->faults->total == before)
        *out = atoll(text);
    free(text);
}

static void check_order(const struct bounds *bounds, const struct reading *r)
{
    bool crossed =
        bounds->minimum && bounds->maximum && compare(span_of(bounds->minimum), span_of(bounds->maximum)) > 0;
    if (bounds->min_length >= 0 && bounds->max_length >= 0)
        crossed |= bounds->min_length > bounds->max_length;
    if (crossed)
        faults_add_member(r->faults, r->line, r->pointer, span_of(r->name),
                          "leaves no value: the least is above the most");
}

void bounds_read(struct bounds **at, const struct yaml *doc, const cJSON *item, const char *pointer,
                 struct faults *faults)
{
    struct reading r = {pointer, item->string, yaml_line(doc, item), faults};
    int before = faults->total;
    if (!*at) {
        *at = xcalloc(1, sizeof **at);
        (*at)->min_length = (*at)->max_length = -1;
    }
    struct bounds *bounds = *at;
    if (strcmp(r.name, "pattern") == 0)
        read_pattern(bounds, item, &r);
    else if (strcmp(r.name, "minimum") == 0)
        read_number(&bounds->minimum, doc, item, &r);
    else if (strcmp(r.name, "maximum") == 0)
        read_number(&bounds->maximum, doc, item, &r);
    else if (strcmp(r.name, "min_length") == 0)
        read_length(&bounds->min_length, doc, item, &r);
    else
        read_length(&bounds->max_length, doc, item, &r);
    if (faults->total == before)
        check_order(bounds, &r);
}

void bounds_free(struct bounds *bounds)
{
    if (!bounds)
        return;
    pcre2_code_free(bounds->pattern);
    free(bounds->pattern_text);
    free(bounds->minimum);
    free(bounds->maximum);
    free(bounds);
}

void bounds_check_type(const struct bounds *bounds, bool text, bool number, int line, const char *pointer,
                       struct faults *faults)
{
    if (bounds && !text && (bounds->pattern || bounds->min_length >= 0 || bounds->max_length >= 0))
        faults_add(faults, line, pointer, "`pattern`, `min_length` and `max_length` are for `type: string`");
    if (bounds && !number && (bounds->minimum || bounds->maximum))
        faults_add(faults, line, pointer, "`minimum` and `maximum` are for `type: integer` and `type: number`");
}

/* --- the check ------------------------------------------------------------------------- */

static bool range_fits(const struct bounds *bounds, struct span value, struct reason *why)
{
    if (bounds->minimum && compare(value, span_of(bounds->minimum)) < 0) {
        reason_set(why, "must be at least %s", bounds->minimum);
        return false;
    }
    if (bounds->maximum && compare(value, span_of(bounds->maximum)) > 0) {
        reason_set(why, "must be at most %s", bounds->maximum);
        return false;
    }
    return true;
}

static bool length_fits(const struct bounds *bounds, struct span text, struct reason *why)
{
    int64_t length = 0;
    for (size_t i = 0; i < text.len; i++)
        length += ((unsigned char)text.p[i] & 0xC0) != 0x80;
    if (bounds->min_length >= 0 && length < bounds->min_length) {
        reason_set(why, "must have at least %" PRId64 " characters", bounds->min_length);
        return false;
    }
    if (bounds->max_length >= 0 && length > bounds->max_length) {
        reason_set(why, "must have at most %" PRId64 " characters", bounds->max_length);
        return false;
    }
    return true;
}

static int match(const struct bounds *bounds, struct span text)
{
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    int code = PCRE2_ERROR_NOMEMORY;
    if (context && data) {
        pcre2_set_match_limit(context, bounds->anchored ? STEPS_ANCHORED : STEPS_ANYWHERE);
        pcre2_set_heap_limit(context, HEAP_KIB);
        code = pcre2_match(bounds->pattern, (PCRE2_SPTR)text.p, text.len, 0, 0, data, context);
    }
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return code;
}

static bool pattern_fits(const struct bounds *bounds, struct span text, struct reason *why)
{
    if (!bounds->pattern)
        return true;
    if (!bounds->anchored && text.len > TEXT_ANYWHERE) {
        reason_set(why, "must have at most %d bytes for its `pattern` to be looked for in it", TEXT_ANYWHERE);
        return false;
    }
    int code = match(bounds, text);
    if (code == PCRE2_ERROR_NOMATCH)
        reason_set(why, "must match %s", bounds->pattern_text);
    else if (code < 0)
        reason_set(why, "is too much for its `pattern`");
    return code >= 0;
}

bool bounds_fit(const struct bounds *bounds, struct span value, struct reason *why)
{
    if (!bounds)
        return true;
    if (json_type(value) == JSON_NUMBER)
        return range_fits(bounds, value, why);
    if (json_type(value) != JSON_STRING)
        return true;
    struct buf text = {0};
    buf_reserve(&text, value.len + 1);
    json_unescape(value, &text);
    bool fits = length_fits(bounds, buf_span(&text), why) && pattern_fits(bounds, buf_span(&text), why);
    buf_release(&text);
    return fits;
}

bool bounds_let_options(const struct bounds *bounds)
{
    static const char *const options[] = {"-", "-v", "--", "--version", "-o0", "--a=b", "-A", "-1"};
    struct reason why;
    if (!bounds || !bounds->pattern)
        return true;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (pattern_fits(bounds, span_of(options[i]), &why))
            return true;
    return false;
}

/* --- the schema -------------------------------------------------------------------------- */

void bounds_add_schema(struct buf *out, const struct bounds *bounds, const char *comma)
{
    if (!bounds)
        return;
    if (bounds->pattern) {
        buf_addf(out, "%s\"pattern\":", comma);
        json_add_string(out, span_of(bounds->pattern_text));
        comma = ",";
    }
    const char *const numbers[][2] = {{"minimum", bounds->minimum}, {"maximum", bounds->maximum}};
    for (int i = 0; i < 2; i++)
        if (numbers[i][1]) {
            buf_addf(out, "%s\"%s\":%s", comma, numbers[i][0], numbers[i][1]);
            comma = ",";
        }
    const struct {
        const char *name;
        int64_t length;
    } lengths[] = {{"minLength", bounds->min_length}, {"maxLength", bounds->max_length}};
    for (int i = 0; i < 2; i++)
        if (lengths[i].length >= 0) {
            buf_addf(out, "%s\"%s\":%" PRId64, comma, lengths[i].name, lengths[i].length);
            comma = ",";
        }
}
