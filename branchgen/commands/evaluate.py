"""`branchgen evaluate`: how close generated cells come to held-out real ones."""

from __future__ import annotations

import argparse
import logging

from branchgen import files
from branchgen.analysis.evaluate import ALL, embed, evaluate
from branchgen.config import EvaluateSettings

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: EvaluateSettings) -> None:
    """Write the metrics of the generated cells, of the floor and of the baselines, and a UMAP."""
    generated = files.read_artefact(arguments.generated, "generate")
    cells = files.read_artefact(arguments.cells, "prepare")
    metrics = evaluate(generated, cells, settings, arguments.seed)
    embedding = embed(generated, cells, settings, arguments.seed)
    outputs = (arguments.output_metrics, arguments.output_embedding)
    with files.written_together(*outputs) as (metrics_path, embedding_path):
        files.write_table(metrics, metrics_path)
        files.write_table(embedding, embedding_path)
    headline = metrics[(metrics["group"] == ALL) & (metrics["metric"] == "c2st_auc")]
    for row in headline.itertuples():
        log.info("c2st_auc %s %.3f, %d cells a side", row.source, row.value, row.n_cells)
