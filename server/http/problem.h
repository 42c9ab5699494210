/* The kinds of problems and their titles. Problems themselves: problem_add() in
 * http.h. */
#pragma once

/* The title of a type such as "not-found"; "Problem" if it is none of ours. */
const char *problem_title(const char *type);
