"""What daskgd uses of other libraries that these do not promise, a file per library; and names of 0.1.0.

Each function says what it relies on and why no public way does the same, so that a new version of a library
is answered in one place. A test keeps what is not public out of all other rooms, but for ``dashboard``, which
has a file of its own for it, as it travels to schedulers without the rest of daskgd.
"""
