/* Tables of keys: one static table says what an object may hold, whether it comes
 * as YAML (the configuration, with lines) or as JSON text (the body of a request),
 * and validates it, documents it, and frees what was read.
 *
 *     static const struct key pool_keys[] = {
 *         {.name = "size", .type = KEY_INT, .default_text = "4", .min = 1, .max = 64,
 *          .offset = offsetof(struct pool, size), .help = "how many"},
 *         {0},
 *     };
 *     keys_set_defaults(pool_keys, &pool, folder);
 *     keys_read(&in, item, "/pool", (struct key_section[]){{.keys = pool_keys, .target = &pool}}, 1);
 *     keys_release(pool_keys, &pool);
 *
 * The defaults are read from the very text that keys_add_yaml() prints, so the
 * two cannot differ. Faults name everything that is wrong, unknown keys with
 * the nearest known one.
 *
 * From a body texts are borrowed, so that nothing is copied:
 *
 *     static const struct key patch_keys[] = {
 *         {.name = "priority", .type = KEY_INT, .max = 127, .offset = offsetof(struct patch, priority)},
 *         {0},
 *     };
 *     struct keys_json in = {&faults, &arena};
 *     uint64_t given = keys_read_json(&in, NULL, body, patch_keys, &patch);
 *
 * Threads: no shared state. A target starts as all zeros; setting a key frees
 * what it held. */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/yaml.h"

enum key_type {
    KEY_TEXT,     /* char *, owned; min..max bytes that pass `check`, no control characters */
    KEY_PATH,     /* char *, owned, absolute: relative ones start at the folder */
    KEY_INT,      /* int, min..max */
    KEY_COUNT,    /* int64_t, min..max */
    KEY_SIZE,     /* int64_t bytes, min..max: 4096, 64KiB, 1MiB, 2GiB */
    KEY_DURATION, /* int64_t milliseconds, min..max: 250ms, 1h30m */
    KEY_NUMBER,   /* double, min..max */
    KEY_WORD,     /* int or an enum: the index in `words` */
    KEY_LIST,     /* char **, owned, NULL-terminated; each element passes `check` */
    KEY_MAP,      /* a mapping of `members`, whose offsets count from the same target */
    KEY_PARSED,   /* a scalar that `parse` reads */
    KEY_OTHER,    /* anything, which `read` reads; shown with its `members` if it has any */
    /* of bodies alone: */
    KEY_SPAN,  /* struct span, decoded, min..max characters without NUL; points into the body or the arena */
    KEY_BOOL,  /* bool */
    KEY_TIME,  /* int64_t, RFC 3339 */
    KEY_VALUE, /* struct span, any JSON */
};

enum key_path { PATH_ANY, PATH_FILE /* a file that can be read */, PATH_FOLDER /* that exists */ };

struct key;
struct keys_json;
struct keys_place;

/* What is being read. */
struct keys_input {
    const struct yaml *doc;
    const char *folder; /* absolute: where relative paths start */
    struct faults *faults;
};

struct key {
    const char *name; /* NULL ends the table */
    enum key_type type;
    const char *default_text; /* the default as one line of YAML; NULL: none */
    const char *example;      /* shown in place of a default */
    const char *help;         /* half a sentence */
    const char *each;         /* of a KEY_OTHER that holds many: what stands before each, "-" or "NAME:" */
    size_t offset;            /* where it goes in the target */
    int64_t min, max;         /* both 0: any */
    bool none;                /* `none` is allowed, and stored as 0 */
    bool required;
    bool nullable; /* of a body: null is allowed; it is given, and the target stays as it was */
    enum key_path path;
    const char *const *words; /* NULL-terminated */
    const struct key *members;
    bool (*check)(char *text, struct reason *why); /* may write over the text */
    bool (*parse)(struct span text, const char *folder, void *target, struct reason *why);
    void (*read)(const struct keys_input *in, const cJSON *item, const char *pointer, void *target);
    void (*read_json)(const struct keys_json *in, const struct keys_place *at, struct span value, void *target);
};

