/* Preloaded into the server: orphans of its descendants come to it, as to the
 * first process of a container. */
#include <stdlib.h>
#include <sys/prctl.h>

__attribute__((constructor)) static void begin(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    unsetenv("LD_PRELOAD");
}
