#include "workers/kinds/kind.h"

enum err kind_check_args(const struct task *task, struct span args, struct faults *faults)
{
    return task->kind->check_args ? task->kind->check_args(task, args, faults) : OK;
}
