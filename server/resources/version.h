/* What this program is, written by tools/embed.sh. */
#pragma once

extern const char errand_version[]; /* the text of VERSION: "0.1.0" */
extern const char errand_commit[];  /* 12 digits, "-dirty" after it if so; "unknown" outside git */
