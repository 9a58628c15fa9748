"""Rosenblatt's perceptron on four rows that a line separates: it ends when no mistake is left."""

import numpy as np

import daskgd

X = np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0]])
y = np.array([1, 1, -1, -1])


def main():
    """The fitted perceptron."""
    model = daskgd.Perceptron().fit(X, y)
    w, b = model.coef_[0], model.intercept_[0]
    print(f"the line: {w[0]:.4g} x1 + {w[1]:.4g} x2 + {b:.4g} = 0, after {model.n_iter_} iterations")
    for row, label, predicted in zip(X, y, model.predict(X), strict=True):
        print(f"{row} is {label:+d}, predicted {predicted:+d}")
    print(f"{model.score(X, y):.0%} right")
    return model


if __name__ == "__main__":
    main()
