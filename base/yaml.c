/* libyaml's events become a cJSON tree. A stack holds the collections that are
 * open; an entry for each item holds its line and is also, while the item's
 * mapping is open, the way to find its key again. */
#include "base/yaml.h"

#include "base/json.h"
#include <stdlib.h>
#include <yaml.h>

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

enum { DEPTH_MAX = 64, TEXT_MAX_BYTES = 4 << 20 };

struct entry {
    const cJSON *item;
    int line;
    UT_hash_handle by_item;
    UT_hash_handle by_key;
};

struct yaml {
    cJSON *root;
    struct entry *entries; /* by_item */
};

struct collection {
    cJSON *item;
    int index;             /* of a sequence's next item */
    struct entry *members; /* by_key */
    char *key;             /* whose value is next, NULL if a key is next */
    int key_line;
};

struct builder {
    struct yaml *doc;
    struct faults *faults;
    int depth;
    struct collection open[DEPTH_MAX];
};

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

static struct span scalar_text(const yaml_event_t *event)
{
    return (struct span){(const char *)event->data.scalar.value, event->data.scalar.length};
}

static struct collection *innermost(struct builder *b)
{
    return b->depth ? &b->open[b->depth - 1] : NULL;
}

/* --- faults ------------------------------------------------------------- */

/* The place of the value that is next, or of the mapping if a key is. */
static void add_fault(struct builder *b, int line, const char *detail)
{
    struct buf pointer = {0};
    for (int i = 0; i < b->depth; i++) {
        const struct collection *collection = &b->open[i];
        const char *key = i + 1 < b->depth ? collection[1].item->string : collection->key;
        if (cJSON_IsArray(collection->item)) {
            buf_addc(&pointer, '/');
            buf_add_int(&pointer, collection->index);
        } else if (key) {
            pointer_add(&pointer, span_of(key));
        }
    }
    faults_add(b->faults, line, buf_cstr(&pointer), "%s", detail);
    buf_release(&pointer);
}

static int line_at_offset(struct span text, size_t offset)
{
    int line = 1;
    for (size_t i = 0; i < offset && i < text.len; i++)
        line += text.p[i] == '\n';
    return line;
}

/* Is there a tab among the blanks that the line (from 0) begins with? */
static bool is_indented_by_tab(struct span text, size_t line)
{
    const char *p = text.p, *end = text.p + text.len;
    for (; line && p < end; p++)
        line -= *p == '\n';
    while (p < end && *p == ' ')
        p++;
    return p < end && *p == '\t';
}

static void add_parser_fault(struct builder *b, const yaml_parser_t *parser, struct span text)
{
    const char *problem = parser->problem ? parser->problem : "this cannot be read";
    if (parser->error != YAML_READER_ERROR && is_indented_by_tab(text, parser->problem_mark.line))
        faults_add(b->faults, (int)parser->problem_mark.line + 1, "",
                   "the line begins with a tab; YAML is indented with blanks");
    else if (parser->error == YAML_READER_ERROR)
        faults_add(b->faults, line_at_offset(text, parser->problem_offset), "", "%s", problem);
    else if (parser->context)
        faults_add(b->faults, (int)parser->problem_mark.line + 1, "", "%s (%s that starts on line %d)", problem,
                   parser->context, (int)parser->context_mark.line + 1);
    else
        faults_add(b->faults, (int)parser->problem_mark.line + 1, "", "%s", problem);
}

/* --- building ----------------------------------------------------------- */

static cJSON *or_abort(cJSON *item)
{
    if (!item)
        abort();
    return item;
}

static struct entry *remember(struct builder *b, const cJSON *item, int line)
{
    struct entry *entry = xcalloc(1, sizeof *entry);
    entry->item = item;
    entry->line = line;
    HASH_ADD(by_item, b->doc->entries, item, sizeof entry->item, entry);
    return entry;
}

