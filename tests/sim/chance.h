/* Chance that can be repeated: xorshift, from one seed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

/* A seed that is near another gives quite another sequence. */
static inline struct chance chance_from(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15u;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    return (struct chance){seed ? seed : 1};
}

static inline uint64_t draw(struct chance *chance)
{
    uint64_t x = chance->state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return chance->state = x;
}

/* 0 .. sides - 1 */
static inline int dice(struct chance *chance, int sides)
{
    return (int)((draw(chance) >> 16) % (uint64_t)sides);
}

static inline bool one_in(struct chance *chance, int n)
{
    return dice(chance, n) == 0;
}

/* A token that is no other's. */
static inline int64_t draw_token(struct chance *chance)
{
    return (int64_t)(draw(chance) | 1);
}
