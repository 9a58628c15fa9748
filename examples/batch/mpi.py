"""Scheduler, fit and workers as the ranks of one MPI job, by dask-mpi: mpirun -n 18 python mpi.py clicks.zarr

Rank 0 is the scheduler, rank 1 runs `main`, all others are workers. MPI ends the whole job when a rank dies,
so that the checkpoint is what survives: run the same command again.
"""

import sys

from dask.distributed import Client
from dask_mpi import initialize

import daskgd


def main(data: str = "clicks.zarr") -> None:
    with Client() as client:  # of the scheduler on rank 0
        print(f"{len(client.scheduler_info(n_workers=-1)['workers'])} workers so far")
        est = daskgd.LogisticRegression(C=0.1)
        est.fit(data, checkpoint="run-clicks", every="30 s", watch=daskgd.Lines())
        est.save("clicks.dgd")


if __name__ == "__main__":
    initialize(nthreads=1, dashboard=False)  # only rank 1 comes back
    main(*sys.argv[1:])
