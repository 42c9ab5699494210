"""The task `same` as a pool's child; with `bench JOBS`, who submits and waits."""

import sys
import time

from errand import Client, serve, task


@task
def same(number):
    return number


def bench(jobs):
    with Client() as client:
        client.submit("same", 0).wait()
        began = time.perf_counter()
        for number in range(jobs // 5):
            client.submit("same", number)
        submit = jobs // 5 / (time.perf_counter() - began)
        client.submit("same", 0).wait()
        began = time.perf_counter()
        client.submit_all("same", range(jobs))
        bulk = jobs / (time.perf_counter() - began)
        client.submit("same", 0).wait()
        began = time.perf_counter()
        results = client.map("same", range(jobs))
        through = jobs / (time.perf_counter() - began)
        assert [one if isinstance(one, int) else one[0] for one in results] == list(range(jobs))  # C's has the arguments
    print(submit, bulk, through)


if __name__ == "__main__":
    if sys.argv[1:2] == ["bench"]:
        bench(int(sys.argv[2]))
    else:
        serve()
