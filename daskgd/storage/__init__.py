"""Datasets and files on disk and in object stores: the only room that imports zarr.

Opening a dataset is `opening`, reading its rows `reading` and, of one chunk, `codec`; writing is `writing`, with
`conversion` of what is given and `commit`, which makes a dataset valid. `checksums` tell whether what is stored
is what was written, `redaction` what messages may say of it, `retry` which failed reads to repeat. `records`
and `atomic_files` hold models and checkpoints; they know no zarr, so that nothing is imported here.
"""
