"""glum in memory; the variant is its solver, by default iterated least squares, as without L1.

Least squares are fits with rising limits of iterations. L-BFGS, for rows so wide that the Hessian has no
room, is one fit, its iterates told by scipy's callback.
"""

import warnings

import glum._solvers
from glum import GeneralizedLinearRegressor
from report import Clock, Recorder, arguments, load


def fit(X, y, asked, report):
    """Fit by the solver of the variant, and report its iterates."""
    settings = {"family": "binomial", "alpha": asked.penalty, "gradient_tol": 1e-12, "copy_X": False}
    if asked.variant == "lbfgs":
        minimize, evaluations = glum._solvers.fmin_l_bfgs_b, [0]
        clock = Clock()
        record = Recorder(report, clock)

        def watched(function, w, **options):
            def counted(*args):
                evaluations[0] += 1
                return function(*args)

            def told(w):  # the intercept is the first
                record(lambda: (w[1:], w[0]), sweeps=evaluations[0])

            options.pop("iprint")  # scipy has it no more
            return minimize(counted, w, **{**options, "callback": told})

        glum._solvers.fmin_l_bfgs_b = watched
        model = GeneralizedLinearRegressor(solver="lbfgs", max_iter=100_000, **settings).fit(X, y)
        report.point("end", clock.seconds, model.coef_, model.intercept_, sweeps=evaluations[0])
    else:
        for limit in (1, 2, 3, 4, 5, 6, 8, 10, 15):
            clock = Clock()
            model = GeneralizedLinearRegressor(max_iter=limit, **settings).fit(X, y)
            report.point(limit, clock.seconds, model.coef_, model.intercept_, iterations=int(model.n_iter_))
            if model.n_iter_ < limit:
                break


if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    X, y = load(asked.store, report)
    fit(X, y.astype(X.dtype), asked, report)
