#include "server/resources/unended.h"

#include <stdlib.h>

void unended_release(struct unended *unended)
{
    free(unended->items);
    *unended = (struct unended){0};
}

bool unended_has_room(const struct unended *unended)
{
    return unended->count < UNENDED_MAX;
}

/* Of the first that is not below it. Most are added at the end: ids grow. */
static int place_of(const struct unended *unended, int64_t id)
{
    int low = 0, high = unended->count;
    if (high && unended->items[high - 1].id < id)
        return high;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (unended->items[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void make_place(struct unended *unended, int place)
{
    if (unended->count == unended->cap) {
        unended->cap = unended->cap ? unended->cap * 2 : 16;
        unended->items = xrealloc(unended->items, (size_t)unended->cap * sizeof *unended->items);
    }
    memmove(unended->items + place + 1, unended->items + place,
            (size_t)(unended->count - place) * sizeof *unended->items);
    unended->count++;
    unended->at += place < unended->at;
}

void unended_add(struct unended *unended, struct unended_item item)
{
    int place = place_of(unended, item.id);
    bool there = place < unended->count && unended->items[place].id == item.id;
    if (!there && !unended_has_room(unended))
        return;
    if (!there)
        make_place(unended, place);
    if (!there || unended->items[place].removed)
        unended->items[place] = item;
}

void unended_remove(struct unended *unended, int index)
{
    unended->items[index].removed = true;
}

void unended_end_pass(struct unended *unended)
{
    int kept = 0;
    for (int i = 0; i < unended->count; i++)
        if (!unended->items[i].removed)
            unended->items[kept++] = unended->items[i];
    unended->count = kept;
    unended->at = 0;
    if (!kept)
        unended_release(unended);
}
