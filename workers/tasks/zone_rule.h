/* A zone's rule as the footer of its file says it, by POSIX and RFC 8536:
 * "CET-1CEST,M3.5.0,M10.5.0/3", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0". Pure. */
#pragma once

#include "base/buf.h"

/* Offsets are smaller, east and west. */
enum { ZONE_OFFSET_MAX_S = 26 * 3600 };

struct zone_rule_day {
    enum { RULE_JULIAN, RULE_OF_YEAR, RULE_OF_MONTH } by;
    int day;         /* 1 to 365 without leap days; 0 to 365 with them; of the week, 0 is Sunday */
    int month, week; /* 5: the last */
    int time;        /* seconds from midnight, on the clock that ends there */
};

struct zone_rule {
    int standard, summer; /* offsets; */
    bool has_summer;      /* if so, between these: */
    struct zone_rule_day begins, ends;
};

/* False: it is none. */
bool zone_rule_read(struct span text, struct zone_rule *out);

/* When summer begins and ends in a year. */
int64_t zone_rule_begins(const struct zone_rule *rule, int64_t year);
int64_t zone_rule_ends(const struct zone_rule *rule, int64_t year);
