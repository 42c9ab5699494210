#include "tests/unit/zones.h"

#include <criterion/criterion.h>
#include <stdio.h>

struct span zone_file_for_tests(const char *name, char data[ZONE_FILE_MAX])
{
    char path[256];
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return (struct span){0};
    size_t len = fread(data, 1, ZONE_FILE_MAX, file);
    fclose(file);
    return (struct span){data, len};
}

struct zone *zone_for_tests(const char *name)
{
    char data[ZONE_FILE_MAX];
    struct zone *zone;
    struct reason why;
    struct span file = zone_file_for_tests(name, data);
    cr_assert(file.p, "no zone %s: is tzdata installed?", name);
    cr_assert_eq(zone_read(file, &zone, &why), OK, "%s: %s", name, why.text);
    return zone;
}
