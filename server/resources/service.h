/* The server itself: its health, its version; pausing and stopping it. */
#pragma once

#include "server/http/request.h"

handler_fn service_health;
handler_fn service_ready;
handler_fn service_version;
handler_fn service_openapi;
handler_fn service_pause;
handler_fn service_resume;
handler_fn service_shutdown;
