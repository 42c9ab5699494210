/* A fault was found: it is said with what repeats it, and the program ends. */
#pragma once

/* What `fault` says at the end of its line: how this very run is repeated. */
extern char fault_repeat[128];

void fault(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
