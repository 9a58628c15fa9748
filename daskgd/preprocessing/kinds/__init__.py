"""How each kind of scikit-learn's transformers is fitted, and what columns it makes."""
