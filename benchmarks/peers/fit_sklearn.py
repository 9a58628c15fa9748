"""scikit-learn in memory; the variant is the solver of LogisticRegression.

L-BFGS is one fit, its iterates told by scipy's callback. newton-cholesky has none: fits with rising limits of
iterations, each from the start.
"""

import warnings

from report import Clock, Recorder, arguments, load
from scipy import optimize
from sklearn.linear_model import LogisticRegression

if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    X, y = load(asked.store, report)
    C = 1 / (asked.penalty * len(X))
    if asked.variant == "lbfgs":
        minimize, evaluations = optimize.minimize, [0]
        clock = Clock()
        record = Recorder(report, clock)

        def watched(function, w, **settings):
            def counted(*args):
                evaluations[0] += 1
                return function(*args)

            def told(w):
                record(lambda: (w[:-1], w[-1]), sweeps=evaluations[0])

            return minimize(counted, w, **{**settings, "callback": told})

        optimize.minimize = watched
        model = LogisticRegression(C=C, tol=1e-12, max_iter=100_000).fit(X, y)
        report.point("end", clock.seconds, model.coef_, model.intercept_[0], sweeps=evaluations[0])
    else:
        for limit in (1, 2, 3, 4, 5, 6, 8, 10):
            clock = Clock()
            model = LogisticRegression(C=C, tol=1e-12, max_iter=limit, solver=asked.variant).fit(X, y)
            iterations = int(model.n_iter_[0])
            report.point(limit, clock.seconds, model.coef_, model.intercept_[0], iterations=iterations)
            if iterations < limit:
                break
