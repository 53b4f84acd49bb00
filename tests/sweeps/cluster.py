"""A Dask cluster of two workers on this machine: prints its address and their pids.

python -m tests.sweeps.cluster [MODULE]   for the workers to load; ends with its input
python -m tests.sweeps.cluster --none     no workers
"""

import sys

import dask
from distributed import Client, LocalCluster

if __name__ == "__main__":
    none = sys.argv[1:] == ["--none"]
    dask.config.set({"distributed.worker.preload": [] if none else sys.argv[1:]})
    with (
        LocalCluster(
            n_workers=0 if none else 2,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        workers = client.run(lambda: __import__("os").getpid())
        print(cluster.scheduler_address, *workers.values(), flush=True)
        sys.stdin.read()
