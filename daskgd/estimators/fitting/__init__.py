"""Fits of estimators: which solver, what it will cost, callbacks, and many fits in the same sweeps."""
