"""The estimators of scikit-learn that choose their penalty, in memory; the variant is which.

Tolerances are 1e-6, daskgd's default. Newton's method with Cholesky factors is, of the solvers, the fastest
to a small gap where rows are many. Linear algebra has two threads. Loading is told apart.
"""

import warnings

import numpy as np
from report import Clock, arguments, load
from search_grid import FOLDS, inverse_penalties, lasso_penalties, ridge_penalties
from sklearn.linear_model import LassoCV, LogisticRegressionCV, RidgeCV

if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    X, y = load(asked.store, report)
    n = len(X)
    clock = Clock()
    if asked.variant == "LogisticRegressionCV":
        est = LogisticRegressionCV(
            Cs=inverse_penalties(n),
            l1_ratios=(0,),
            cv=FOLDS,
            scoring="neg_log_loss",
            solver="newton-cholesky",
            tol=1e-6,
            use_legacy_attributes=False,
        ).fit(X, y)
        scores = np.asarray(est.scores_).mean(axis=(0, 1))
        facts = {"chosen": float(est.C_), "score": float(scores.max()), "scores": scores.tolist()}
        facts |= {"w": np.ravel(est.coef_).tolist(), "b": float(np.ravel(est.intercept_)[0])}
    elif asked.variant == "LassoCV":
        est = LassoCV(alphas=lasso_penalties(), cv=FOLDS, tol=1e-6).fit(X, y)
        scores = -est.mse_path_.mean(axis=1)[np.argsort(est.alphas_)]
        facts = {"chosen": float(est.alpha_), "score": float(scores.max()), "scores": scores.tolist()}
    else:
        folds = None if asked.variant.endswith("leave-one-out") else FOLDS
        scoring = None if folds is None else "neg_mean_squared_error"
        est = RidgeCV(alphas=ridge_penalties(n), cv=folds, scoring=scoring).fit(X, y)
        facts = {"chosen": float(est.alpha_), "score": float(est.best_score_)}
    report.event("search", seconds=clock.seconds, **facts)
