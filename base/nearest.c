#include "base/nearest.h"

#include <strings.h>

enum { LETTERS_MAX = 64 };

static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c + 32);
    return c == '-' ? '_' : c;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: insertions, deletions, substitutions and swaps of
 * neighbours cost one each. */
static int distance(const char *a, int a_len, const char *b, int b_len)
{
    int rows[3][LETTERS_MAX + 1];
    int *before = rows[0], *last = rows[1], *row = rows[2];

    for (int j = 0; j <= b_len; j++)
        last[j] = j;
    for (int i = 1; i <= a_len; i++) {
        row[0] = i;
        for (int j = 1; j <= b_len; j++) {
            char x = fold(a[i - 1]), y = fold(b[j - 1]);
            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == fold(b[j - 2]) && y == fold(a[i - 2]))
                row[j] = least(row[j], before[j - 2] + 1);
        }
        int *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b_len];
}

/* Is one of them how the other begins? (`int` and `integer`, `warning` and `warn`.) */
static bool is_beginning(struct span word, const char *name)
{
    size_t len = strlen(name);
    if (len > word.len)
        len = word.len;
    return len >= 3 && strncasecmp(name, word.p, len) == 0;
}

/* Is one of them the other's last words? (`retries` and `max_retries`.) */
static bool is_end(struct span word, const char *name)
{
    size_t len = strlen(name);
    if (len > word.len)
        return word.len >= 3 && name[len - word.len - 1] == '_' &&
               strncasecmp(name + len - word.len, word.p, word.len) == 0;
    return len >= 3 && word.len > len && word.p[word.len - len - 1] == '_' &&
           strncasecmp(word.p + word.len - len, name, len) == 0;
}

void nearest_try(struct nearest *near, const char *name)
{
    size_t name_len = strlen(name);
    if (near->word.len == 0 || near->word.len > LETTERS_MAX || name_len > LETTERS_MAX)
        return;

    int d = distance(near->word.p, (int)near->word.len, name, (int)name_len);
    int limit = name_len < 3 ? 0 : name_len < 6 ? 1 : (int)name_len / 3;
    if (d > limit && (is_beginning(near->word, name) || is_end(near->word, name)))
        d = limit;
    if (d <= limit && (!near->name || d < near->distance)) {
        near->name = name;
        near->distance = d;
    }
}
