"""Kinds of metrics, a file by what they are of: labels, scores, probabilities, numbers.

Workers import these files, and scikit-learn only where a metric calls one of its functions there.
"""
