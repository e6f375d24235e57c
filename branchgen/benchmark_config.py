"""Settings of the benchmarks, which are commands and have no section in config.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from branchgen.section import Section, knob


@dataclass(frozen=True, kw_only=True)
class BenchmarkStepsSettings(Section):
    """Timing of training and sampling steps."""

    n_branches: str = knob("10,50,200", "Numbers of branches, separated by commas.")
    batch_size: int = knob(1024, "Noised cells per training step.", low=64)
    n_hidden: int = knob(256, "Width of the encoder shared by all branches.", low=8)
    n_repeats: int = knob(20, "Timed steps of each kind and size.", low=1)


@dataclass(frozen=True, kw_only=True)
class BenchmarkScaleSettings(Section):
    """Time, memory and traffic of every step, by the number of cells and of classes."""

    n_cells: str = knob("10000,100000,1000000", "Numbers of cells, separated by commas.")
    n_classes: str = knob(
        "10,50,200", "Numbers of classes, separated by commas; all are run with all numbers of cells."
    )
    n_genes: int = knob(2000, "Genes.", low=50)
    max_epochs: int = knob(10, "Passes of encode over the training cells, or over 100,000 of them.", low=1)
    n_steps: int = knob(500, "Training steps; a second training takes twice as many.", low=1)


@dataclass(frozen=True, kw_only=True)
class BenchmarkEvaluateSettings(Section):
    """Time and memory of an evaluation."""

    n_cells: int = knob(50000, "Test and generated cells together.", low=100)
    n_genes: int = knob(2000, "Genes.", low=10)
    n_types: int = knob(12, "Cell types.", low=2)


@dataclass(frozen=True, kw_only=True)
class BenchmarkTransmuteSettings(Section):
    """Class and state of transmuted cells, beside simpler ways."""

    n_steps: int = knob(20, "Solver steps between noise and data.", low=2)
    min_cells: int = knob(20, "Held-out cells that a class must have in both states.", low=2)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSolverSettings(Section):
    """Cells by the number of solver steps."""

    n_steps: str = knob("5,10,20,40", "Numbers of solver steps between noise and data, separated by commas.")
    n_exact_steps: int = knob(160, "Steps of the cells that the others are compared with.", low=3)
    solver: Literal["dpmpp_2m", "heun"] = knob("dpmpp_2m", "Integrator of the reverse process, without own noise.")


@dataclass(frozen=True, kw_only=True)
class BenchmarkRareTypesSettings(Section):
    """Generated cells of rare types."""

    max_train_cells: int = knob(120, "Training cells that a type has at most to be called rare.", low=1)
    min_cells: int = knob(30, "Held-out cells that a type must have for a classifier.", low=5)
    n_draws: int = knob(3, "Classifiers of every type and source, each of other cells.", low=1)
    n_yardsticks: int = knob(20, "Draws of held-out and training cells to which generated ones may be near.", low=1)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSharingSettings(Section):
    """Cost and quality of shared branches by hand-over."""

    n_steps: int = knob(20, "Solver steps between noise and data.", low=2)
    n_corrections: int = knob(4, "Langevin steps under a child branch, where there are any.", low=1)
    n_paper_steps: int = knob(0, "Steps of the predictor-corrector that is compared; 0 leaves it out.", low=0)
    n_seeds: int = knob(3, "Sets of cells that are generated in every way.", low=1)


@dataclass(frozen=True, kw_only=True)
class BenchmarkExtendSettings(Section):
    """Extension beside fine-tuning and training from the start."""

    codec: Literal["nb", "pca"] = knob("nb", "Codec, as in encode.")
    n_train_steps: int = knob(3000, "Training steps of a whole model at most.", low=1)
    n_steps: int = knob(1000, "Training steps of an extension, and of fine-tuning, at most.", low=1)
    n_solver_steps: int = knob(20, "Solver steps between noise and data.", low=2)


@dataclass(frozen=True, kw_only=True)
class BenchmarkTreesSettings(Section):
    """Derived trees beside known ones."""

    n_trees: int = knob(50, "Simulated trees.", low=0)
    n_cells: int = knob(4000, "Cells of a tree, one in a hundred of its rarest class.", low=200)
    n_genes: int = knob(2000, "Genes.", low=10)
    n_counts: int = knob(2000, "Counts of a cell.", low=10)
    n_latent: int = knob(32, "Latent coordinates.", low=2)
    n_bootstrap: int = knob(50, "Resamples of the cells, as in derive.", low=0)
