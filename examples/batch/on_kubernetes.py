"""The fit runs here; scheduler and workers are pods that the Dask operator makes, by dask-kubernetes.

It starts workers when the fit has work for them.

If the cluster goes, the exit code is 75, and the same command goes on from the checkpoint.
"""

import os
import sys
from typing import Any

from dask.distributed import Client
from dask_kubernetes.operator import KubeCluster, make_cluster_spec

import daskgd


def spec(name: str = "clicks", n_workers: int = 0) -> dict[str, Any]:
    """Workers of one thread each, from an image that has daskgd."""
    memory = {"memory": "4Gi", "cpu": "1"}
    return make_cluster_spec(
        name=name,
        image="registry.example.com/daskgd:0.1.0",
        n_workers=n_workers,
        resources={"requests": memory, "limits": memory},
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        worker_command=["dask", "worker", "--nthreads", "1"],
    )


def main(data: str = "s3://bucket/clicks.zarr", run: str = "s3://bucket/run-clicks") -> None:
    with KubeCluster(custom_cluster_spec=spec()) as cluster, Client(cluster):
        cluster.adapt(minimum=0, maximum=8)
        est = daskgd.LogisticRegression(C=0.1)
        try:
            est.fit(data, checkpoint=run, every="30 s", watch=daskgd.Lines())
        except daskgd.ClusterLost as lost:
            print(lost, file=sys.stderr)
            raise SystemExit(os.EX_TEMPFAIL) from None
        est.save("clicks.dgd")


if __name__ == "__main__":
    main(*sys.argv[1:])
