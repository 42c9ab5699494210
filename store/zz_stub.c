#include "store/group.h"
#include "store/hold.h"
#include "store/internal.h"
const char *group_status_name(enum group_status status){static const char*n[]={"held","running","succeeded","failed","cancelled"};return n[status];}
const char *group_mode_name(enum group_mode mode){static const char*n[]={"","parallel","chain","graph"};return n[mode];}
void op_group_init(struct op_group *op, struct group_submission *group, struct submission *items, int count){(void)op,(void)group,(void)items,(void)count;}
void op_group_change_init(struct op_group_change *op, enum group_change what, int64_t id){(void)op,(void)what,(void)id;}
void op_release_init(struct op_release *op, int64_t id){(void)op,(void)id;}
enum err reader_group(struct reader *r, int64_t id, struct group_row *out){(void)r,(void)id,(void)out;return ERR_NOT_FOUND;}
enum err reader_group_args(struct reader *r, int64_t id, struct buf *out){(void)r,(void)id,(void)out;return ERR_NOT_FOUND;}
enum err reader_group_ids(struct reader *reader, int64_t id, int64_t after, int limit, void (*member)(void *context, int64_t id), void *context){(void)reader,(void)id,(void)after,(void)limit,(void)member,(void)context;return OK;}
enum err reader_group_results(struct reader *reader, int64_t id, bool by_completion, int64_t position, int limit, bool (*row)(void *context, const struct group_result *row), void *context){(void)reader,(void)id,(void)by_completion,(void)position,(void)limit,(void)row,(void)context;return OK;}
