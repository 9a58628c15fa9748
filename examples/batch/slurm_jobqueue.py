"""The fit runs here, on a login node or in a job of its own; the workers are jobs of SLURM, by dask-jobqueue.

`adapt` starts jobs when the fit has work for them; the fit waits for them as long as the queue takes. Workers
leave shortly before their time is up, and `adapt` asks for new ones: nothing is lost but the blocks they were
reading. If the whole cluster goes, the exit code is 75, and the same command goes on from the checkpoint.
"""

import os
import sys
from typing import Any

import dask
from dask.distributed import Client
from dask_jobqueue import SLURMCluster

import daskgd


def made(**settings: Any) -> SLURMCluster:
    """Jobs of 16 workers of one thread each; other queues of dask-jobqueue take the same settings."""
    defaults: dict[str, Any] = {
        "cores": 16,
        "processes": 16,
        "memory": "64 GB",
        "walltime": "01:00:00",
        "job_script_prologue": ["export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"],
        "worker_extra_args": ["--lifetime", "50m", "--lifetime-stagger", "4m"],
    }
    return SLURMCluster(**(defaults | settings))


def main(data: str = "clicks.zarr", least: int = 0, most: int = 10, **settings: Any) -> None:
    dask.config.set({"daskgd.no-workers-timeout": None})
    with made(**settings) as cluster, Client(cluster):
        cluster.adapt(minimum_jobs=least, maximum_jobs=most)
        est = daskgd.LogisticRegression(C=0.1)
        try:
            est.fit(data, checkpoint="run-clicks", every="30 s", watch=daskgd.Lines())
        except daskgd.ClusterLost as lost:
            print(lost, file=sys.stderr)
            raise SystemExit(os.EX_TEMPFAIL) from None
        est.save("clicks.dgd")


if __name__ == "__main__":
    main(*sys.argv[1:])
