"""dask-ml, rows persisted in the memory of the workers as its documentation advises; the variant is the
solver.

``normalize`` is off, so that the penalty means what it means elsewhere. Its intercept is one more column and
penalised (``newton`` has no penalty at all); the gap reported is nevertheless that of the common objective.
Iterates come from the places where its code passes them on: scipy's callback, the penalty's proximal
operator, the product that begins an iteration of Newton's method.
"""

import warnings

import dask.array as da
import dask_glm.algorithms
import distributed
import zarr
from dask_glm.regularizers import L2
from dask_ml.linear_model import LogisticRegression
from report import Clock, Recorder, arguments

CHUNK_BYTES = 64_000_000


def warm() -> None:
    import dask_ml.linear_model  # noqa: F401


class Watched(L2):
    """The L2 penalty; tells what its proximal operator finds, ADMM's iterate."""

    def proximal_operator(self, beta, t):
        z = super().proximal_operator(beta, t)
        record(lambda: (z[:-1], z[-1]), iterations=record.calls + 1)
        return z


if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(warm)
        group = zarr.open_group(asked.store, mode="r")
        n, p = group["X"].shape
        unit = group["X"].chunks[0]
        rows = max(CHUNK_BYTES // (4 * p) // unit, 1) * unit
        clock = Clock()
        X = da.from_zarr(group["X"], chunks=(rows, p)).persist()
        y = da.from_zarr(group["y"], chunks=(rows,)).persist()
        distributed.wait([X, y])
        report.event("load", seconds=clock.seconds)

        clock = Clock()
        record = Recorder(report, clock)
        algorithms, penalty, options = dask_glm.algorithms, "l2", {"normalize": False}
        if asked.variant == "lbfgs":
            fmin, evaluations = algorithms.fmin_l_bfgs_b, [0]

            def counted(function, w, **settings):
                def evaluate(*args):
                    evaluations[0] += 1
                    return function(*args)

                def told(w):
                    record(lambda: (w[:-1], w[-1]), sweeps=evaluations[0])

                return fmin(evaluate, w, callback=told, **settings)

            algorithms.fmin_l_bfgs_b = counted
        elif asked.variant == "newton":
            dot = algorithms.dot

            def told(A, w):
                if getattr(w, "ndim", 2) == 1 and len(w) == p + 1 and w.any():
                    record(lambda: (w[:-1], w[-1]), sweeps=record.calls + 1)
                return dot(A, w)

            algorithms.dot = told
        else:
            penalty = Watched()
            options |= {"abstol": 1e-10, "reltol": 1e-10}
        model = LogisticRegression(
            solver=asked.variant,
            penalty=penalty,
            C=1 / (asked.penalty * n),
            tol=1e-12,
            max_iter=1000,
            solver_kwargs=options,
        ).fit(X, y)
        report.point("end", clock.seconds, model.coef_, model.intercept_)
