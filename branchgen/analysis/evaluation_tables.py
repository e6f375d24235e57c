"""All that an evaluation finds, by the name of its table."""

from __future__ import annotations

import pandas as pd

from branchgen.analysis.embedding import embed
from branchgen.analysis.evaluate import evaluate
from branchgen.analysis.gene_tables import correlations_table, fold_change_table, gene_table, matched_pairs
from branchgen.analysis.samples import Study
from branchgen.config import EvaluateSettings
from branchgen.hierarchy.tree import Hierarchy


def evaluation_tables(
    study: Study, hierarchy: Hierarchy, settings: EvaluateSettings, seed: int
) -> dict[str, pd.DataFrame]:
    """Metrics, verdicts, genes, fold_changes, correlations and embedding."""
    metrics, verdicts = evaluate(study, hierarchy, settings, seed)
    pairs = matched_pairs(study, seed)
    return {
        "metrics": metrics,
        "verdicts": verdicts,
        "genes": gene_table(study, pairs),
        "fold_changes": fold_change_table(study, hierarchy, pairs),
        "correlations": correlations_table(study, pairs),
        "embedding": embed(study, settings, seed),
    }
