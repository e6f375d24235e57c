"""Real and generated cells in one plane."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from branchgen.analysis.samples import MIN_CELLS, OWN, TEST, Study, matched
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError
from branchgen.seeds import named_seed, numpy_rng


def embed(study: Study, settings: EvaluateSettings, seed: int) -> pd.DataFrame:
    """UMAP of test and generated cells at equal numbers of every type: umap_1, umap_2, cell_type, source.

    source is real or generated; the distances are those in the principal components of the ref cells.
    """
    from umap import UMAP  # compiles for seconds when imported

    real, other = matched(study.splits[TEST], study.made[OWN], seed, "umap")
    if len(real) < MIN_CELLS:
        raise BranchgenError(
            f"the generated and the test cells have {len(real)} cells of common types; a UMAP needs {MIN_CELLS}"
        )
    if len(real) > settings.n_umap:
        # The same rows on both sides, so that the types stay matched.
        rows = np.sort(numpy_rng(seed, "embed", "rows").choice(len(real), settings.n_umap, replace=False))
        real, other = real.take(rows), other.take(rows)
    scores = np.concatenate([study.reference.project(cells.counts) for cells in (real, other)]).astype(np.float32)
    n_neighbours = min(15, len(scores) - 1)
    # Exact, and much quicker than what UMAP does for fewer than 4,096 points.
    distances, neighbours = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(scores).kneighbors(scores)
    mapping = UMAP(
        n_neighbors=n_neighbours,
        init="pca",
        n_jobs=1,
        random_state=named_seed(seed, "embed") % 2**32,
        precomputed_knn=(neighbours, distances, None),
        force_approximation_algorithm=True,
    )
    with warnings.catch_warnings():
        # Nothing will be transformed afterwards.
        warnings.filterwarnings("ignore", message=".*transforming new data with transform")
        positions = mapping.fit_transform(scores)
    return pd.DataFrame(
        {
            "umap_1": positions[:, 0],
            "umap_2": positions[:, 1],
            "cell_type": np.concatenate([real.types, other.types]),
            "source": np.repeat(["real", "generated"], len(real)),
        }
    )
