"""The columns of the table of flights, for the programs that encode it: numbers first, then categories."""

NUMBERS = ["distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
CATEGORIES = ["carrier", "tailnum", "origin", "dest", "month", "hour"]
TARGET, POSITIVE = "late", "yes"


def encoder():
    """What becomes of the columns, in scikit-learn's words."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_column_transformer((numbers, NUMBERS), (OneHotEncoder(handle_unknown="ignore"), CATEGORIES))
