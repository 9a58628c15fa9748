"""Metrics as sums: scikit-learn's, of rows that do not fit in memory."""
