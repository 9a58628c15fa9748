"""The command line: a thin skin of click over functions that do the work, imported when they are called.

The same group is ``daskgd`` and ``dask gd``. Results go to standard output, all else to standard error.
Worker processes that dask spawns import the main module again, so that nothing heavy may be imported here.
"""

from __future__ import annotations

import click

from daskgd import __version__
from daskgd.cli.data import info, ingest, survey, verify
from daskgd.cli.fits import plan, resume, train
from daskgd.cli.models import predict, score
from daskgd.cli.setup import config, demo


@click.group("gd", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="daskgd")
def main() -> None:
    """Train on data that does not fit: out-of-core gradient descent on Dask.

    Exit codes: 0 done; 2 wrong usage; 3 not converged (with --strict); 65 bad data; 69 no cluster answers;
    75 the cluster was lost, run again with the same --checkpoint; 130 and 143 stopped by a signal.
    """


for command in (ingest, info, survey, verify, plan, train, resume, predict, score, demo, config):
    main.add_command(command)


if __name__ == "__main__":
    main()
