#include "workers/step_list.h"

#include <stdlib.h>

const struct listed_step *step_list_find(const struct step_list *list, struct span name)
{
    for (int i = 0; i < list->count; i++)
        if (span_equal(buf_span(&list->items[i].name), name))
            return &list->items[i];
    return NULL;
}

const struct listed_step *step_list_add(struct step_list *list, struct span name, struct span value)
{
    list->items = xrealloc(list->items, (size_t)(list->count + 1) * sizeof *list->items);
    struct listed_step *step = &list->items[list->count++];
    *step = (struct listed_step){0};
    buf_add_span(&step->name, name);
    buf_add_span(&step->value, value);
    return step;
}

void step_list_release(struct step_list *list)
{
    for (int i = 0; i < list->count; i++) {
        buf_release(&list->items[i].name);
        buf_release(&list->items[i].value);
    }
    free(list->items);
    *list = (struct step_list){0};
}
