/* Snowflake ids: 63 bits, 41 of milliseconds since 2020-01-01T00:00:00Z, 10
 * of node, 12 of sequence (the layout that Twitter published in 2010). They
 * sort by time. Printed as 13 characters of Crockford's base 32, which sort
 * the same way. */
#pragma once

#include "base/buf.h"

#define ID_EPOCH_MS INT64_C(1577836800000)
enum { ID_TEXT_LEN = 13, ID_NODE_MAX = 1023 };

/* Gives ids that only grow. Owned by whoever gives them (the committer). */
struct id_source {
    int node;
    int64_t last; /* the highest id given, or known to have been given */
};

/* How far a clock may be ahead of the last one that was good, and be followed:
 * a day beyond the time that has passed since, or ten years beyond the last id
 * at a start. One that stays ahead for a day is good after all. */
#define ID_STEP_MAX_MS (INT64_C(24) * 3600 * 1000)
#define ID_REST_MAX_MS (INT64_C(3653) * 24 * 3600 * 1000)

/* The wall clock as ids follow it. Otherwise one wrong moment would stand in all
 * ids that come after it, or end them. Begins with zeros but for last_ms. */
struct id_clock {
    int64_t last_ms; /* the time of the last id when the server started; 0: there is none */
    int64_t good_wall_ms, good_boot_ms;
    int64_t ahead_since_ms, ahead_wall_ms; /* on the boot's clock, since when it is not followed; 0: it is */
};

/* The time for ids that are given now: wall_ms, or what has passed since the
 * last good clock. */
int64_t id_clock_follow(struct id_clock *clock, int64_t wall_ms, int64_t boot_ms);

/* The next id at `now_ms`. A full millisecond borrows from the next; a clock
 * that went back goes on from `last`. */
int64_t id_next(struct id_source *source, int64_t now_ms);

/* The millisecond in which the id was given. */
int64_t id_time_ms(int64_t id);

/* The lowest possible id of that millisecond: what is older has a lower id.
 * Clamped to 0 .. INT64_MAX for times outside the range. */
int64_t id_lowest_at(int64_t at_ms);

/* Exactly 13 characters, upper case, no NUL. */
void id_format(int64_t id, char text[ID_TEXT_LEN]);
void id_add(struct buf *out, int64_t id);

/* Reads 13 characters in either case, with Crockford's I L for 1 and O for 0.
 * False if it is not an id that id_format could have printed. */
bool id_parse(struct span text, int64_t *id);
