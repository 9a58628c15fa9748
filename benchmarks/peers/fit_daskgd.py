"""daskgd, default solver, at tolerances from 1e-2 to 1e-8; the variant is ``memory``, 0 or auto.

Every tolerance is a fit of its own that reads the store anew.
"""

import warnings

import distributed
from report import Clock, arguments


def warm() -> None:
    import daskgd.engines.tasks  # noqa: F401


if __name__ == "__main__":
    import daskgd

    asked, report = arguments()
    warnings.simplefilter("ignore")
    memory = "auto" if asked.variant == "auto" else int(asked.variant)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(warm)
        daskgd.LogisticRegression()  # imports
        for exponent in range(2, 9):
            clock = Clock()
            data = daskgd.open_dataset(asked.store)
            C = 1 / (asked.penalty * data.n_rows)
            model = daskgd.LogisticRegression(C=C, tol=10.0**-exponent, memory=memory).fit(data)
            seconds = clock.seconds
            report.point(f"1e-{exponent}", seconds, model.coef_, model.intercept_[0], sweeps=model.n_sweeps_)
