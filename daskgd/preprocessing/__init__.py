"""Preprocessing: scikit-learn's transformers, fitted by sums over stored columns and applied block by block.

A *specification* is whatever scikit-learn takes: a ``ColumnTransformer``, a ``Pipeline``, a
``FeatureUnion``, a transformer. :func:`~daskgd.preprocessing.fitting.fit_encoder` makes of it the fitted
object that scikit-learn would, without passing it the data. ``columns`` says what the columns of a table are
and how they are computed, ``facts`` what is known of them; ``fitting`` walks through a specification and
collects what is to be asked in one sweep; each file of ``kinds`` knows the transformers of one kind: what
they need to know, and what columns they make. :class:`~daskgd.preprocessing.encoded.EncodedColumn` is the
encoded table, which nobody stores: blocks are encoded as they are read; ``encoding`` makes one.

To add a transformer: write how it is fitted, and what columns it makes, in the file of its kind, and list it
in ``kinds/table.py``.
"""
