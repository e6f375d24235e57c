"""The one place that picks a device."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from branchgen.errors import BranchgenError


def choose_device(name: str) -> torch.device:
    """Device by name: auto takes a GPU where there is one; BranchgenError where the named one is absent or broken."""
    if name == "auto":
        name = "cuda" if uses_gpu(name) else "cpu"
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
    if device.type == "cuda":
        _require_working(device)
    return device


def uses_gpu(name: str) -> bool:
    """Whether a device of this name is a GPU, and torch sees one."""
    return name != "cpu" and torch.cuda.is_available()


def describe(device: torch.device) -> str:
    """Device for the log: what it is, or why it is none better."""
    if device.type == "cpu":
        return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__} ({_why_no_gpu()})"
    about = torch.cuda.get_device_properties(device)
    driver = f", driver {found}" if (found := _driver()) else ""
    return (
        f"{about.name}, {about.total_memory / 2**30:.0f} GiB{driver}, torch {torch.__version__}, CUDA "
        f"{torch.version.cuda}"
    )


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        return "a build without CUDA"
    return "a GPU is there, and not asked for" if torch.cuda.is_available() else "it sees no GPU"


def _driver() -> str:
    """Version of NVIDIA's driver, where the system tells it."""
    path = Path("/proc/driver/nvidia/version")
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", path.read_text()) if path.exists() else None
    return found[0] if found else ""


def _require_working(device: torch.device) -> None:
    """Raise BranchgenError where a GPU is there but torch cannot compute on it: an old driver, or too new a GPU."""
    try:
        ones = torch.ones(8, 8, device=device)
        product = float((ones @ ones).sum())
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise BranchgenError(
            f"device {str(device)!r} does not work with torch {torch.__version__}: {reason}; install a build of torch "
            "for this GPU and driver, or use --device cpu"
        ) from error
    if product != 512:
        raise BranchgenError(f"device {str(device)!r} miscalculates (8 × 8 ones: {product:g}); do not use it")
