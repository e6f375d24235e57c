"""Whether transmuted cells are of their new class and in their old state, and what simpler ways give.

A state is a second label, such as stimulated or control, which cells of every class may have. Judges are trained on
real training cells: one tells the classes apart, one for every class the states within it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from branchgen.analysis.expression import Doubles, normalised
from branchgen.diffusion.blocks import BLOCK
from branchgen.diffusion.sampler import TreeSampler
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import SOLVERS
from branchgen.diffusion.transmute import process_of, with_fresh_noise
from branchgen.seeds import torch_generator

Labels = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Shares of cells that are taken for the new class, and for their own state; agreement of the response.

    `response` is the correlation over genes of the difference between the two states, in these cells and in the real
    training cells of the class.
    """

    type_accuracy: float
    state_accuracy: float
    response: float


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Classifiers of class and state, and the response of every class, shape (n_genes,)."""

    of_class: Pipeline
    of_state: dict[str, Pipeline]
    response: dict[str, Doubles]

    @classmethod
    def trained(cls, counts: sparse.csr_matrix, types: Labels, states: Labels) -> Judges:
        """From counts (n_cells, n_genes) of real cells; classes of a single state have no judge of it."""
        logs = log_expression(counts)
        two = [name for name in np.unique(types).tolist() if len(set(states[types == name])) == 2]
        return cls(
            of_class=_classifier().fit(logs, types),
            of_state={name: _classifier().fit(logs[types == name], states[types == name]) for name in two},
            response={name: difference(logs[types == name], states[types == name]) for name in two},
        )

    def verdict(self, counts: sparse.csr_matrix, states: Labels, target: str) -> Verdict:
        """Of cells that are to be of the class `target`, each in its state; both states must be there."""
        logs = log_expression(counts)
        return Verdict(
            type_accuracy=float((self.of_class.predict(logs) == target).mean()),
            state_accuracy=balanced(self.of_state[target].predict(logs), states),
            response=float(np.corrcoef(difference(logs, states), self.response[target])[0, 1]),
        )


def log_expression(counts: sparse.csr_matrix) -> Doubles:
    """log1p of counts normalised to 10⁴, dense, (n_cells, n_genes)."""
    dense: Doubles = normalised(counts).log1p().toarray()
    return dense


def difference(logs: Doubles, states: Labels) -> Doubles:
    """Mean of the cells in the second of two states less that in the first, in the order of their names."""
    first, second = np.unique(states)
    return np.asarray(logs[states == second].mean(axis=0) - logs[states == first].mean(axis=0))


def balanced(predicted: Labels, states: Labels) -> float:
    """Share of cells that are given their state, mean over states."""
    return float(np.mean([(predicted[states == name] == name).mean() for name in np.unique(states)]))


def _classifier() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300, tol=1e-3, class_weight="balanced"))


def shifted(latents: Tensor, source_mean: Tensor, target_mean: Tensor) -> Tensor:
    """Latents (n_cells, d) moved by the difference between the means of two classes."""
    return latents + (target_mean - source_mean).to(latents)


@torch.no_grad()
def guided(flat: TreeSampler, tree: TreeSampler, latents: Tensor, source: str, target: str) -> Tensor:
    """Latents (n_cells, d) by a model without a tree: noised as far as the tree would, and denoised as the target.

    What a label-guided diffusion model does: the noise is fresh, and the target's own denoiser does all of the rest.
    """
    position = flat.hierarchy.index[flat.hierarchy.path(target)[-1].name]
    branch, time = flat.hierarchy.branches[position], tree.hierarchy.branch_point(source, target).t_start
    schedule: NoiseSchedule = flat.schedule
    n_steps = max(1, round(time * flat.n_steps))
    times = [float(t) for t in np.linspace(min(time, branch.t_end), 0, n_steps + 1)]
    done = []
    for block, first in enumerate(range(0, len(latents), BLOCK)):
        part = latents[first : first + BLOCK]
        x = torch.cat([part, part[-1:].expand(BLOCK - len(part), -1)])
        x = with_fresh_noise(tree, x, source, target, block)
        generator = torch_generator(flat.seed, "guided", source, target, block)
        x = SOLVERS[flat.solver](process_of(flat, branch, target, generator), x, times)[-1]
        done.append(flat.references[position].without_noise(x, schedule.sigma(0.0, x))[: len(part)])
    return torch.cat(done)
