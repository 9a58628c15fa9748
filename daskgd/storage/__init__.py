"""Datasets and files on disk and in object stores: the only room that imports zarr.

Datasets are opened in `opening`; their rows are read in `reading`, decoded in `codec`, into arrays of
`buffer_pool`. They are written in `writing`, from arrays that `conversion` has checked, and become valid in
`commit`. `checksums` tell whether what is stored is what was written, `redaction` what messages may say of
it, `retry` which failed reads to repeat. Models and checkpoints are `records` in `atomic_files`: these know
no zarr, so that nothing is imported here.
"""
