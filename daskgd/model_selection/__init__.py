"""Choosing a model: search and cross-validation in shared reads, by scikit-learn's names."""