/* One table and where its values go. A mapping may be read with several. */
struct key_section {
    const struct key *keys;
    void *target;
    bool lenient; /* required ones may be missing */
    /* These keys don't belong here: says why, of one of them. NULL: they do. */
    void (*refuse)(const char *name, const void *target, struct reason *why);
};

/* Reads a mapping. A fault for everything that is wrong; what is right is set. */
void keys_read(const struct keys_input *in, const cJSON *mapping, const char *pointer,
               const struct key_section *sections, int section_count);

/* Sets a scalar (KEY_TEXT .. KEY_WORD, KEY_PARSED) from text that came from a
 * flag or a variable. False with the reason if it is wrong. */
bool keys_set_text(const struct key *key, struct span text, const char *folder, void *target, struct reason *why);

/* The key of that name, NULL if there is none. */
const struct key *keys_find(const struct key *keys, const char *name);

/* Sets every key that has a `default_text`. Paths start at the folder. Aborts on a
 * table whose defaults are not valid: a test of it finds that. */
void keys_set_defaults(const struct key *keys, void *target, const char *folder);

/* Frees what KEY_TEXT, KEY_PATH and KEY_LIST own, in nested mappings too. */
void keys_release(const struct key *keys, void *target);

/* Appends the table as YAML with comments, each line indented by `indent` (and
 * after a `#` if `comment`). */
void keys_add_yaml(struct buf *out, const struct key *keys, int indent, bool comment);

/* Appends the values as JSON members, without braces: `none` and absent ones
 * left out, durations and sizes with units, paths, KEY_PARSED and KEY_OTHER
 * left out. */
void keys_add_json(struct buf *out, const struct key *keys, const void *target);

/* A faults-pointer: parent + "/" + the escaped key. The caller frees it. */
char *keys_pointer(const char *parent, const char *key);

/* The text of a scalar that may stand for a text: strings, and numbers with
 * their own digits. An absent span for everything else. */
struct span keys_text(const cJSON *item);

/* --- from a body ----------------------------------------------------------------- */

/* Scalars are read by the same table as a configuration's, KEY_MAP and KEY_OTHER
 * (by `read_json`) too; KEY_LIST has no form here. */

struct keys_json {
    struct faults *faults;
    struct buf *arena; /* decoded texts: the caller has it as long as what was read */
};

/* Where a value stands, for its pointer: a chain up to the whole (NULL). */
struct keys_place {
    const struct keys_place *parent;
    struct span key; /* still escaped; absent: an element of an array */
    int index;
};

/* Reads an object that json_check() has passed; the table has at most 64 keys.
 * Returns the bits (1 << index in the table) of those that were there, right or
 * wrong. `at` is NULL for the whole body, and only then room is made in the
 * arena: texts read before with the same arena move. */
uint64_t keys_read_json(const struct keys_json *in, const struct keys_place *at, struct span value,
                        const struct key *keys, void *target);

/* Adds a fault at that place. */
void keys_fault(const struct keys_json *in, const struct keys_place *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For `read_json`: any text, a NUL included, whatever its length; absent with a fault if it
 * is no string. */
struct span keys_json_string(const struct keys_json *in, const struct keys_place *at, struct span value);

/* The same: a string's text as KEY_SPAN reads it, or a fault and false. */
bool keys_json_text(const struct keys_json *in, const struct keys_place *at, struct span value, int64_t min,
                    int64_t max, struct span *out);

/* The same: an id; and an array of 1 to `max`, for which there is room in `ids`: how many there
 * are, each once, in the order asked. */
bool keys_json_id(const struct keys_json *in, const struct keys_place *at, struct span value, int64_t *id);
int keys_json_ids(const struct keys_json *in, const struct keys_place *at, struct span value, int max,
                  int64_t *ids);
