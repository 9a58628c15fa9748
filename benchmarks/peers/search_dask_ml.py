"""Searches of dask-ml on two workers, rows persisted in their memory; the variant is which.

``GridSearchCV`` hands every fit its folds as one array in memory, of whatever estimator has scikit-learn's
interface: of scikit-learn's logistic regression by Newton's method, whose scores can be compared, and of its
SGDClassifier. ``HyperbandSearchCV`` fits SGDClassifier by ``partial_fit`` to blocks, some candidates longer
than others, and scores them by rows that it sets aside; it persists these in its event loop, where dask has
to be told that the client shall do it. SGDClassifier has its defaults but for the loss, an average of its
parameters over its steps, and the penalty, which is that of the mean objective.
"""

import warnings

import dask
import dask.array as da
import distributed
import numpy as np
import zarr
from dask_ml.model_selection import GridSearchCV, HyperbandSearchCV
from report import Clock, arguments
from search_grid import FOLDS, STRENGTHS, inverse_penalties, penalties
from sklearn.linear_model import LogisticRegression, SGDClassifier

CHUNK_BYTES = 16_000_000
MOST_CALLS = 27
"""Of ``partial_fit`` of the candidate that is fitted longest."""


def warm() -> None:
    import dask_ml.model_selection  # noqa: F401
    import sklearn.linear_model  # noqa: F401


def search(variant, n):
    """The search that a variant is."""
    kind, _, estimator = variant.partition(", ")
    sgd = SGDClassifier(loss="log_loss", average=True, random_state=0)
    if kind == "HyperbandSearchCV":
        return HyperbandSearchCV(
            sgd, {"alpha": penalties(STRENGTHS)}, max_iter=MOST_CALLS, random_state=0, scoring="neg_log_loss"
        )
    if estimator == "SGDClassifier":
        return GridSearchCV(sgd, {"alpha": penalties(STRENGTHS)}, cv=FOLDS, scoring="neg_log_loss")
    exact = LogisticRegression(solver="newton-cholesky", tol=1e-6)
    return GridSearchCV(exact, {"C": inverse_penalties(n)}, cv=FOLDS, scoring="neg_log_loss")


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
        made = search(asked.variant, n)
        if isinstance(made, GridSearchCV):
            made.fit(X, y)
        else:
            with dask.config.set(scheduler=client.get):
                made.fit(X, y, classes=[0, 1])
        seconds = clock.seconds
        best, facts = made.best_estimator_, {}
        if isinstance(made, GridSearchCV):
            facts["scores"] = np.asarray(made.cv_results_["mean_test_score"]).tolist()
        (chosen,) = made.best_params_.values()
        facts |= {"w": np.ravel(best.coef_).tolist(), "b": float(best.intercept_[0])}
        report.event("search", seconds=seconds, chosen=float(chosen), score=float(made.best_score_), **facts)
