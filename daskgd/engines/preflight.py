"""Before the first sweep on a cluster: can its processes run what they will be sent, and with the same bits?

What is found is remembered per client and worker: a second fit asks only those that are new. Workers begin to
import what tasks need as soon as a client is seen.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import distributed

from daskgd._compat.dask import configured_scheduler
from daskgd._compat.distributed import wire_pickle
from daskgd.engines.cluster import ANSWER, Cluster, ClusterLost

logger = logging.getLogger("daskgd")

WORKERS_ANSWER = 0.8 * ANSWER
"""Seconds within which workers that can be used have answered."""

_known: WeakKeyDictionary[distributed.Client, set[str]] = WeakKeyDictionary()
"""Processes that have been looked at."""

TASK_MODULES = ("daskgd.engines.tasks", "daskgd.storage.reading")
"""What a worker imports to run the tasks of a fit to stored rows, directly or by these."""

_importing: WeakSet[distributed.Client] = WeakSet()
"""Clients whose workers have been asked to import."""

Versions = Mapping[str, str | None]
"""Versions by package, "python" among them; None for those that cannot be imported."""


def start_imports() -> None:
    """Tell the workers of the current client, if there is one, to import what tasks need, once.

    Nobody waits for it: this process goes on with imports and plans of its own. Where it fails, the first
    task says why.
    """
    try:
        client = configured_scheduler()
    except RuntimeError:  # a setting that was left behind: the fit refuses it
        return
    if not isinstance(client, distributed.Client) or client in _importing or client.asynchronous:
        return
    _importing.add(client)
    pid, modules = os.getpid(), TASK_MODULES

    def load() -> None:  # travels by value: daskgd may not be there
        import os
        from importlib import import_module

        if os.getpid() != pid:  # two threads that import the same at a time can stop each other
            for name in modules:
                import_module(name)

    async def send() -> None:
        with suppress(Exception):
            await client.run(load, on_error="ignore")

    loop: Any = client.loop
    loop.add_callback(send)


def _look() -> Callable[[], dict[str, str | None]]:
    """A function that tells the versions in a process. It travels by value: daskgd may not be there.

    A worker process in the process group of this one, as those of a LocalCluster are, ignores SIGINT from
    then on: Jupyter's stop button and Ctrl-C send it to the group, where it would end the worker for good. It
    is for this process to say what is interrupted.
    """
    pid, group = os.getpid(), (platform.node(), os.getpgrp() if hasattr(os, "getpgrp") else None)

    def look() -> dict[str, str | None]:
        import multiprocessing
        import os
        import platform
        import signal
        import sys
        import threading
        from importlib import import_module, metadata

        here = platform.node(), os.getpgrp() if hasattr(os, "getpgrp") else os.getpid()
        is_child = os.getpid() != pid and multiprocessing.parent_process() is not None
        if here == group and is_child and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        found: dict[str, str | None] = {"python": "{}.{}".format(*sys.version_info)}
        for name in ("daskgd", "numpy", "zarr"):
            try:
                if name != "daskgd":  # slow to import
                    found[name] = metadata.version(name)
                    continue
            except metadata.PackageNotFoundError:
                pass
            try:
                found[name] = str(import_module(name).__version__)
            except ImportError:
                found[name] = None
        return found

    return look


def check_processes(cluster: Cluster, addresses: Iterable[str]) -> None:
    """Look at the scheduler and at workers that have not been looked at yet.

    Raises ModuleNotFoundError where daskgd, numpy or zarr cannot be imported; warns in the log of versions
    that differ from those here, as bits may then, too. Who does not answer is passed over.
    """
    client = cluster.client
    known = _known.setdefault(client, set())
    new = [address for address in addresses if address not in known]
    if not new:
        return
    look = _look()
    found: dict[str, Any] = {}
    if not known:
        found["the scheduler"] = _asked(cluster, lambda: client.run_on_scheduler(look))
        known.add("")
    found |= ask_workers(cluster, look, new)
    judge(look(), {who: versions for who, versions in found.items() if isinstance(versions, Mapping)})
    known.update(new)


def ask_workers(
    cluster: Cluster, function: Callable[..., Any], addresses: list[str], *arguments: Any
) -> dict[str, Any]:
    """What a function returns on each of these workers, or the error that it raises; without those that do
    not answer, which are not asked again."""
    client = cluster.client

    async def every() -> dict[str, Any]:
        runs = {
            address: asyncio.ensure_future(
                client.run(function, *arguments, workers=[address], on_error="return")
            )
            for address in addresses
            if address not in cluster.silent
        }
        if not runs:
            return {}
        _, late = await asyncio.wait(runs.values(), timeout=WORKERS_ANSWER)
        for run in late:
            run.cancel()
        cluster.silent |= {address for address, run in runs.items() if run in late}
        answered = [run for run in runs.values() if run not in late and run.exception() is None]
        return {address: answer for run in answered for address, answer in run.result().items()}

    return _asked(cluster, every) or {}


def _asked(cluster: Cluster, call: Callable[[], Any]) -> Any:
    """What is answered; None where that is not allowed, or takes long: no reason not to try the fit."""
    try:
        return cluster.ask(call)
    except ClusterLost:
        raise
    except Exception as error:
        logger.debug("the cluster could not be asked: %s", type(error).__name__)
        return None


def judge(mine: Versions, there: Mapping[str, Versions]) -> None:
    """Compare the versions of processes with those here: see `check_processes`.

    >>> judge({"daskgd": "1.0"}, {"tcp://10.0.0.2:40001": {"daskgd": None}})
    Traceback (most recent call last):
    ModuleNotFoundError: daskgd cannot be imported by tcp://10.0.0.2:40001; install daskgd==1.0 there too
    """
    for package, version in mine.items():
        lacking = [who for who, versions in there.items() if versions.get(package) is None]
        if lacking:
            raise ModuleNotFoundError(
                f"{package} cannot be imported by {_some(lacking)}; install {package}=={version} there too",
                name=package,
            )
        others: dict[str, list[str]] = {}
        for who, versions in there.items():
            if versions[package] != version:
                others.setdefault(str(versions[package]), []).append(who)
        for other, names in others.items():
            logger.warning(
                "%s is %s here and %s at %s: the last bits of results may differ",
                package,
                version,
                other,
                _some(names),
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# -- what is sent -------------------------------------------------------------------------------


def pickled_size(what: Any, name: str) -> int:
    """Bytes of `what` as it is sent to workers.

    Raises TypeError, with the attribute that is to blame, if it cannot be.

    >>> from threading import Lock
    >>> pickled_size({"loss": [1, Lock()]}, "objective")
    Traceback (most recent call last):
    TypeError: objective cannot be sent to workers: ['loss'][1] is a lock, which cannot be pickled; ...
    """
    try:
        return len(wire_pickle(what))
    except Exception as error:
        path, culprit = _culprit(what)
        raise TypeError(
            f"{name} cannot be sent to workers: {path.lstrip('.') or 'it'} is a {type(culprit).__name__}, "
            "which cannot be pickled; make it where it is used, or leave it out in __getstate__"
        ) from error


def _culprit(what: Any, path: str = "", depth: int = 12) -> tuple[str, Any]:
    """The innermost part that cannot be pickled, and the way to it."""
    for step, part in _parts(what) if depth else ():
        try:
            wire_pickle(part)
        except Exception:
            return _culprit(part, path + step, depth - 1)
    return path, what


def _parts(what: Any) -> list[tuple[str, Any]]:
    if isinstance(what, Mapping):
        return [(f"[{key!r}]", value) for key, value in what.items()]
    if hasattr(what, "_fields"):  # a named tuple
        return [(f".{name}", getattr(what, name)) for name in what._fields]
    if isinstance(what, list | tuple):
        return [(f"[{i}]", value) for i, value in enumerate(what)]
    if is_dataclass(what) and not isinstance(what, type):
        return [(f".{f.name}", getattr(what, f.name)) for f in fields(what)]
    if hasattr(what, "__self__"):  # a bound method
        return [(".__self__", what.__self__)]
    if getattr(what, "__closure__", None):
        names = what.__code__.co_freevars
        return [(f".{name}", cell.cell_contents) for name, cell in zip(names, what.__closure__, strict=True)]
    return [(f".{name}", value) for name, value in getattr(what, "__dict__", {}).items()]
