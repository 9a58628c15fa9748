"""glum in memory: iterated least squares, its default without L1; fits with rising limits of iterations."""

import warnings

from glum import GeneralizedLinearRegressor
from report import Clock, arguments, load

if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    X, y = load(asked.store, report)
    y = y.astype(X.dtype)
    for limit in (1, 2, 3, 4, 5, 6, 8, 10, 15):
        clock = Clock()
        model = GeneralizedLinearRegressor(
            family="binomial", alpha=asked.penalty, max_iter=limit, gradient_tol=1e-12, copy_X=False
        ).fit(X, y)
        report.point(limit, clock.seconds, model.coef_, model.intercept_, iterations=int(model.n_iter_))
        if model.n_iter_ < limit:
            break
