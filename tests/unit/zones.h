/* The system's time zones, for tests. */
#pragma once

#include "workers/tasks/zone.h"

/* The caller frees; fails the test if it is not there. */
struct zone *zone_for_tests(const char *name);

/* Absent if it is not there. */
struct span zone_file_for_tests(const char *name, char data[ZONE_FILE_MAX]);
