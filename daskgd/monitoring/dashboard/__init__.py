"""The training page of Dask's dashboard: what lives on the scheduler.

A plugin listens to the events of fits, keeps what they say within limits, and serves it: a page ``/daskgd``
with an entry in the navigation bar, ``/daskgd/metrics.json``, and gauges beside those of Dask in
``/metrics``.
The rooms here may travel to a scheduler that has no daskgd, as code that goes along: so they import the
standard library, distributed, tornado and, where they draw, bokeh, and of daskgd only one another, by name.
They show what events say of fits and never rows, labels or addresses of data, and cannot change anything.
"""
