"""What Dask's dashboard does not promise: how a page is added to it, and what the stock pages look like.

Not in ``daskgd._compat``, as this room may travel to a scheduler without the others. Where something of it is
gone, there is no page, and training goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


def dashboard_prefix(scheduler: Any) -> str | None:
    """What the paths of the stock pages begin with: "" or "/some/path"; None where the dashboard is off."""
    for app in scheduler.http_application.applications:
        if hasattr(app, "app_paths"):
            return str(app.prefix).rstrip("/")
    return None


def add_handler(scheduler: Any, path: str, handler: Any) -> None:
    """Serve what matches `path`, a regular expression below the prefix, by a handler of tornado."""
    prefix = dashboard_prefix(scheduler) or ""
    scheduler.http_application.add_handlers(r".*", [(re.escape(prefix) + path, handler)])


def add_page(scheduler: Any, name: str, show: Callable[[Any, Any], None]) -> None:
    """Add a page ``/name`` and its entry in the navigation bar; ``show(extra, doc)`` fills an opened one.

    Raises ImportError where the scheduler has no bokeh.
    """
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables
    from tornado.ioloop import IOLoop

    variables = template_variables(scheduler)  # one object, which the stock pages share
    app = BokehApplication(
        {f"/{name}": lambda _, extra, doc: show(extra, doc)},
        scheduler,
        prefix=dashboard_prefix(scheduler) or "",
        template_variables=variables,
    )
    app.initialize(IOLoop.current())
    scheduler.http_application.add_application(app)
    app.start()
    if name not in variables["pages"]:
        variables["pages"].append(name)


def dress(doc: Any, extra: Any) -> None:
    """Give a document of bokeh the frame, navigation bar and colours of the stock pages."""
    from distributed.dashboard.components.scheduler import BOKEH_THEME, env

    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME
