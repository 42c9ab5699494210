"""The task `same` for Celery; run with JOBS, who submits and waits."""

import os
import sys
import time

from celery import Celery, group

URL = "redis://127.0.0.1:%s/0" % os.environ["REDIS_PORT"]
app = Celery("celery_jobs", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=32, task_acks_late=True, result_expires=3600)


@app.task(name="same")
def same(number):
    return number


def bench(jobs):
    same.delay(0).get()
    began = time.perf_counter()
    for number in range(jobs // 5):
        last = same.delay(number)
    submit = jobs // 5 / (time.perf_counter() - began)
    last.get()
    began = time.perf_counter()
    everything = group(same.s(number) for number in range(jobs)).apply_async()
    bulk = jobs / (time.perf_counter() - began)
    everything.get()
    began = time.perf_counter()
    everything = group(same.s(number) for number in range(jobs)).apply_async()
    results = everything.get()
    through = jobs / (time.perf_counter() - began)
    assert results == list(range(jobs))
    print(submit, bulk, through)


if __name__ == "__main__":
    bench(int(sys.argv[1]))
