"""Five small benchmarks that airspeed velocity tracks over commits: ``asv run`` with ``asv.conf.json``."""
