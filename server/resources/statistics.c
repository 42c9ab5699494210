#include "server/resources/statistics.h"

#include <pthread.h>
#include <stdlib.h>

enum { RATE_SECONDS = 10, BUCKETS = 16 /* at least as many */ };

struct tally {
    int64_t submitted, finished, failed;
};

struct statistics {
    pthread_mutex_t lock; /* guards what follows */
    struct tally total;
    struct {
        int64_t second; /* which one is counted here */
        struct tally tally;
    } buckets[BUCKETS];
};

struct statistics *statistics_new(void)
{
    struct statistics *statistics = xcalloc(1, sizeof *statistics);
    pthread_mutex_init(&statistics->lock, NULL);
    return statistics;
}

void statistics_free(struct statistics *statistics)
{
    if (!statistics)
        return;
    pthread_mutex_destroy(&statistics->lock);
    free(statistics);
}

static void add(struct tally *sum, const struct tally *tally)
{
    sum->submitted += tally->submitted;
    sum->finished += tally->finished;
    sum->failed += tally->failed;
}

static struct tally tally_of(const struct change *changes, int count)
{
    struct tally tally = {0};
    for (int i = 0; i < count; i++) {
        const struct change *change = &changes[i];
        tally.submitted += !change->from && change->to;
        tally.finished += change->from != change->to && status_is_final(change->to);
        tally.failed += change->from != change->to && change->to == STATUS_FAILED;
    }
    return tally;
}

void statistics_changed(struct statistics *statistics, const struct change *changes, int count, int64_t now_ms)
{
    struct tally tally = tally_of(changes, count);
    int64_t second = now_ms / 1000;
    int bucket = (int)(second % BUCKETS);
    pthread_mutex_lock(&statistics->lock);
    if (statistics->buckets[bucket].second != second) {
        statistics->buckets[bucket].second = second;
        statistics->buckets[bucket].tally = (struct tally){0};
    }
    add(&statistics->buckets[bucket].tally, &tally);
    add(&statistics->total, &tally);
    pthread_mutex_unlock(&statistics->lock);
}

void statistics_read(struct statistics *statistics, int64_t now_ms, struct statistics_view *out)
{
    struct tally late = {0};
    int64_t second = now_ms / 1000;
    pthread_mutex_lock(&statistics->lock);
    for (int i = 0; i < BUCKETS; i++)
        if (statistics->buckets[i].second <= second && statistics->buckets[i].second > second - RATE_SECONDS)
            add(&late, &statistics->buckets[i].tally);
    struct tally total = statistics->total;
    pthread_mutex_unlock(&statistics->lock);
    *out = (struct statistics_view){
        .submitted = total.submitted,
        .finished = total.finished,
        .failed = total.failed,
        .submitted_rate = (double)late.submitted / RATE_SECONDS,
        .finished_rate = (double)late.finished / RATE_SECONDS,
        .failed_rate = (double)late.failed / RATE_SECONDS,
    };
}
