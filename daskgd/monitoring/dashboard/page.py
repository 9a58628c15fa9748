"""The page: plots of one fit, chosen or the latest, that grow while it runs.

Draws with bokeh, which is imported when a browser asks.
"""

from __future__ import annotations

import logging
import math
import time
from array import array
from collections.abc import Mapping
from html import escape
from itertools import islice
from typing import Any

from daskgd.monitoring.dashboard._compat import dress
from daskgd.monitoring.dashboard.fits import CANDIDATE, COLUMNS, ROW, WORKER, Fit, resident, speed, whole

logger = logging.getLogger("daskgd.dashboard")

SHOWN_SWEEPS, SHOWN_MEMBERS, SHOWN_WORKERS, NAMED = 1000, 16, 24, 4
"""Most sweeps, curves and workers in one plot, and curves in a legend."""

EVERY = 500
"""Milliseconds between updates of an open page."""

BLUE, GREEN, YELLOW, RED, PURPLE, GREY = "#4477AA", "#228833", "#CCBB44", "#EE6677", "#AA3377", "#BBBBBB"
CYAN, ORANGE = "#66CCEE", "#EE8866"
CURVES = (BLUE, RED, GREEN, YELLOW, CYAN, PURPLE, GREY, ORANGE)
"""Colours that those who see colours otherwise can tell apart (P. Tol, *Colour schemes*, 2021, "bright")."""

PARTS = (("read", BLUE), ("compute", GREEN), ("merge", YELLOW), ("wait", GREY), ("solver", PURPLE))
"""Of the seconds of a sweep, the solver's own before it last."""

LATEST = "the latest"


def show(monitor: Any, extra: Mapping[str, Any], doc: Any) -> None:
    """A browser opened the page."""
    page = Page(monitor)
    doc.title = "daskgd: training"
    doc.add_root(page.root)
    dress(doc, extra)
    page.update()
    doc.add_periodic_callback(page.update, EVERY)