static struct entry *find_member(const struct collection *mapping, const char *key)
{
    struct entry *entry;
    HASH_FIND(by_key, mapping->members, key, strlen(key), entry);
    return entry;
}

/* Puts the item where the next value belongs. */
static void attach(struct builder *b, cJSON *item, int line)
{
    struct collection *parent = innermost(b);
    if (!parent) {
        b->doc->root = item;
        remember(b, item, line);
    } else if (cJSON_IsArray(parent->item)) {
        cJSON_AddItemToArray(parent->item, item);
        remember(b, item, line);
    } else {
        cJSON_AddItemToArray(parent->item, item);
        item->string = parent->key;
        parent->key = NULL;
        struct entry *entry = remember(b, item, parent->key_line);
        if (!find_member(parent, item->string))
            HASH_ADD_KEYPTR(by_key, parent->members, item->string, strlen(item->string), entry);
    }
}

static void value_ended(struct builder *b)
{
    struct collection *parent = innermost(b);
    if (parent && cJSON_IsArray(parent->item))
        parent->index++;
}

static bool open_collection(struct builder *b, cJSON *item, int line)
{
    if (b->depth == DEPTH_MAX) {
        add_fault(b, line, "values are nested more than 64 deep");
        cJSON_Delete(item);
        return false;
    }
    attach(b, item, line);
    b->open[b->depth++] = (struct collection){.item = item};
    return true;
}

static void close_collection(struct builder *b)
{
    struct collection *collection = &b->open[--b->depth];
    HASH_CLEAR(by_key, collection->members);
    free(collection->key);
}

static void begin_member(struct builder *b, const yaml_event_t *event)
{
    struct collection *mapping = innermost(b);
    mapping->key = span_dup(scalar_text(event));
    mapping->key_line = line_of(event);
    const struct entry *earlier = find_member(mapping, mapping->key);
    if (!earlier)
        return;
    struct buf detail = {0};
    buf_addf(&detail, "the key is already on line %d", earlier->line);
    add_fault(b, mapping->key_line, buf_cstr(&detail));
    buf_release(&detail);
}

static bool is_number(struct span text)
{
    return text.len > 0 && (*text.p == '-' || (*text.p >= '0' && *text.p <= '9')) &&
           json_check(text.p, text.len, 0, NULL) == OK;
}

static cJSON *number_item(struct span text)
{
    cJSON *item = cJSON_CreateNumber(json_double(text));
    if (item)
        item->valuestring = span_dup(text);
    return item;
}

static cJSON *scalar_item(const yaml_event_t *event)
{
    struct span text = scalar_text(event);
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && (text.len == 0 || span_is(text, "~") || span_is(text, "null")))
        return or_abort(cJSON_CreateNull());
    if (plain && (span_is(text, "true") || span_is(text, "false")))
        return or_abort(cJSON_CreateBool(text.p[0] == 't'));
    if (plain && is_number(text))
        return or_abort(number_item(text));
    return or_abort(cJSON_CreateString(text.p));
}

static bool is_key_next(struct builder *b)
{
    const struct collection *parent = innermost(b);
    return parent && cJSON_IsObject(parent->item) && !parent->key;
}

static void refuse_extras(struct builder *b, int line, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor)
        add_fault(b, line, "anchors are not supported");
    if (tag)
        add_fault(b, line, "tags are not supported");
}

/* False if there is no use in reading on. */
static bool take_scalar(struct builder *b, const yaml_event_t *event)
{
    refuse_extras(b, line_of(event), event->data.scalar.anchor, event->data.scalar.tag);
    struct span text = scalar_text(event);
    if (memchr(text.p, '\0', text.len)) {
        add_fault(b, line_of(event), "the character U+0000 cannot be used");
        return false;
    }
    if (is_key_next(b)) {
        begin_member(b, event);
        return true;
    }
    attach(b, scalar_item(event), line_of(event));
    value_ended(b);
    return true;
}

