"""What scikit-learn's own checks of estimators may find of daskgd's, and why that is so.

:data:`EXPECTED_FAILURES` is in the form that ``sklearn.utils.estimator_checks.check_estimator`` takes as
`expected_failed_checks`. What scikit-learn's own class of the name fails, too, is in :data:`FAILED_THERE`.
"""

from typing import Any

WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
SPARSE_WEIGHTS = "check_sample_weight_equivalence_on_sparse_data"
LABELS = "check_classifiers_multilabel_output_format_predict_proba"

BY_ROWS = (
    "scikit-learn's fails it, too: its rule goes through the rows one by one, here in batches, in which a "
    "row twice is met twice"
)

NOT_CONVEX = (
    "its objective is not convex, and with features standardised its fit does not end at a minimum: a weight "
    "of 2 and a row twice are one objective, but sums of another rounding, from which paths part. With "
    "scale=False it passes, as scikit-learn's does"
)

EXPECTED_FAILURES: dict[str, dict[str, str]] = {
    "HuberRegressor": {
        WEIGHTS: (
            "scikit-learn's fails it, too: with more features than rows the scale goes to 0 with the "
            "residuals, and where a fit stops may be a matter of rounding"
        ),
    },
    "MLPClassifier": {
        LABELS: (
            "scikit-learn's fails it, too, with solver='lbfgs', which is the automatic choice here: it "
            "asserts that no probability is 1, as that of a label of which the fit is sure is to 16 digits"
        ),
    },
    "MLPRegressor": {WEIGHTS: NOT_CONVEX, SPARSE_WEIGHTS: NOT_CONVEX},
    "Perceptron": {WEIGHTS: BY_ROWS, SPARSE_WEIGHTS: BY_ROWS},
    "SGDClassifier": {WEIGHTS: BY_ROWS, SPARSE_WEIGHTS: BY_ROWS},
    "SGDRegressor": {WEIGHTS: BY_ROWS, SPARSE_WEIGHTS: BY_ROWS},
}
"""``{estimator: {check: reason}}``."""

FAILED_THERE: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("HuberRegressor", {}, WEIGHTS),
    ("MLPClassifier", {"solver": "lbfgs"}, LABELS),
    ("Perceptron", {}, WEIGHTS),
    ("Perceptron", {}, SPARSE_WEIGHTS),
    ("SGDClassifier", {}, WEIGHTS),
    ("SGDClassifier", {}, SPARSE_WEIGHTS),
    ("SGDRegressor", {}, WEIGHTS),
    ("SGDRegressor", {}, SPARSE_WEIGHTS),
)
"""Estimators of scikit-learn, by name and parameters, and checks that they fail."""
