"""The cluster that commands start: what its workers log is news, and they end without a word."""

from __future__ import annotations

import logging
import signal

from distributed import Client

from daskgd.cli.local import local_cluster


def log_when_connections_close(dask_worker):
    """Log an error now, and one at the moment at which a heartbeat on its way would lose its connection."""
    close = dask_worker.rpc.close
    logger = logging.getLogger("distributed.worker")

    async def close_and_log():
        logger.error("a heartbeat was lost")
        await close()

    dask_worker.rpc.close = close_and_log
    logger.error("something is wrong")
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_workers_are_heard_until_they_are_closed(capfd):
    with local_cluster(n_workers=1, memory_limit="1 GB") as cluster, Client(cluster) as client:
        assert list(client.run(log_when_connections_close).values()) == [True]
    logged = capfd.readouterr().err
    assert "something is wrong" in logged
    assert "a heartbeat was lost" not in logged
