"""The oracle itself: its denoiser, score and density agree, and moments match samples."""

import numpy as np
import torch
from oracle import binary_tree


def test_score_is_the_denoising_direction() -> None:
    """∇ ln p_t = (D − x)/σ² (Tweedie), the score taken by differentiating the density."""
    tree = binary_tree(4, 5)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 5))) * 2
    for t in (0.0, 0.3, 0.6, 1.0):
        sigma = tree.schedule.sigma(t, x)
        expected = (tree.denoise(tree.classes, x, t) - x) / sigma**2
        torch.testing.assert_close(tree.score(tree.classes, x, t), expected, rtol=1e-8, atol=1e-8)


def test_density_integrates_to_one() -> None:
    tree = binary_tree(3, 1)
    grid = torch.linspace(-40, 40, 20001, dtype=torch.float64)[:, None]
    for t in (0.4, 0.7):
        mass = torch.exp(tree.log_density(tree.classes, grid, t)).sum() * (grid[1, 0] - grid[0, 0])
        assert abs(float(mass) - 1) < 1e-6
