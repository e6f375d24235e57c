"""The device: what is chosen, what the log says of it, and a GPU that does not work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from branchgen import device
from branchgen.device import choose_device, describe
from branchgen.errors import BranchgenError

CUDA = torch.device("cuda")


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, as far as torch says."""
    about = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: about)
    monkeypatch.setattr(torch.version, "cuda", "12.8")


def ones_that_are(value: float | RuntimeError) -> Any:
    """In the place of torch.ones: ones of this value on the CPU, or an error."""

    def ones(*shape: int, device: torch.device) -> torch.Tensor:
        assert device == CUDA
        if isinstance(value, RuntimeError):
            raise value
        return torch.full(shape, value)

    return ones


def test_auto_takes_the_gpu_that_works(with_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", ones_that_are(1.0))
    assert choose_device("auto") == CUDA
    monkeypatch.setattr(device, "_driver", lambda: "570.86.15")
    assert describe(CUDA) == f"NVIDIA H100, 80 GiB, driver 570.86.15, torch {torch.__version__}, CUDA 12.8"


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_that_torch_cannot_use_is_named(name: str, with_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ...")
    monkeypatch.setattr(torch, "ones", ones_that_are(error))
    with pytest.raises(
        BranchgenError, match=r"device 'cuda' does not work with torch .*: CUDA error: no kernel"
    ) as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("or use --device cpu")


def test_a_gpu_that_miscalculates_is_not_used(with_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", ones_that_are(1.5))
    with pytest.raises(BranchgenError, match=r"miscalculates \(8 × 8 ones: 1152\)"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("cuda", "available", "reason"),
    [
        (None, False, "a build without CUDA"),
        ("12.8", False, "it sees no GPU"),
        ("12.8", True, "a GPU is there, and not asked for"),
    ],
)
def test_the_log_says_why_it_is_the_cpu(
    cuda: str | None, available: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert describe(choose_device("cpu")).endswith(f"torch {torch.__version__} ({reason})")
