"""What scikit-learn's own checks of estimators may find of daskgd's, and why that is so.

:data:`EXPECTED_FAILURES` is in the form that ``sklearn.utils.estimator_checks.check_estimator`` takes as
`expected_failed_checks`.
"""

EXPECTED_FAILURES: dict[str, dict[str, str]] = {
    "HuberRegressor": {
        "check_sample_weight_equivalence_on_dense_data": (
            "it has more features than rows, where the scale goes to 0 with the residuals: the objective has "
            "no minimum, and where a fit stops is a matter of rounding"
        ),
    },
    "MLPClassifier": {
        "check_classifiers_train": (
            "it compares predict_log_proba with the logarithm of predict_proba, which is -inf where the odds "
            "are beyond what a float64 holds; here it is the finite number that it is"
        ),
        "check_classifiers_multilabel_output_format_predict_proba": (
            "it asserts that no probability is 1, as that of a label of which the fit is sure is to 16 digits"
        ),
    },
    "MLPRegressor": {
        "check_sample_weight_equivalence_on_dense_data": (
            "its objective is not convex, and its fit does not end at a minimum: a weight of 2 and a row "
            "twice are one objective, but sums of another rounding, from which paths part"
        ),
    },
    "Perceptron": {
        "check_sample_weight_equivalence_on_dense_data": (
            "its rule goes through the rows in batches, in which a row twice is met twice, as scikit-learn's "
            "goes row by row: there the check is expected to fail, too"
        ),
        "check_class_weight_classifiers": (
            "it sets n_iter_no_change, which is refused unless it has its default: the perceptron here stops "
            "when no mistake is left, however long the loss stays where it is"
        ),
    },
}
"""``{estimator: {check: reason}}``."""
