/* Files that are part of the program, embedded by tools/embed.sh. */
#pragma once

#include <stddef.h>

extern const unsigned char asset_openapi[]; /* openapi.yaml; not NUL-terminated */
extern const size_t asset_openapi_size;
