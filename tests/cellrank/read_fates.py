"""What CellRank 2 makes of fates.h5ad; run by a Python that has it: read_fates.py FATES FOLDER."""

import sys
from pathlib import Path

import anndata
import cellrank
import matplotlib as mpl
import numpy as np
import scanpy as sc
from cellrank.estimators import CFLARE
from cellrank.kernels import ConnectivityKernel

mpl.use("agg")
cells, folder = anndata.read_h5ad(sys.argv[1]), Path(sys.argv[2])
fates = np.asarray(cells.obsm["lineages_fwd"]).copy()
lineage = cellrank.Lineage.from_adata(cells, backward=False)
assert list(lineage.names) == list(cells.obs["term_states_fwd"].cat.categories)

sc.pp.neighbors(cells, use_rep="X_latent")
sc.tl.umap(cells)
cellrank.pl.circular_projection(cells, keys="cell_type", backward=False, save=folder / "circle.png")
cellrank.pl.aggregate_fate_probabilities(
    cells, mode="heatmap", cluster_key="cell_type", backward=False, save=folder / "heatmap.png"
)

# An estimator restores itself from a transition matrix and its eigenvectors; the fates that it then reads are ours.
kernel = ConnectivityKernel(cells).compute_transition_matrix()
kernel.write_to_adata()
CFLARE(kernel).compute_eigendecomposition()
estimator = CFLARE.from_adata(cells, obsp_key="T_fwd")
assert np.allclose(np.asarray(estimator.fate_probabilities.X), fates)
estimator.compute_lineage_drivers().to_csv(folder / "drivers.csv")
