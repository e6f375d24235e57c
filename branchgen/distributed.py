"""Training by several processes that torchrun starts, one for every GPU."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from branchgen.device import choose_device, uses_gpu
from branchgen.diffusion.computing import Processes
from branchgen.errors import BranchgenError


@contextmanager
def joined(name: str) -> Iterator[tuple[torch.device, Processes]]:
    """The device of this process, chosen by name, and its place among those that torchrun has started with it.

    Alone where torchrun has not. Of several processes the first one logs, and a user's error is raised by the one that
    meets it first; the others end with its exit code and say nothing.
    """
    if (n := int(os.environ.get("WORLD_SIZE", "1"))) == 1:
        yield choose_device(name), Processes()
        return
    rank = int(os.environ["RANK"])
    store, _, _ = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if uses_gpu(name) else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=n)
    own = logging.getLogger("branchgen")
    level = own.level
    try:
        if rank:
            own.setLevel(logging.ERROR)
        yield _own_device(name), Processes(rank=rank, n=n)
    except BranchgenError as error:
        if store.add(f"said {hashlib.sha256(str(error).encode()).hexdigest()}", 1) > 1:
            raise SystemExit(2) from error
        raise
    finally:
        own.setLevel(level)
        distributed.destroy_process_group()


def _own_device(name: str) -> torch.device:
    """A GPU for this process alone, or the CPU for all."""
    if name.startswith("cuda:"):
        raise BranchgenError(f"device {name!r} is one GPU for several processes; with --device cuda each has its own")
    if not uses_gpu(name):
        return choose_device(name)
    device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    torch.cuda.set_device(device)
    return device
