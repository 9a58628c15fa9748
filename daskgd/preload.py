"""What fits do to a cluster, from its start: ``dask scheduler`` or ``dask worker --preload daskgd.preload``.

A scheduler gets the training page, a worker imports what tasks need. Fits do both where it is missing; with
this it is there before the first of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from daskgd.engines.preflight import TASK_MODULES


async def dask_setup(server: Any) -> None:
    """Dask calls this with a scheduler or a worker when that has started."""
    if hasattr(server, "register_scheduler_plugin"):
        from daskgd.monitoring.dashboard.plugin import TrainingMonitor

        await server.register_scheduler_plugin(TrainingMonitor(), idempotent=True)
    else:
        for name in TASK_MODULES:
            import_module(name)
