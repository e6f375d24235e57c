"""Whether generated cells serve what real ones are used for: training a classifier of cell types."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from branchgen.analysis.two_sample import Floats


def transfer_f1(cells: Floats, types: NDArray[np.str_], test: Floats, test_types: NDArray[np.str_]) -> float:
    """Macro-averaged F1 on `test` of a logistic regression that was trained on `cells` and their types.

    Rows are cells, columns principal components; at least two types, the same on both sides.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, tol=1e-3))
    predicted = model.fit(cells, types).predict(test)
    return float(f1_score(test_types, predicted, average="macro"))