static bool take_start(struct builder *b, const yaml_event_t *event, cJSON *item)
{
    if (is_key_next(b)) {
        add_fault(b, line_of(event), "a key must be a word or a string");
        cJSON_Delete(item);
        return false;
    }
    return open_collection(b, or_abort(item), line_of(event));
}

static bool take_event(struct builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (!b->doc->root)
            return true;
        add_fault(b, line_of(event), "a second document starts here");
        return false;
    case YAML_ALIAS_EVENT: add_fault(b, line_of(event), "aliases are not supported"); return false;
    case YAML_SCALAR_EVENT: return take_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT:
        refuse_extras(b, line_of(event), event->data.sequence_start.anchor, event->data.sequence_start.tag);
        return take_start(b, event, cJSON_CreateArray());
    case YAML_MAPPING_START_EVENT:
        refuse_extras(b, line_of(event), event->data.mapping_start.anchor, event->data.mapping_start.tag);
        return take_start(b, event, cJSON_CreateObject());
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        close_collection(b);
        value_ended(b);
        return true;
    case YAML_STREAM_END_EVENT: return false;
    default: return true;
    }
}

static void build(struct builder *b, struct span text)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.len);
    for (bool more = true; more;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            add_parser_fault(b, &parser, text);
            break;
        }
        more = take_event(b, &event);
        yaml_event_delete(&event);
    }
    while (b->depth)
        close_collection(b);
    yaml_parser_delete(&parser);
}

/* --- the document ------------------------------------------------------- */

struct yaml *yaml_parse(struct span text, struct faults *faults)
{
    int faults_before = faults->total;
    struct yaml *doc = xcalloc(1, sizeof *doc);
    struct builder b = {.doc = doc, .faults = faults};
    if (text.len > TEXT_MAX_BYTES)
        add_fault(&b, 0, "the file is larger than 4 MiB");
    else
        build(&b, text);
    if (faults->total > faults_before) {
        yaml_free(doc);
        return NULL;
    }
    if (!doc->root)
        attach(&b, or_abort(cJSON_CreateObject()), 1);
    return doc;
}

void yaml_free(struct yaml *doc)
{
    if (!doc)
        return;
    struct entry *entry, *next;
    HASH_ITER (by_item, doc->entries, entry, next) {
        HASH_DELETE(by_item, doc->entries, entry);
        free(entry);
    }
    cJSON_Delete(doc->root);
    free(doc);
}

cJSON *yaml_root(const struct yaml *doc)
{
    return doc->root;
}

int yaml_line(const struct yaml *doc, const cJSON *item)
{
    const struct entry *entry;
    HASH_FIND(by_item, doc->entries, &item, sizeof item, entry);
    return entry ? entry->line : 0;
}

static void add_number(struct buf *out, const cJSON *item)
{
    if (item->valuestring)
        buf_adds(out, item->valuestring);
    else
        buf_addf(out, "%.17g", item->valuedouble);
}

static void add_children(struct buf *out, const cJSON *parent)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, parent)
    {
        if (item != parent->child)
            buf_addc(out, ',');
        if (cJSON_IsObject(parent)) {
            json_add_string(out, span_of(item->string));
            buf_addc(out, ':');
        }
        yaml_add_json(out, item);
    }
}

void yaml_add_json(struct buf *out, const cJSON *item)
{
    if (cJSON_IsObject(item)) {
        buf_addc(out, '{');
        add_children(out, item);
        buf_addc(out, '}');
    } else if (cJSON_IsArray(item)) {
        buf_addc(out, '[');
        add_children(out, item);
        buf_addc(out, ']');
    } else if (cJSON_IsString(item)) {
        json_add_string(out, span_of(item->valuestring));
    } else if (cJSON_IsNumber(item)) {
        add_number(out, item);
    } else if (cJSON_IsBool(item)) {
        buf_adds(out, cJSON_IsTrue(item) ? "true" : "false");
    } else {
        buf_addl(out, "null");
    }
}
