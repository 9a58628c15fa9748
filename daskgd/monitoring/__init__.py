"""What can be seen of a fit: events, the history, watchers, the reporter and the page on Dask's dashboard."""
