"""Datasets and files on disk and in object stores: the only room that imports zarr.

A dataset is opened by `opening`; its rows are read by `reading`, a chunk of them by `codec`. It is written by
`writing`, with `conversion` of what is given, and made valid by `commit`. `checksums` tell whether what is
stored is what was written, `redaction` what messages may say of it, `retry` which failed reads to repeat.
`records` and `atomic_files` hold models and checkpoints; they know no zarr, so that nothing is imported here.
"""
