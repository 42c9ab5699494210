#include "server/http/cache.h"

#include <stdlib.h>

struct entry {
    uint64_t used; /* 0: the entry is free */
    struct buf key, tag, body;
    const char *content_type;
    char *link;
};

struct http_cache {
    struct entry entries[CACHE_ENTRIES];
    uint64_t clock;
    size_t total;          /* bytes of all bodies */
    struct config *config; /* referenced, so that no other one gets its address */
    uint64_t generation;
};

struct http_cache *cache_new(void)
{
    return xcalloc(1, sizeof(struct http_cache));
}

static void drop(struct http_cache *cache, struct entry *entry)
{
    cache->total -= entry->body.len;
    buf_release(&entry->key);
    buf_release(&entry->tag);
    buf_release(&entry->body);
    free(entry->link);
    *entry = (struct entry){0};
}

void cache_free(struct http_cache *cache)
{
    if (!cache)
        return;
    for (int i = 0; i < CACHE_ENTRIES; i++)
        drop(cache, &cache->entries[i]);
    config_unref(cache->config);
    free(cache);
}

uint64_t cache_generation(struct http_cache *cache, struct config *config)
{
    if (config != cache->config) {
        config_unref(cache->config);
        cache->config = config ? config_ref(config) : NULL;
        cache->generation++;
    }
    return cache->generation;
}

static bool same(const struct buf *kept, struct span wanted)
{
    return kept->len == wanted.len && (wanted.len == 0 || memcmp(kept->data, wanted.p, wanted.len) == 0);
}

static struct entry *find(struct http_cache *cache, struct span key)
{
    for (int i = 0; i < CACHE_ENTRIES; i++)
        if (cache->entries[i].used && same(&cache->entries[i].key, key))
            return &cache->entries[i];
    return NULL;
}

static struct entry *oldest(struct http_cache *cache)
{
    struct entry *best = NULL;
    for (int i = 0; i < CACHE_ENTRIES; i++) {
        struct entry *entry = &cache->entries[i];
        if (entry->used && (!best || entry->used < best->used))
            best = entry;
    }
    return best;
}

static struct entry *room(struct http_cache *cache, size_t bytes)
{
    while (cache->total + bytes > CACHE_TOTAL_MAX)
        drop(cache, oldest(cache));
    for (int i = 0; i < CACHE_ENTRIES; i++)
        if (!cache->entries[i].used)
            return &cache->entries[i];
    struct entry *entry = oldest(cache);
    drop(cache, entry);
    return entry;
}

bool cache_find(struct http_cache *cache, struct span key, struct span tag, struct cache_page *out)
{
    struct entry *entry = find(cache, key);
    if (!entry || !same(&entry->tag, tag))
        return false;
    entry->used = ++cache->clock;
    *out = (struct cache_page){entry->content_type, buf_span(&entry->body), entry->link};
    return true;
}

void cache_put(struct http_cache *cache, struct span key, struct span tag, const struct cache_page *page)
{
    struct entry *entry = find(cache, key);
    if (entry)
        drop(cache, entry);
    if (page->body.len > CACHE_BODY_MAX)
        return;
    entry = room(cache, page->body.len);
    entry->used = ++cache->clock;
    entry->content_type = page->content_type;
    entry->link = page->link ? xstrdup(page->link) : NULL;
    buf_add_span(&entry->key, key);
    buf_add_span(&entry->tag, tag);
    buf_add_span(&entry->body, page->body);
    cache->total += page->body.len;
}
