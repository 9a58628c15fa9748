"""The only loop, its journal, fits that share sweeps, and checkpoints: solvers joined to an engine."""
