"""The training page from the start: ``dask scheduler --preload daskgd.preload``.

Fits install it where it is missing; with this it is there before the first of them.
"""

from __future__ import annotations

from typing import Any

from daskgd.monitoring.dashboard.plugin import TrainingMonitor


async def dask_setup(scheduler: Any) -> None:
    """Dask calls this with the scheduler when that has started; where it is a worker, nothing is done."""
    if hasattr(scheduler, "register_scheduler_plugin"):
        await scheduler.register_scheduler_plugin(TrainingMonitor(), idempotent=True)
