"""Real and generated cells in one plane."""

from __future__ import annotations

import numpy as np
import pandas as pd

from branchgen.analysis.samples import MIN_CELLS, OWN, TEST, Study, at_most, matched
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
    real, other = at_most(real, other, settings.n_umap, numpy_rng(seed, "embed", "rows"))
    scores = np.concatenate([study.reference.project(cells.counts) for cells in (real, other)])
    mapping = UMAP(
        n_neighbors=min(15, len(scores) - 1), init="pca", n_jobs=1, random_state=named_seed(seed, "embed") % 2**32
    )
    positions = mapping.fit_transform(scores.astype(np.float32))
    return pd.DataFrame(
        {
            "umap_1": positions[:, 0],
            "umap_2": positions[:, 1],
            "cell_type": np.concatenate([real.types, other.types]),
            "source": np.repeat(["real", "generated"], len(real)),
        }
    )
