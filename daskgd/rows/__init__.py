"""Rows in memory: features, tiles, the layout of blocks and partitions, random numbers by row, moments.

Loads numpy; knows no problem, and not where rows come from.
"""
