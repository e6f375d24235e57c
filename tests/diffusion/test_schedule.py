"""Noise levels: closed form, ends, and the same numbers in NumPy and torch."""

import numpy as np
import pytest
import torch

from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.errors import BranchgenError


def test_levels_are_log_linear_and_vectors() -> None:
    schedule = NoiseSchedule((0.01, 0.1), (1.0, 10.0))
    levels = schedule.levels(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(levels, [[0.01, 0.1], [0.1, 1.0], [1.0, 10.0]])
    t = torch.tensor([[0.0, 0.5], [1.0, 0.25]], dtype=torch.float64)
    assert schedule.sigma(t, t).shape == (2, 2, 2)
    np.testing.assert_allclose(schedule.sigma(t, t)[0, 1].numpy(), levels[1])
    np.testing.assert_allclose(schedule.sigma(0.5, t).numpy(), levels[1])
    assert not schedule.is_uniform
    assert NoiseSchedule.uniform(0.1, 1.0, 3).is_uniform
    assert NoiseSchedule.from_dict(schedule.to_dict()) == schedule


@pytest.mark.parametrize(("low", "high"), [((0.0,), (1.0,)), ((1.0,), (1.0,)), ((2.0,), (1.0,)), ((0.1,), (1.0, 2.0))])
def test_levels_that_make_no_sense_are_refused(low: tuple[float, ...], high: tuple[float, ...]) -> None:
    with pytest.raises(BranchgenError):
        NoiseSchedule(low, high)
