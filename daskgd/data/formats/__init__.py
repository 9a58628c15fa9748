"""Readers of files, one module for each kind: blocks of rows, a file at a time, for :func:`daskgd.ingest`."""
