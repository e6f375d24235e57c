"""How variance and zeros go with the mean of a gene: curves over genes, whatever gene is where."""

from __future__ import annotations

import numpy as np

from branchgen.analysis.expression import Doubles

N_BINS = 20
"""Points of a curve: each the medians of a twentieth of the genes."""


def curve(mean: Doubles, value: Doubles) -> tuple[Doubles, Doubles]:
    """Medians of `mean` and `value` in bins of equally many genes, by ascending mean; one value per gene each."""
    order = np.argsort(mean, kind="stable")
    bins = np.array_split(order, min(N_BINS, len(order)))
    return np.array([np.median(mean[b]) for b in bins]), np.array([np.median(value[b]) for b in bins])


def curve_error(real: tuple[Doubles, Doubles], generated: tuple[Doubles, Doubles]) -> float:
    """Mean distance of two curves over the points of the real one that lie within the other's range of means.

    Not a number where the ranges have nothing in common.
    """
    (mean, value), (mean_generated, value_generated) = real, generated
    inside = (mean >= mean_generated[0]) & (mean <= mean_generated[-1])
    if not inside.any():
        return float("nan")
    at_same_mean = np.interp(mean[inside], mean_generated, value_generated)
    return float(np.abs(value[inside] - at_same_mean).mean())


def curve_errors(
    real: tuple[Doubles, Doubles, Doubles], generated: tuple[Doubles, Doubles, Doubles]
) -> dict[str, float]:
    """Errors of log10 variance and of the share of zeros as functions of log10 mean.

    Both arguments are mean, variance and share of zeros of the same genes; those that vary on neither side are left
    out of its curve.
    """
    variances, zeros = [], []
    for mean, variance, zero in (real, generated):
        varied = variance > 0
        if not varied.any():
            return {}
        log_mean = np.log10(mean[varied])
        variances.append(curve(log_mean, np.log10(variance[varied])))
        zeros.append(curve(log_mean, zero[varied]))
    return {"mean_variance_curve": curve_error(*variances), "mean_zeros_curve": curve_error(*zeros)}
