"""The steps of the workflow, and their settings."""

from __future__ import annotations

from branchgen.config import SECTIONS, PlotSettings
from branchgen.interface.command import Command
from branchgen.section import Section

STEPS = {
    "fetch": Command(
        summary="Download an h5ad and check its SHA-256.",
        inputs={},
        outputs={"cells": "the downloaded h5ad"},
        options={"url": "address of the h5ad", "sha256": "its SHA-256 (hex)"},
        required=("url", "sha256"),
        seed=False,
    ),
    "prepare": Command(
        summary="Validate raw counts, filter, split, and select variable genes.",
        inputs={},
        outputs={"cells": "prepared cells (h5ad)"},
        options={
            "source": "path to an h5ad or a zarr store of raw counts, or scanpy:pbmc68k_reduced",
            "label-key": "column of obs with the cell types",
            "counts": "where the raw counts are: X or the name of a layer (default: X)",
            "split-key": "column of obs (donor, batch) whose values are kept together in one split",
            "like": "prepared cells (h5ad) whose genes are taken, for cells that are to extend their model",
        },
        required=("source", "label-key"),
    ),
    "encode": Command(
        summary="Fit the codec and encode the cells.",
        inputs={"cells": "prepared cells (h5ad)"},
        outputs={"codec": "the codec (pt)", "latents": "latent coordinates (h5ad)"},
        device=True,
    ),
    "derive": Command(
        summary="Derive the hierarchy of classes and its branch times.",
        inputs={"cells": "prepared cells (h5ad)", "latents": "latent coordinates (h5ad)"},
        outputs={
            "hierarchy": "the hierarchy (json)",
            "newick": "the same tree (Newick)",
            "divergence": "pairwise divergence of the classes over time (parquet)",
        },
        options={
            "newick": "file with the tree of the classes; only the times are then derived",
            "levels": "columns of obs from coarse to fine that define the tree; only the times are then derived",
        },
        lists=("levels",),
        switches={"flat": "no tree: all classes part at once, next to the noise, and share nothing"},
    ),
    "train": Command(
        summary="Train the branched diffusion model; resumes from its last checkpoint.",
        inputs={"latents": "latent coordinates (h5ad)", "hierarchy": "the hierarchy (json)"},
        outputs={"model": "the model (pt)", "training": "held-out losses (parquet)"},
        options={"checkpoints": "folder of the checkpoints (default: beside the model)"},
        device=True,
    ),
    "generate": Command(
        summary="Generate cells.",
        inputs={"model": "the model (pt)", "codec": "the codec (pt)"},
        outputs={"generated": "generated cells (h5ad)"},
        options={"shard": "number of the part of the cells that is generated, of n_shards (default: all cells)"},
        device=True,
    ),
    "gather": Command(
        summary="Put the shards of generated cells in one file.",
        inputs={},
        outputs={"generated": "generated cells (h5ad)"},
        options={"shards": "all shards, in any order (h5ad)"},
        lists=("shards",),
        required=("shards",),
        seed=False,
    ),
    "baseline": Command(
        summary="Generate cells by a simpler method, to compare the generated cells with.",
        inputs={},
        outputs={"generated": "cells of the baseline (h5ad)"},
        options={
            "method": "codec: training cells through the codec and back; "
            "gauss: a Gaussian per class in the latent space of the codec; "
            "scvi: a mixture of Gaussians per class in the latent space of scVI (pip install 'branchgen[scvi]')",
            "latents": "codec, gauss: latent coordinates (h5ad)",
            "codec": "codec, gauss: the codec (pt)",
            "cells": "scvi: prepared cells (h5ad)",
        },
        required=("method",),
        device=True,
    ),
    "analyse": Command(
        summary="Sample the populations at the branch points and compare their children.",
        inputs={"model": "the model (pt)", "codec": "the codec (pt)", "cells": "prepared cells (h5ad)"},
        outputs={
            "branch-points": "populations at the branch points (h5ad)",
            "table": "branch points (parquet)",
            "genes": "genes that separate the children (parquet)",
            "fates": "real cells with the probability of every class and child once noised (h5ad)",
            "separability": "how well the children can be told apart, from data to noise (parquet)",
        },
        device=True,
    ),
    "transmute": Command(
        summary="Make real cells of one class cells of another, through their branch point.",
        inputs={"model": "the model (pt)", "codec": "the codec (pt)", "cells": "prepared cells (h5ad)"},
        outputs={
            "transmuted": "the cells as cells of the other class (h5ad)",
            "changes": "what changed and what was kept, by gene (parquet)",
        },
        options={"source": "class of the real cells", "target": "class that they are to be of"},
        required=("source", "target"),
        device=True,
    ),
    "extend": Command(
        summary="Add the classes of new cells to a trained model; what it makes of the old ones stays, bit for bit.",
        inputs={
            "model": "the model (pt)",
            "codec": "the codec (pt)",
            "cells": "prepared cells of the new classes (h5ad), made with prepare --like",
        },
        outputs={
            "model": "the model with the new classes (pt)",
            "hierarchy": "the hierarchy with the new classes (json)",
            "newick": "the same tree (Newick)",
            "summary": "place, training and codec's fit of every new class (parquet)",
        },
        device=True,
    ),
    "evaluate": Command(
        summary="Compare generated with held-out real cells.",
        inputs={
            "generated": "generated cells (h5ad)",
            "cells": "prepared cells (h5ad)",
            "hierarchy": "the hierarchy (json), for metrics of all types below a branch",
        },
        outputs={
            "metrics": "metrics (parquet)",
            "embedding": "UMAP of real and generated cells (parquet)",
            "verdicts": "whether the cells of a type can be told from real ones, and by which genes (parquet)",
            "genes": "mean, variance and zeros of every gene (parquet)",
            "fold-changes": "log-fold-changes at every branch point (parquet)",
            "correlations": "gene-gene correlations within types (parquet)",
        },
        options={"baselines": "NAME=FILE of cells of other generators, to be compared as well (h5ad)"},
        lists=("baselines",),
    ),
    "plot": Command(
        summary="Draw the figures of the report, and set its table.",
        inputs={
            "hierarchy": "the hierarchy (json)",
            "training": "held-out losses (parquet)",
            "metrics": "metrics (parquet)",
            "embedding": "UMAP (parquet)",
            "verdicts": "whether the cells of a type can be told from real ones (parquet)",
            "genes": "mean, variance and zeros of every gene (parquet)",
            "fold-changes": "log-fold-changes at every branch point (parquet)",
            "correlations": "gene-gene correlations within types (parquet)",
        },
        outputs={
            "tree": "tree of the classes on the noise axis",
            "training": "training curves",
            "metrics": "metrics against floor and baselines",
            "page": "the same as tables (html)",
            "verdicts": "classifiers between real and generated cells of every type",
            "gene-moments": "variance and zeros of genes against their mean",
            "fold-changes": "log-fold-changes at every branch point",
            "correlations": "gene-gene correlations",
            "umap": "UMAP of real and generated cells",
            "umap-types": "the same, a panel per type",
        },
        seed=False,
    ),
    "plot-branch-points": Command(
        summary="Draw the branch points, and set a page of each.",
        inputs={
            "hierarchy": "the hierarchy (json)",
            "branch-points": "populations at the branch points (h5ad)",
            "table": "branch points (parquet)",
            "genes": "genes that separate the children (parquet)",
            "separability": "how well the children can be told apart (parquet)",
        },
        outputs={
            "figure": "separability and genes of every branch point",
            "page": "place, populations and genes of every branch point (html)",
        },
        seed=False,
    ),
    "plot-transmutation": Command(
        summary="Draw what changed in transmuted cells, and what was kept.",
        inputs={"changes": "what changed and what was kept, by gene (parquet)"},
        outputs={"figure": "the figure"},
        options={"source": "class of the real cells", "target": "class that they were made cells of"},
        required=("source", "target"),
        seed=False,
    ),
    "plot-extension": Command(
        summary="Set a page about new classes.",
        inputs={
            "summary": "place, training and codec's fit of every new class (parquet)",
            "metrics": "metrics of their cells (parquet)",
            "verdicts": "whether their cells can be told from real ones (parquet)",
        },
        outputs={"page": "the page (html)"},
        seed=False,
    ),
    "plot-sharing": Command(
        summary="Draw what sharing branches costs in quality, from the tables of benchmark-sharing.",
        inputs={},
        outputs={"figure": "the figure", "table": "all tables in one (parquet)"},
        options={"tables": "tables of benchmark-sharing, one for every model (parquet)"},
        lists=("tables",),
        required=("tables",),
        seed=False,
    ),
    "compare": Command(
        summary="Put the metrics of several runs in one table and on one page.",
        inputs={},
        outputs={"table": "all metrics over datasets and seeds (parquet)", "page": "the same to read (html)"},
        options={
            "runs": "DATASET:SEED=FOLDER of every run, where its metrics.parquet, verdicts.parquet and "
            "hierarchy.json are",
            "times": "DATASET:SEED=FOLDER with the run's times and memory, as Snakemake writes them (encode.tsv, ...)",
        },
        lists=("runs", "times"),
        required=("runs",),
        seed=False,
    ),
}
"""Every step by its name."""

SETTINGS: dict[str, type[Section]] = {
    **SECTIONS,
    "plot-branch-points": PlotSettings,
    "plot-transmutation": PlotSettings,
    "plot-sharing": PlotSettings,
}
"""Settings of every step that has settings."""
