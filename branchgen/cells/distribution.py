"""What a codec decodes a cell to: a distribution of counts for every gene."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

SMALLEST_DISPERSION = 1e-2
LARGEST_DISPERSION = 1e4


@dataclass(frozen=True, kw_only=True)
class TwoStates:
    """What a gene's counts have besides their mean and dispersion θ, in every cell the same; each (n_genes,).

    Most genes are steadier than one negative binomial of the right variance in most cells, and far from it in a few.
    So a cell is, gene by gene and with probability `share`, in a second state, in which the mean is `ratio` times that
    of the first and the dispersion is θ; in the first one it is `steadiness` times θ.
    """

    share: Tensor
    ratio: Tensor
    steadiness: Tensor

    @property
    def first_mean(self) -> Tensor:
        """Mean in the first state in units of that over both, (n_genes,)."""
        return 1 / (1 - self.share + self.share * self.ratio)


@dataclass(frozen=True, kw_only=True)
class CountDistribution:
    """Independent negative binomials NB(μ, θ), Var = μ + μ²/θ, or mixtures of two of the same mean μ.

    With `states`, of share π, ratio ρ and steadiness φ: (1 − π) NB(c μ, φ θ) + π NB(c ρ μ, θ), c = 1 / (1 − π + π ρ).
    `expected` μ and `dispersion` θ have the shape (n_cells, n_genes).
    """

    expected: Tensor
    dispersion: Tensor
    states: TwoStates | None = None

    def of_states(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Mean and dispersion, each (n_cells, n_genes), in the one state that there is, or in the first and second."""
        if self.states is None:
            return ((self.expected, self.dispersion),)
        mean = self.expected * self.states.first_mean
        return (
            (mean, torch.clamp(self.dispersion * self.states.steadiness, SMALLEST_DISPERSION, LARGEST_DISPERSION)),
            (mean * self.states.ratio, self.dispersion),
        )

    def negative_log_likelihood(self, counts: Tensor) -> Tensor:
        """−ln P(counts) summed over genes, in nats, less the terms ln Γ(1 + counts); shape (n_cells,)."""
        detected = counts.reshape(-1).nonzero()[:, 0]
        first, *second = (_log_mass(counts, detected, *state) for state in self.of_states())
        if self.states is not None:
            share = self.states.share
            first = torch.logaddexp(first + torch.log1p(-share), second[0] + torch.log(share))
        return -first.sum(dim=1)

    def shifted(self, offsets: Tensor) -> CountDistribution:
        """The same with offsets (2, n_genes) on ln μ and ln θ; the expected total of a cell stays what it is."""
        total = self.expected.sum(dim=1, keepdim=True)
        moved = self.expected * torch.exp(offsets[0])
        changed = torch.clamp(self.dispersion * torch.exp(offsets[1]), SMALLEST_DISPERSION, LARGEST_DISPERSION)
        return replace(self, expected=moved * (total / moved.sum(dim=1, keepdim=True)), dispersion=changed)

    def first(self, n_cells: int) -> CountDistribution:
        """That of the first cells."""
        return replace(self, expected=self.expected[:n_cells], dispersion=self.dispersion[:n_cells])


def _log_mass(counts: Tensor, detected: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Log of NB(counts; mean, θ) Γ(1 + counts), of the shape of the counts; `detected` are where they are not zero.

    Gamma functions are slow, and cancel at the zeros, which most counts are.
    """
    mass = -dispersion * torch.log1p(mean / dispersion)
    x, m, theta = (values.reshape(-1).index_select(0, detected) for values in (counts, mean, dispersion))
    above = torch.lgamma(x + theta) - torch.lgamma(theta) + x * torch.log(m / (theta + m))
    return mass.reshape(-1).index_add(0, detected, above).reshape(mass.shape)
