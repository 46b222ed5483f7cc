"""The embedded example: scikit-learn's diabetes study (442 patients; Efron et al. 2004)."""

import pandas

_PROGRESSION = 140
"""About the median of the study's measure of progression after one year."""


def diabetes() -> pandas.DataFrame:
    """Who got worse, and what a classifier says that never saw that patient.

    Columns: sex ("1" and "2" as the study codes them; it does not say which is which), age_band,
    progressed (progression above 140), predicted, score (5-fold cross-validated logistic
    regression on all ten measurements).
    """
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    bunch = load_diabetes(scaled=False, as_frame=True)
    measured, progressed = bunch.data, bunch.target > _PROGRESSION
    score = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression()),
        measured,
        progressed,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    return pandas.DataFrame(
        {
            "sex": measured["sex"].astype(int).astype(str),
            "age_band": pandas.cut(
                measured["age"], [0, 40, 55, 120], right=False, labels=["<40", "40-54", "≥55"]
            ).astype(str),
            "progressed": progressed.astype(int),
            "predicted": (score >= 0.5).astype(int),
            "score": score,
        }
    )
