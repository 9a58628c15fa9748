"""scikit-learn in memory; the variant is the solver of LogisticRegression.

L-BFGS is one fit, its iterates told by scipy's callback. The others have none: fits with rising limits of
iterations, each from the start. liblinear penalises its intercept, which stands beside a column of tens so
that this hardly matters.
"""

import warnings

from report import Clock, Recorder, arguments, load
from scipy import optimize
from sklearn.linear_model import LogisticRegression

LIMITS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1000)


def fit(X, y, asked, report):
    """Fit by the solver of the variant, and report its iterates."""
    C = 1 / (asked.penalty * X.shape[0])
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
        solver, _, dual = asked.variant.partition(", ")
        more = {"dual": bool(dual), "intercept_scaling": 10} if solver == "liblinear" else {}
        for limit in LIMITS:
            clock = Clock()
            model = LogisticRegression(
                C=C, tol=1e-12, max_iter=limit, solver=solver, random_state=0, **more
            ).fit(X, y)
            iterations = int(model.n_iter_[0])
            report.point(limit, clock.seconds, model.coef_, model.intercept_[0], iterations=iterations)
            if iterations < limit:
                break


if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    fit(*load(asked.store, report), asked, report)
