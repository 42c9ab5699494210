/* Of a turn's address: POST …/suspend ends it, to go on later; GET …/woken is
 * what it started with, whole. */
#pragma once

#include "server/http/request.h"

handler_fn turn_suspend;
handler_fn turn_woken;
