"""The one place that picks a device."""

from __future__ import annotations

import torch

from branchgen.errors import BranchgenError


def choose_device(name: str) -> torch.device:
    """Device by name: auto takes a GPU where there is one; BranchgenError where the named one is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BranchgenError(f"device {name!r} is unknown; it must be auto, cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise BranchgenError(f"device {name!r} is not supported; it must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BranchgenError(
            f"device {name!r} is not there: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs; "
            "use --device cpu, or install a CUDA build of torch on a GPU machine"
        )
    return device


def describe(device: torch.device) -> str:
    """Device for the log."""
    if device.type == "cpu":
        return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