class Page:
    """What one browser looks at: a fit, chosen or the latest, and how much of it has been sent there."""

    def __init__(self, monitor: Any) -> None:
        from bokeh.layouts import column, row
        from bokeh.models import ColumnDataSource, DataRange1d, Div, Legend, Select

        self.monitor = monitor
        self.shown: Fit | None = None
        self.seen = -1
        self.sent = 0
        self.sent_rows: list[int] = []
        self.broken = False
        self.members: list[Any] = []
        self.lines: list[Any] = []
        self.sweeps = ColumnDataSource({key: [] for key in self._bars([])}, name="daskgd-sweeps")
        self.workers = ColumnDataSource(_workers(None), name="daskgd-workers")
        self.choice = Select(title="Fit", value=LATEST, options=[LATEST], width=330, name="daskgd-fit")
        self.choice.on_change("value", lambda attr, old, new: self.update(force=True))
        self.about = Div(text="", sizing_mode="stretch_width", name="daskgd-about")
        self.range = DataRange1d(min_interval=3.0, default_span=3.0)
        self.loss = _plot("Loss: the objective, penalty included", "loss", x=self.range)
        self.gap = _plot("Estimated gap to the minimum, relative", "gap", x=self.range, log=True)
        self.norm = _plot("Norm of the gradient", "gradient norm", x=self.range, log=True)
        self.legend = Legend(items=[], visible=False)
        self.loss.add_layout(self.legend)
        _legend(self.loss)
        self.root = column(
            row(self.choice, self.about, sizing_mode="stretch_width"),
            self._table(),
            row(self.loss, self.gap, self.norm, sizing_mode="stretch_width"),
            row(self._seconds(), self._speed(), self._shares(), sizing_mode="stretch_width"),
            row(self._rates(), self._again(), sizing_mode="stretch_width"),
            sizing_mode="stretch_width",
        )

    def _table(self) -> Any:
        """The candidates of a search, the best first; not there for other fits."""
        from bokeh.models import ColumnDataSource, DataTable, NumberFormatter, TableColumn

        self.candidates = ColumnDataSource({key: [] for key in CANDIDATE}, name="daskgd-candidates")
        score = NumberFormatter(format="0.[000000]", nan_format="")
        formats = {"score": {"formatter": score}, "spread": {"formatter": score}}
        self.table = DataTable(
            source=self.candidates,
            columns=[TableColumn(field=key, title=key, **formats.get(key, {})) for key in CANDIDATE],
            index_position=None,
            height=220,
            sizing_mode="stretch_width",
            visible=False,
        )
        return self.table

    # -- plots --------------------------------------------------------------------------------

    def _seconds(self) -> Any:
        from bokeh.models import HoverTool

        plot = _plot("Seconds of a sweep, and of the solver before it", "seconds", x=self.range, zero=True)
        names, colours = zip(*PARTS, strict=True)
        bars = plot.vbar_stack(
            names,
            x="sweep",
            width=0.8,
            source=self.sweeps,
            color=colours,
            legend_label=list(names),
            line_width=0,
        )
        plot.add_tools(
            HoverTool(
                renderers=bars,
                tooltips=[("sweep", "@sweep"), ("asked", "@asked")]
                + [(part, f"@{part}{{0.000}} s") for part in names],
            )
        )
        return _legend(plot)

    def _speed(self) -> Any:
        from bokeh.models import HoverTool

        plot = _plot("Decoded data per second, and the read floor", "GB/s", x=self.range, zero=True)
        plot.line("sweep", "speed", source=self.sweeps, color=GREEN, line_width=2, legend_label="sweep")
        dots = plot.scatter("sweep", "speed", source=self.sweeps, color=GREEN, size=6, legend_label="sweep")
        plot.line(
            "sweep",
            "floor",
            source=self.sweeps,
            color=RED,
            line_width=2,
            line_dash="dashed",
            legend_label="reading alone, the best so far",
        )
        plot.add_tools(
            HoverTool(
                renderers=[dots],
                tooltips=[
                    ("sweep", "@sweep"),
                    ("speed", "@speed{0.00} GB/s"),
                    ("floor", "@floor{0.00} GB/s"),
                ],
            )
        )
        return _legend(plot)

    def _shares(self) -> Any:
        from bokeh.models import HoverTool, NumeralTickFormatter

        plot = _plot("Blocks from memory, and streamed from storage", "share of all blocks", x=self.range)
        plot.y_range.start, plot.y_range.end = 0, 1
        plot.yaxis.formatter = NumeralTickFormatter(format="0%")
        bars = plot.vbar_stack(
            ["from_memory", "streamed"],
            x="sweep",
            width=0.8,
            source=self.sweeps,
            color=[CYAN, BLUE],
            legend_label=["from memory", "streamed"],
            line_width=0,
        )
        plot.add_tools(
            HoverTool(
                renderers=bars,
                tooltips=[
                    ("sweep", "@sweep"),
                    ("from memory", "@from_memory{0.0%}"),
                    ("streamed", "@streamed{0.0%}"),
                ],
            )
        )
        return _legend(plot)

    def _rates(self) -> Any:
        from bokeh.models import FactorRange, HoverTool, NumeralTickFormatter

        plot = _plot("Rows per second of each worker at work, last sweep", "", y=FactorRange())
        self.rates = plot
        plot.x_range.start = 0
        plot.xaxis.axis_label = "thousand rows per second"
        plot.xaxis.formatter = NumeralTickFormatter(format="0,0.[0]")
        plot.ygrid.grid_line_color = None
        bars = plot.hbar(
            y="worker", right="rate", height=0.5, source=self.workers, color="color", line_width=0
        )
        plot.add_tools(
            HoverTool(
                renderers=[bars],
                tooltips=[
                    ("worker", "@worker"),
                    ("rows", "@rows{0,0}"),
                    ("reading", "@read{0.000} s"),
                    ("computing", "@compute{0.000} s"),
                    ("blocks read", "@read_blocks"),
                    ("blocks from memory", "@kept_blocks"),
                ],
            )
        )
        return plot

    def _again(self) -> Any:
        from bokeh.models import HoverTool

        plot = _plot("Blocks read again, as they went with a worker", "blocks", x=self.range, zero=True)
        bars = plot.vbar(
            x="sweep",
            top="again",
            width=0.8,
            source=self.sweeps,
            color=ORANGE,
            line_width=0,
            legend_label="blocks read again",
        )
        marks = plot.scatter(
            x="sweep",
            y="mark",
            source=self.sweeps,
            marker="inverted_triangle",
            size=11,
            color=RED,
            legend_label="a worker was lost",
        )
        plot.add_tools(
            HoverTool(
                renderers=[bars, marks],
                tooltips=[("sweep", "@sweep"), ("blocks", "@again{0,0}"), ("workers lost", "@lost")],
            )
        )
        return _legend(plot)

    def _curves(self, n: int) -> None:
        """As many curves as members of the fit are shown."""
        from bokeh.models import ColumnDataSource, HoverTool

        while len(self.members) < n:
            i = len(self.members)
            colour = CURVES[i % len(CURVES)]
            source = ColumnDataSource(_points("", ()), name=f"daskgd-curve-{i}")
            lines = []
            for plot, y in ((self.loss, "loss"), (self.gap, "gap"), (self.norm, "gradient_norm")):
                lines.append(plot.line("sweeps", y, source=source, color=colour, line_width=2))
                dots = plot.scatter("sweeps", y, source=source, color=colour, size=6)
                plot.add_tools(
                    HoverTool(
                        renderers=[dots],
                        tooltips=[
                            ("fit", "@member"),
                            ("sweep", "@sweeps"),
                            ("iteration", "@iteration"),
                            (y.replace("_", " "), f"@{y}{{0.000000e+0}}"),
                        ],
                        visible=False,
                    )
                )
            self.members.append(source)
            self.lines.append(lines[0])

    def _name(self, members: list[str]) -> None:
        """A legend where there are several curves, and few enough to name."""
        from bokeh.models import LegendItem

        named = members if 1 < len(members) <= NAMED else []
        if [item.label.value for item in self.legend.items] != named:
            self.legend.items = [
                LegendItem(label={"value": member}, renderers=[line])
                for member, line in zip(named, self.lines, strict=False)
            ]
            self.legend.visible = bool(named)

    # -- updates ------------------------------------------------------------------------------

    def update(self, force: bool = False) -> None:
        """Send what is new. Whatever goes wrong here is a page that stands still, never a fit that fails."""
        try:
            if force or self.seen != self.monitor.changes:
                self.seen = self.monitor.changes
                self._update()
        except Exception:
            if not self.broken:
                logger.info("daskgd: the training page failed", exc_info=True)
            self.broken = True

    def _update(self) -> None:
        fits = {_title(fit): fit for fit in reversed(self.monitor.fits.values())}
        options = [LATEST, *fits]
        if self.choice.options != options:
            self.choice.options = options
        running = [fit for fit in fits.values() if fit.status == "running"]
        fit = fits.get(self.choice.value) or (running or list(fits.values()) or [None])[0]
        self.about.text = _about(fit)
        if fit is None:
            return
        if fit is not self.shown:
            self.shown, self.sent, self.sent_rows = fit, 0, []
        rows = fit.candidates
        if rows or self.table.visible:
            self.candidates.data = {key: [row[i] for row in rows] for i, key in enumerate(CANDIDATE)}
            self.table.visible = bool(rows)
        new = list(islice(fit.sweeps, max(len(fit.sweeps) - (fit.n_sweeps - self.sent), 0), None))
        _send(self.sweeps, self._bars(new[-SHOWN_SWEEPS:]), self.sent)
        if new:
            self.sent = fit.n_sweeps
            self.workers.data = _workers(fit)
            self.rates.y_range.factors = list(reversed(self.workers.data["worker"]))
            self.rates.title.text = (
                "Rows per second of each worker at work, last sweep"
                if fit.n_workers <= SHOWN_WORKERS
                else f"Rows per second at work: the slowest {SHOWN_WORKERS} of {fit.n_workers:,} workers"
            )
        members = list(fit.rows)[:SHOWN_MEMBERS]
        self._curves(len(members))
        self._name(members)
        self.sent_rows += [0] * (len(self.members) - len(self.sent_rows))
        for i, source in enumerate(self.members):
            member = members[i] if i < len(members) else ""
            count, rows = fit.n_rows_of.get(member, 0), fit.rows.get(member, ())
            late = islice(rows, max(len(rows) - (count - self.sent_rows[i]), 0), None)
            _send(source, _points(member, late), self.sent_rows[i])
            self.sent_rows[i] = count

    def _bars(self, sweeps: list[array[float]]) -> dict[str, list[Any]]:
        """Sweeps as columns of the plots."""
        fit = getattr(self, "shown", None)
        found = [dict(zip(COLUMNS, sweep, strict=True)) for sweep in sweeps]
        return {
            "sweep": [whole(s["sweep"]) for s in found],
            **{part: [s[part] for s in found] for part in ("read", "compute", "merge", "wait")},
            "solver": [s["before"] for s in found],
            "asked": [fit.asked if fit else "" for _ in found],
            "speed": [speed(s) / 1e9 for s in found],
            "floor": [(fit.floor if fit else math.nan) / 1e9 for _ in found],
            "from_memory": [resident(s) for s in found],
            "streamed": [1 - resident(s) for s in found],
            "again": [whole(s["again_blocks"]) for s in found],
            "lost": [whole(s["lost"]) for s in found],
            "mark": [s["again_blocks"] if s["lost"] else math.nan for s in found],
        }


