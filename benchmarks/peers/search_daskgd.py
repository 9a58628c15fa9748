"""One fit, a search, or metrics by daskgd on two workers, streamed; the variant says which.

Reads are what the engine swept, by whatever part of the library; a sweep of a share of the blocks counts as
that share. One fit of the same store and its score go before, off the clock: they import, allocate, and fill
the page cache.
"""

import warnings

import distributed
import numpy as np
from report import Clock, arguments
from search_grid import FOLDS, inverse_penalties, lasso_penalties, ridge_penalties

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "matthews_corrcoef",
    "roc_auc",
    "average_precision",
    "neg_log_loss",
    "neg_brier_score",
)
MODELS = 10


def warm() -> None:
    import daskgd.engines.tasks  # noqa: F401


class Reads:
    """Counts the sweeps of the engine that reads stores."""

    def __init__(self):
        from daskgd.engines.graph import Graph

        self.total, sweep = 0.0, Graph.sweep

        def counted(engine, asks):
            answers = sweep(engine, asks)
            self.total += engine.share
            return answers

        Graph.sweep = counted


def told(search):
    """What there is to tell of a fitted search, or estimator that chooses its penalty."""
    if hasattr(search, "cv_results_"):
        scores = search.cv_results_["mean_test_score"]
        best = search.best_estimator_
        return {
            "chosen": float(next(iter(search.best_params_.values()))),
            "score": float(search.best_score_),
            "scores": scores.tolist(),
            **(parameters(best) if np.ndim(best.intercept_) else {}),
        }
    if hasattr(search, "mse_path_"):
        scores = -search.mse_path_.mean(axis=-1)[np.argsort(search.alphas_)]
        return {"chosen": search.alpha_, "score": float(scores.max()), "scores": scores.tolist()}
    if hasattr(search, "scores_"):
        scores = search.scores_.mean(axis=(0, 1))
        found = {"chosen": float(search.C_), "score": float(scores.max()), "scores": scores.tolist()}
        return {**found, **parameters(search)}
    if hasattr(search, "best_score_"):
        return {"chosen": float(search.alpha_), "score": float(search.best_score_)}
    return {}


def parameters(est):
    return {"w": np.ravel(est.coef_).tolist(), "b": float(np.ravel(est.intercept_)[0])}


def work(variant, data):
    """An estimator to warm up with, and what is to be timed."""
    import daskgd
    from daskgd import model_selection

    n = data.n_rows
    kind, _, search = variant.partition(", ")
    if kind == "LogisticRegression":
        grid = inverse_penalties(n)
        one = daskgd.LogisticRegression(C=grid[0], memory=0)
        if search == "GridSearchCV":
            made = model_selection.GridSearchCV(one, {"C": grid}, cv=FOLDS, scoring="neg_log_loss")
        elif search == "LogisticRegressionCV":
            made = model_selection.LogisticRegressionCV(
                Cs=grid, cv=FOLDS, scoring="neg_log_loss", use_legacy_attributes=False, memory=0
            )
        else:
            made = daskgd.LogisticRegression(C=grid[0], memory=0)
        return one, lambda: told(made.fit(data))
    if kind == "metrics":
        models = [daskgd.LogisticRegression(C=C, memory=0) for C in inverse_penalties(n)[:MODELS]]
        models = daskgd.together(models, data)
        if search == "one":
            return models[0], lambda: scored(models[:1], data, ["accuracy"])
        return models[0], lambda: scored(models, data, METRICS)
    grid = ridge_penalties(n) if kind == "Ridge" else lasso_penalties()
    one = getattr(daskgd, kind)(alpha=grid[0], memory=0)
    if search == "GridSearchCV":
        made = model_selection.GridSearchCV(one, {"alpha": grid}, cv=FOLDS, scoring="neg_mean_squared_error")
    elif search == "LassoCV":
        made = model_selection.LassoCV(alphas=grid, cv=FOLDS, memory=0)
    elif search == "RidgeCV":
        made = model_selection.RidgeCV(alphas=grid, cv=FOLDS, scoring="neg_mean_squared_error", memory=0)
    elif search == "RidgeCV, leave-one-out":
        made = model_selection.RidgeCV(alphas=grid, memory=0)
    else:
        made = getattr(daskgd, kind)(alpha=grid[0], memory=0)
    return one, lambda: told(made.fit(data))


def scored(models, data, scoring):
    from daskgd.metrics import evaluate

    found = evaluate(models, data, scoring=list(scoring))
    return {"score": found[0]["accuracy"]}


if __name__ == "__main__":
    import daskgd
    from daskgd.metrics import evaluate

    asked, report = arguments()
    warnings.simplefilter("ignore")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(warm)
        reads = Reads()
        data = daskgd.open_dataset(asked.store)
        one, timed = work(asked.variant, data)
        evaluate(one.fit(data), data)
        reads.total, clock = 0.0, Clock()
        facts = timed()
        report.event("search", seconds=clock.seconds, reads=round(reads.total, 2), **facts)
