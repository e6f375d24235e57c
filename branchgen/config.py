"""Settings of every step, one frozen dataclass per section of config.yaml.

The dataclasses are the source of names, defaults, ranges and meanings; the command line, the JSON schema of the
workflow and config/README.md say the same, held together by tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from branchgen.section import Section, knob


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(Section):
    """Validation, filtering, variable genes and splits of the input."""

    min_genes_per_cell: int = knob(20, "Cells with fewer detected genes are removed.", low=1)
    min_cells_per_gene: int = knob(3, "Genes detected in fewer cells are not modelled.", low=1)
    min_cells_per_class: int = knob(10, "Classes with fewer cells are removed.", low=4)
    n_genes: int = knob(2000, "Number of most variable genes that are modelled; all where the input has fewer.", low=2)


@dataclass(frozen=True, kw_only=True)
class EncodeSettings(Section):
    """The codec between counts and latent coordinates."""

    codec: Literal["nb", "pca"] = knob(
        "nb",
        "nb: variational autoencoder, counts negative-binomial in two states of a gene; pca: linear, fast.",
    )
    n_latent: int = knob(32, "Number of latent coordinates besides the library size.", low=2, high=512)
    n_hidden: int = knob(256, "Width of the hidden layers of encoder and decoder.", low=8)
    kl_weight: float = knob(0.3, "Weight of the Kullback-Leibler term against the likelihood.", low=0)
    dropout: float = knob(0.2, "Share of the genes that the encoder does not see in training.", low=0, high=0.95)
    weight_decay: float = knob(0.1, "Decoupled weight decay of the autoencoder.", low=0)
    learning_rate: float = knob(1e-3, "Peak learning rate of the autoencoder.", low=0)
    batch_size: int = knob(128, "Cells per training step of the autoencoder.", low=1)
    max_epochs: int = knob(
        200, "Upper bound on passes over the training cells; of more than 100,000 cells, over as many of them.", low=1
    )
    patience: int = knob(10, "Passes without a better likelihood on the ref split before training stops.", low=1)


@dataclass(frozen=True, kw_only=True)
class DeriveSettings(Section):
    """The hierarchy of classes and its branch times."""

    topology: Literal["profiles", "criterion"] = knob(
        "profiles",
        "Which types are together: profiles: average linkage by the correlation of their mean expression profiles, "
        "with the splits that half of the resamples have; criterion: the groups that are first within the budget.",
    )
    criterion: Literal["fidelity", "similarity"] = knob(
        "fidelity",
        "fidelity: children within epsilon nats of their pooled distribution; "
        "similarity: distances between classes within a fraction epsilon of those inside a class.",
    )
    epsilon: float = knob(
        0.5,
        "Budget of the criterion (fidelity: in nats); a larger one branches later in generation and shares more. "
        "Divergence grows with the logarithm of distance: at 1 nat, types five standard deviations apart can be one.",
        low=0,
    )
    max_evaluations: float = knob(
        0.5,
        "Network evaluations at most, as a share of those without a tree; where the criterion asks for more, all "
        "branch points move towards the data by one factor, at most by a half.",
        low=0,
        high=1,
    )
    min_branch_span: float = knob(
        0.03,
        "Shortest time between a branch point and the one above it; a tree by criterion has one branch point with "
        "several children instead.",
        low=0,
        high=0.5,
    )
    n_bootstrap: int = knob(50, "Resamples of the cells for support and intervals of the branch times.", low=0)
    sigma_min: float = knob(0.1, "Noise level at time 0, in units of the latent coordinates.", low=1e-6)
    sigma_max: float = knob(10.0, "Noise level at time 1, in units of the latent coordinates.", low=1e-6)


@dataclass(frozen=True, kw_only=True)
class FitSettings(Section):
    """Steps of an optimiser, until held-out cells are no longer denoised better."""

    n_steps: int = knob(3000, "Training steps at most.", low=1)
    batch_size: int = knob(512, "Noised cells per training step.", low=16)
    learning_rate: float = knob(2e-3, "Peak learning rate; warmed up, then annealed by a cosine.", low=0)
    weight_decay: float = knob(0.01, "Decoupled weight decay.", low=0)
    gradient_clip: float = knob(1.0, "Largest norm of the gradient.", low=0)
    ema_halflife: float = knob(
        0.05, "Half-life of the weights' exponential moving average, as a fraction of the steps taken.", low=0, high=1
    )
    validate_every: int = knob(100, "Steps between evaluations of the held-out denoising loss.", low=1)
    patience: int = knob(15, "Evaluations without a lower held-out loss before training stops.", low=1)


@dataclass(frozen=True, kw_only=True)
class TrainSettings(FitSettings):
    """The branched diffusion model and its training."""

    n_hidden: int = knob(256, "Width of the encoder shared by all branches.", low=8)
    n_blocks: int = knob(3, "Residual blocks of the shared encoder.", low=1)
    n_head: int = knob(64, "Width of the hidden layer of a branch's head.", low=1)
    n_gaussians: int = knob(
        1,
        "Gaussians at most that a class is made of before the network learns the rest; as many of them as the density "
        "of cells left out asks for.",
        low=1,
        high=64,
    )
    class_weighting: Literal["equal", "sqrt", "proportional"] = knob(
        "proportional", "How often a class is drawn: equal, by the square root of its cells, or by its cells."
    )
    checkpoint_seconds: float = knob(60.0, "Seconds between checkpoints.", low=0)
    precision: Literal["float32", "bfloat16"] = knob(
        "float32",
        "Precision of the network's matrix products in training; bfloat16 is for GPUs and wide networks. Weights, "
        "the Gaussians, the loss and sampling are float32.",
    )
    compile: bool = knob(
        default=False, meaning="Compile the network for training, which takes a minute and a C++ compiler."
    )


@dataclass(frozen=True, kw_only=True)
class ExtendSettings(FitSettings):
    """New classes on a trained model."""

    n_steps: int = knob(1000, "Training steps of a class at most.", low=1)
    epsilon: float = knob(
        0.5, "Budget in nats for the time at which a class leaves the branch it shares, as in derive.", low=0
    )


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(Section):
    """Sampling of new cells."""

    n_cells: str = knob(
        "train",
        "A number for every class; train: as many of each class as the training split has; new: the same of the "
        "classes by which the model was extended last; or a table of class (or branch) to number.",
    )
    solver: Literal["dpmpp_2m", "heun", "sde", "pc"] = knob(
        "dpmpp_2m", "Integrator of the reverse process: dpmpp_2m, heun, sde (stochastic), pc (predictor-corrector)."
    )
    n_steps: int = knob(
        10, "Solver steps between noise and data; benchmark-solver tells what more would change.", low=2
    )
    handover: Literal["transport", "linear", "identity"] = knob(
        "transport",
        "How a sample enters a child branch: by transport between the mixtures of the classes' Gaussians; by "
        "the linear map that matches mean and covariance of the branches; or as it is.",
    )
    n_corrections: int = knob(
        0,
        "Langevin steps under a child branch as it is entered, for what the hand-over leaves wrong; each is one more "
        "network evaluation.",
        low=0,
    )
    ancestors: Literal["shared", "independent"] = knob(
        "shared",
        "shared: cells of different classes are one above their branch point, which saves work and pairs them, as "
        "obs['ancestor'] says; independent: every class comes down from noise of its own, for statistics across "
        "classes.",
    )
    batch_size: int = knob(4096, "Cells held in memory before they are written.", low=1)
    n_shards: int = knob(
        1, "Parts of the cells that are generated by jobs of their own, side by side; the cells are the same.", low=1
    )


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(Section):
    """Simpler generators, with which the generated cells are compared."""

    n_cells: str = knob(
        "train", "A number for every class; train: as many as the training split has; or a table of class to number."
    )
    n_components: int = knob(5, "scvi: most components of the mixture of a class, chosen by BIC.", low=1)
    max_epochs: int = knob(0, "scvi: upper bound on passes over the training cells; 0 leaves it to scVI.", low=0)


@dataclass(frozen=True, kw_only=True)
class AnalyseSettings(Section):
    """Populations and genes of the branch points."""

    n_cells: int = knob(128, "Cells of every population at a branch point.", low=2)
    n_draws: int = knob(32, "Draws of noise over which the fates of real cells are means.", low=2)
    n_steps: int = knob(20, "Solver steps between noise and data.", low=2)
    handover: Literal["transport", "linear", "identity"] = knob(
        "transport",
        "How a sample enters a child branch: by transport between the mixtures of the classes' Gaussians; by "
        "the linear map that matches mean and covariance of the branches; or as it is.",
    )


@dataclass(frozen=True, kw_only=True)
class TransmuteSettings(Section):
    """Real cells of one class as cells of another."""

    noising: Literal["flow", "fresh"] = knob(
        "flow",
        "How cells come to the branch point of the two classes: flow: along the model's own flow, which draws nothing "
        "and keeps the place of a cell among those of its class; fresh: by noise, which hides all that is smaller.",
    )
    handover: Literal["transport", "identity"] = knob(
        "transport",
        "How a cell passes to the other class there: by optimal transport between the noised Gaussians; or as it is.",
    )
    n_steps: int = knob(20, "Solver steps between noise and data.", low=2)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Section):
    """Comparison of generated with held-out real cells."""

    n_genes: int = knob(500, "Variable genes, chosen on the ref split, that the classifier sees.", low=2)
    n_components: int = knob(50, "Principal components, fitted on the ref split, of the two-sample metrics.", low=2)
    max_cells: int = knob(2000, "Largest number of cells on either side of a two-sample metric.", low=20)
    n_seeds: int = knob(
        3,
        "Repeats of all that is random in a metric: which cells are matched, folds, classifiers, draws, subsamples; "
        "a metric is their mean, beside their standard deviation.",
        low=1,
        high=20,
    )
    n_permutations: int = knob(
        200, "Permutations of the test of the maximum mean discrepancy; p-values reach 1 / (permutations + 1).", low=19
    )
    n_umap: int = knob(2000, "Largest number of real and of generated cells in the UMAP.", low=20)


@dataclass(frozen=True, kw_only=True)
class PlotSettings(Section):
    """Figures of the report."""

    format: Literal["svg", "png"] = knob("svg", "File format of the figures.")


SECTIONS: dict[str, type[Section]] = {
    "prepare": PrepareSettings,
    "encode": EncodeSettings,
    "derive": DeriveSettings,
    "train": TrainSettings,
    "generate": GenerateSettings,
    "baseline": BaselineSettings,
    "analyse": AnalyseSettings,
    "transmute": TransmuteSettings,
    "extend": ExtendSettings,
    "evaluate": EvaluateSettings,
    "plot": PlotSettings,
}
"""Settings class of every section of config.yaml; section, command and rule share their name."""