def _send(source: Any, columns: dict[str, list[Any]], sent: int) -> None:
    """Send columns to a plot: behind what it has of this fit, or in place of what it has of another.

    Never both in one update: bokeh sends what replaces as it is at the end of the update, so that what was
    put behind it would be there twice.
    """
    if not sent:
        source.data = columns
    elif any(columns.values()):
        source.stream(columns, rollover=SHOWN_SWEEPS)


def _points(member: str, rows: Any) -> dict[str, list[Any]]:
    """Iterations as columns; what a logarithm cannot take is left out."""
    found = [dict(zip(ROW, row, strict=True)) for row in rows]

    def positive(value: float) -> float:
        return value if 0 < value < math.inf else math.nan

    return {
        "member": [member for _ in found],
        "iteration": [whole(r["iteration"]) for r in found],
        "sweeps": [whole(r["sweeps"]) for r in found],
        "loss": [r["loss"] if math.isfinite(r["loss"]) else math.nan for r in found],
        "gap": [positive(r["gap"]) for r in found],
        "gradient_norm": [positive(r["gradient_norm"]) for r in found],
    }


def _workers(fit: Fit | None) -> dict[str, list[Any]]:
    """The slowest workers as columns; those at less than half of the median stand out."""
    rates = fit.worker_rates() if fit else {}
    median = sorted(rates.values())[len(rates) // 2] if rates else 0.0
    shown = list(islice(rates, SHOWN_WORKERS))
    of = [dict(zip(WORKER, fit.workers[w], strict=False)) for w in shown] if fit else []
    return {
        "worker": [w.rpartition("://")[2] or "this process" for w in shown],
        "rate": [rates[w] / 1e3 for w in shown],
        "color": [RED if rates[w] < median / 2 else GREEN for w in shown],
        **{key: [values[key] for values in of] for key in WORKER},
    }


def _title(fit: Fit) -> str:
    began = time.strftime("%H:%M:%S", time.localtime(fit.began)) if math.isfinite(fit.began) else ""
    return f"{fit.name}  {began}  {fit.token}"


def _about(fit: Fit | None) -> str:
    """The figures above the plots, in HTML."""
    if fit is None:
        return (
            _cards({"Training": "no fit yet"}) + "<p>Every fit on this cluster appears here as it runs.</p>"
        )
    if fit.candidates:
        return _cards(_of_search(fit))
    last, row = fit.last(), fit.last_row()
    floor = f" of {fit.floor / 1e9:.2f}" if fit.floor > 0 else ""
    return _cards(
        {
            fit.name: fit.status.replace("_", " "),
            "rows x features": f"{fit.n_rows:,} x {fit.n_features:,}" if fit.n_rows else "",
            "sweeps": f"{fit.n_sweeps:,}",
            "loss": f"{row['loss']:.6g}" if row else "",
            "gap": f"{row['gap']:.1e}" if row else "",
            "GB/s of the floor" if floor else "GB/s": f"{speed(last) / 1e9:.2f}{floor}" if last else "",
            "from memory": f"{resident(last):.0%}" if last else "",
            "workers lost": f"{fit.lost}",
            "tasks run again": f"{fit.again_tasks:,}",
            "blocks read again": f"{fit.again_blocks:,}",
            "late tasks done twice": f"{fit.speculated:,}",
        }
    )


def _of_search(fit: Fit) -> dict[str, str]:
    """The figures of a search: how far it is, and the best candidate so far."""
    scored = [row for row in fit.candidates if math.isfinite(row[2])]
    best = max(scored, key=lambda row: row[2]) if scored else None
    return {
        fit.name: fit.status.replace("_", " "),
        "rows x features": f"{fit.n_rows:,} x {fit.n_features:,}" if fit.n_rows else "",
        "candidates scored": f"{len(scored):,} of {len(fit.candidates):,}",
        "best score so far": f"{best[2]:.6g}" if best else "",
        "best candidate so far": best[0] if best else "",
    }


def _cards(figures: Mapping[str, str]) -> str:
    style = "display:inline-block;margin:0 26px 6px 0;vertical-align:top"
    return "".join(
        f'<div style="{style}"><div style="font-size:11px;color:#666">{escape(label)}</div>'
        f'<div style="font-size:17px">{escape(text) or "&ndash;"}</div></div>'
        for label, text in figures.items()
    )


def _plot(
    title: str, label: str, *, x: Any = None, y: Any = None, log: bool = False, zero: bool = False
) -> Any:
    """An empty plot in the style of the page; over sweeps, if it has the range `x` that such plots share."""
    from bokeh.models import BasicTicker, NumeralTickFormatter
    from bokeh.plotting import figure

    ranges = {key: value for key, value in (("x_range", x), ("y_range", y)) if value is not None}
    plot = figure(
        title=title,
        height=265,
        sizing_mode="stretch_width",
        y_axis_label=label,
        y_axis_type="log" if log else "auto",
        tools="pan,xwheel_zoom,box_zoom,reset",
        **ranges,
    )
    plot.toolbar.autohide = True
    if x is not None:
        plot.xaxis.axis_label = "sweep"
        plot.xaxis.ticker = BasicTicker(min_interval=1)
        plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    if zero:
        plot.y_range.start = 0
    plot.title.text_font_size = "13px"
    for axis in plot.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "12px"
        axis.minor_tick_line_color = None
    plot.grid.grid_line_alpha = 0.5
    plot.min_border_left = 60
    return plot


def _legend(plot: Any) -> Any:
    """The legend of a plot outside of it, where it covers nothing."""
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.orientation = "horizontal"
    legend.label_text_font_size = "11px"
    legend.glyph_height = legend.glyph_width = 12
    legend.padding = legend.margin = 0
    legend.spacing = 12
    legend.border_line_color = None
    legend.background_fill_alpha = 0
    return plot
