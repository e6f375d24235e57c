"""What happens at a branch point: the populations there, their denoised profiles, and the genes that part below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import false_discovery_control, ttest_ind_from_stats
from sklearn.utils.sparsefuncs import mean_variance_axis
from torch import Tensor

from branchgen.analysis.expression import mean_profiles, normalised
from branchgen.cells.codec import Codec
from branchgen.cells.keys import BRANCH, CELL_TYPE, COUNTS, DENOISED, LATENT, POPULATION, SPLIT, TIME
from branchgen.diffusion.blocks import blocks_of, cells_of_classes
from branchgen.diffusion.handover import levels_at
from branchgen.diffusion.sample import Passage, descend
from branchgen.diffusion.sampler import TreeSampler
from branchgen.hierarchy.moments import gaussian_divergence

Doubles = NDArray[np.float64]

POINTS = ["branch", "child", "time", "time_low", "time_high", "support", "sigma", "divergence", "classes", "n_train"]
"""Columns of the table of branch points."""
GENES = [
    "branch",
    "child",
    "gene",
    "log2_fold_change",
    "statistic",
    "p_value",
    "q_value",
    "expression",
    "hybrid",
    "difference_at_branch_point",
]
"""Columns of the table of their genes; expression and hybrid are ln(1 + counts per 10⁴)."""


@dataclass(frozen=True)
class Population:
    """Cells of a branch at a branch point: noised x_t and denoised E[x_0 | x_t], each (n_cells, d)."""

    branch: str
    name: str
    time: float
    noised: Tensor
    denoised: Tensor


def populations(sampler: TreeSampler, n_cells: int) -> Iterator[Population]:
    """Populations at every branch point: the parent's, denoised by the parent, and each child's, by the child.

    Row i of all populations descends from the same noise.
    """
    tree = sampler.hierarchy
    wanted = dict.fromkeys(tree.classes, n_cells)
    segments: dict[str, dict[int, Passage]] = {branch.name: {} for branch in tree.branches}
    for block in blocks_of(wanted):
        for passage in descend(sampler, block, cells_of_classes(wanted, block), scope="analyse"):
            segments[passage.branch.name][passage.segment] = passage

    def gathered(name: str, *, leaving: bool) -> Tensor:
        passages = [passage for _, passage in sorted(segments[name].items(), key=itemgetter(0))]
        return torch.cat([p.leaving if leaving else p.entering for p in passages])[:n_cells]

    for position in tree.branch_points:
        branch = tree.branches[position]
        members = [(branch.name, True), *((tree.branches[child].name, False) for child in tree.children[position])]
        for name, leaving in members:
            noised = gathered(name, leaving=leaving)
            with torch.no_grad():
                denoised = sampler.denoiser_of(sampler.trunk_of[tree.index[name]])(noised, branch.t_start)
            yield Population(branch.name, name, branch.t_start, noised, denoised)


def log_profile(codec: Codec, denoised: Tensor) -> NDArray[np.float32]:
    """ln(1 + expected counts per 10⁴) of denoised latents, shape (n_cells, n_genes)."""
    expected = codec.decode(denoised).expected
    return np.asarray(torch.log1p(expected * (1e4 / expected.sum(dim=1, keepdim=True))).cpu().numpy())


def branch_point_cells(sampler: TreeSampler, codec: Codec, offsets: Mapping[str, Tensor], n_cells: int) -> AnnData:
    """All populations as one AnnData, X the log-normalised expectation of their denoised profiles.

    `offsets` are those of new classes; the populations of their own branches are decoded with them. The codec's own,
    which are small, are left out: what differs at a branch point is to be what the diffusion makes differ.
    A tree of one class has no branch point, and so no cells.
    """
    found = list(populations(sampler, n_cells))

    def stacked(blocks: Iterable[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
        return np.concatenate([np.zeros((0, width), dtype=np.float32), *blocks])

    def decoder(name: str) -> Codec:
        return codec.shifted_by(offsets.get(sampler.trunk_of[sampler.hierarchy.index[name]]))

    n_latent = len(sampler.schedule.sigma_min)
    obs = pd.DataFrame(
        {
            BRANCH: pd.Categorical(np.repeat([p.branch for p in found], n_cells)),
            POPULATION: pd.Categorical(np.repeat([p.name for p in found], n_cells)),
            TIME: np.repeat([p.time for p in found], n_cells),
        },
        index=[
            f"{p.branch} > {p.name}_{i}" if p.branch != p.name else f"{p.name}_{i}"
            for p in found
            for i in range(n_cells)
        ],
    )
    cells = AnnData(
        stacked((log_profile(decoder(p.name), p.denoised) for p in found), len(codec.genes)),
        obs=obs,
        var=pd.DataFrame(index=list(codec.genes)),
    )
    cells.obsm[LATENT] = stacked((p.noised.float().cpu().numpy() for p in found), n_latent)
    cells.obsm[DENOISED] = stacked((p.denoised.float().cpu().numpy() for p in found), n_latent)
    return cells


def branch_point_table(
    sampler: TreeSampler, support: Mapping[str, Mapping[str, float | None]], class_counts: Mapping[str, int]
) -> pd.DataFrame:
    """A row per branch point and child: time with its interval, support, divergence of the child (nats), classes."""
    tree, moments = sampler.hierarchy, sampler.moments
    rows = []
    for position in tree.branch_points:
        branch, trunk = tree.branches[position], sampler.trunk_of[position]
        # Where a new class leaves, nothing was resampled.
        own = support.get(trunk, {}) if len(sampler.parts(position)) == 1 else {}
        sigma = levels_at(sampler.schedule, branch.t_start)
        noise = np.diag(sigma**2)
        for child in tree.children[position]:
            divergence = gaussian_divergence(
                moments.mean[child],
                moments.covariance[child] + noise,
                moments.mean[position],
                moments.covariance[position] + noise,
            )
            classes = tree.branches[child].classes
            rows.append(
                {
                    "branch": branch.name,
                    "child": tree.branches[child].name,
                    "time": branch.t_start,
                    "time_low": own.get("time_low"),
                    "time_high": own.get("time_high"),
                    "support": own.get("support"),
                    "sigma": float(sigma.mean()),
                    "divergence": float(divergence),
                    "classes": list(classes),
                    "n_train": sum(class_counts[name] for name in classes),
                }
            )
    return pd.DataFrame(rows, columns=POINTS).astype(dict.fromkeys(("time_low", "time_high", "support"), float))


def branch_gene_table(sampler: TreeSampler, branch_points: AnnData, cells: AnnData) -> pd.DataFrame:
    """A row per branch point, child and gene: the child against its siblings.

    Real training cells (t-test on log-normalised counts, Benjamini-Hochberg q-values within a child; the child's mean
    expression), and the denoised profiles of the populations at the branch point: what is common there (hybrid) and
    what differs already.
    """
    tree = sampler.hierarchy
    train = (cells.obs[SPLIT] == "train").to_numpy()
    per_10k = normalised(sparse.csr_matrix(cells.layers[COUNTS])[train])
    expression = per_10k.log1p()
    types = cells.obs[CELL_TYPE].to_numpy()[train]
    tables = []
    for position in tree.branch_points:
        branch = tree.branches[position]
        children = [tree.branches[child] for child in tree.children[position]]
        at_branch = branch_points[branch_points.obs[BRANCH] == branch.name]
        profile = mean_profiles(at_branch)
        below = np.isin(types, branch.classes)
        for child in children:
            inside = np.isin(types, child.classes)
            siblings = np.mean([profile[other.name] for other in children if other is not child], axis=0)
            tables.append(
                pd.DataFrame(
                    {
                        "branch": branch.name,
                        "child": child.name,
                        "gene": cells.var_names.astype(str),
                        **compare(expression[inside], expression[below & ~inside]),
                        # The mean before the logarithm, as in an expected profile: zeros by chance weigh on neither.
                        "expression": np.log1p(np.asarray(per_10k[inside].mean(axis=0)).ravel()),
                        "hybrid": profile[branch.name],
                        "difference_at_branch_point": profile[child.name] - siblings,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=GENES)


def compare(inside: sparse.csr_matrix, beside: sparse.csr_matrix) -> dict[str, Doubles]:
    """Fold change and Student's t-test of every gene between log-normalised cells, each (n_cells, n_genes).

    The variance is that of both sides together, as under the null hypothesis, that a split by chance would do as well.
    Welch's test takes the variance of the few cells of a rare child for known: of genes that two of its cells express,
    one in eight then falls below p = 0.001.

    The statistic is 0 and the p-value 1 where the test is not defined: one cell on a side, or a gene without variance.

    To both means of a fold change is added what one count per 10⁴ in one cell of the smaller side would make of its
    mean: a gene without counts there is as far as so few cells can tell, and not without end.
    """
    least = 1 / min(inside.shape[0], beside.shape[0])
    (mean, deviation), (mean_beside, deviation_beside) = (_moments(cells) for cells in (inside, beside))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic, p_value = ttest_ind_from_stats(
            mean, deviation, inside.shape[0], mean_beside, deviation_beside, beside.shape[0], equal_var=True
        )
    if min(inside.shape[0], beside.shape[0]) < 2:
        # A t-test there is, but of a single cell all depends on a gene's distribution being normal.
        statistic, p_value = np.full((2, inside.shape[1]), np.nan)
    p_value = np.nan_to_num(p_value, nan=1.0)
    return {
        "log2_fold_change": np.log2((np.expm1(mean) + least) / (np.expm1(mean_beside) + least)),
        "statistic": np.nan_to_num(statistic, nan=0.0),
        "p_value": p_value,
        "q_value": false_discovery_control(p_value),
    }


def _moments(cells: sparse.csr_matrix) -> tuple[Doubles, Doubles]:
    """Mean and unbiased standard deviation of every gene; no deviation of a single cell."""
    n_cells = cells.shape[0]
    mean, variance = mean_variance_axis(cells, axis=0)
    return mean, np.sqrt(variance * n_cells / (n_cells - 1)) if n_cells > 1 else np.full_like(variance, np.nan)
