/* `errand isolated MODULE FUNCTION`: a child of a pool whose bodies are a native task, the
 * C function of that shared object. It speaks workers/sdk/PROTOCOL.md on ERRAND_FD, so a
 * crash, an exit() or a body that never returns costs it alone.
 *
 * Threads: the calling one, which should be the main thread. Blocks until the end. */
#pragma once

/* Returns the exit status: 0 when the server has said `close`, 1 after a line on stderr that
 * says what is wrong with the module, 2 (ISOLATED_ALONE) if nothing is and nobody speaks the protocol here. When the
 * server is gone it ends the process, whatever runs. */
int isolated_serve(const char *module, const char *function);
