"""Random generators, each named after what it draws, all from one seed.

A generator depends on the seed and its name alone, so that drawing more of one thing never changes another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def named_seed(seed: int, *names: str | int) -> int:
    """Seed in [0, 2⁶³) of the generator with this name."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_rng(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy generator with this name."""
    return np.random.default_rng(named_seed(seed, *names))


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """CPU generator with this name; draws are moved to the device, so that every device sees the same noise."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(named_seed(seed, *names))
    return generator


def device_generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Generator on a device for what is too much to be drawn elsewhere; seeded by a draw of a NumPy generator."""
    import torch

    generator = torch.Generator(device)
    generator.manual_seed(int(rng.integers(2**63)))
    return generator
