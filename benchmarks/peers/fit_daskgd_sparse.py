"""daskgd on sparse rows, default solver, at tolerances from 1e-2 to 1e-6; every fit reads the store anew.

The variants: ``0`` and ``auto`` are ``memory`` on two workers of one thread and 2 GB each; ``process``
streams in this process, ``codes`` has the rows in memory there, categories as codes (``daskgd.OneHot``), from
a file of arrays.
"""

import contextlib
import warnings

import distributed
import numpy as np
from report import Clock, arguments


def warm() -> None:
    import daskgd.engines.tasks  # noqa: F401


@contextlib.contextmanager
def workers():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="2 GB", dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(warm)
        yield


if __name__ == "__main__":
    import daskgd

    asked, report = arguments()
    warnings.simplefilter("ignore")
    local = asked.variant in ("process", "codes")
    memory = "auto" if asked.variant == "auto" else 0
    with contextlib.nullcontext() if local else workers():
        toy = np.arange(8.0).reshape(4, 2)
        daskgd.LogisticRegression().fit(toy, [0, 1, 0, 1])  # imports
        for exponent in range(2, 7):
            clock = Clock()
            if asked.variant == "codes":
                kept = np.load(asked.store.with_suffix(".npz"))
                rows = daskgd.OneHot(kept["codes"], kept["sizes"].tolist(), kept["numbers"])
                data, n = (rows, kept["y"]), len(rows)
            else:
                data = (daskgd.open_dataset(asked.store),)
                n = data[0].n_rows
            C = 1 / (asked.penalty * n)
            model = daskgd.LogisticRegression(C=C, tol=10.0**-exponent, memory=memory).fit(*data)
            seconds = clock.seconds
            report.point(f"1e-{exponent}", seconds, model.coef_, model.intercept_[0], sweeps=model.n_sweeps_)
