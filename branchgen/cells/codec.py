"""The codec: counts to latent coordinates and back.

A codec gives every cell a posterior mean and standard deviation in latent space, and every latent point a distribution
of the counts of every gene, from which integers are drawn. Latent coordinates have zero mean and unit variance over the
training cells (of posterior samples); the last one is the log library size. Decoding a cell does not depend on the
others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from branchgen.cells.autoencoder import NegativeBinomialAutoencoder
from branchgen.cells.distribution import CountDistribution
from branchgen.cells.drawing import drawn, drawn_on_device
from branchgen.cells.principal import PrincipalComponents
from branchgen.errors import BranchgenError
from branchgen.pinned import to_device
from branchgen.provenance import FORMAT_VERSION, state_hash
from branchgen.seeds import device_generator

_ENCODE_BLOCK = 1024
_DECODE_BLOCK = 64


class Body(Protocol):
    """What is between normalised counts and raw latent coordinates: a fitted model, without the library size."""

    def encode(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation (n_cells, n_latent) of dense counts (n_cells, n_genes)."""

    def decode(self, latent: Tensor, log_library: Tensor) -> CountDistribution:
        """Distribution of counts (n_cells, n_genes) at latents (n_cells, n_latent) and log library sizes (n_cells,)."""

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""


BODIES: dict[str, Any] = {"nb": NegativeBinomialAutoencoder, "pca": PrincipalComponents}


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A fitted codec over named genes; `centre` and `spread` (n_latent + 1,) standardise the latent coordinates."""

    kind: str
    genes: tuple[str, ...]
    body: Body
    centre: Tensor
    spread: Tensor
    gains: Mapping[str, float] = field(default_factory=dict)
    """Nats per held-out cell by which the codec beats the mean profile of a class, for the classes it was fitted to."""
    offsets: Mapping[str, Tensor] = field(default_factory=dict)
    """Gene-wise offsets (2, n_genes), for the classes that are decoded better with than without."""
    shift: Tensor | None = None
    """Offsets of the class that is being decoded; not a part of the file."""

    @property
    def n_latent(self) -> int:
        """Number of latent coordinates, the library size among them."""
        return len(self.centre)

    @torch.no_grad()
    def encode(self, counts: sparse.csr_matrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posterior mean and standard deviation of counts (n_cells, n_genes), each (n_cells, n_latent)."""
        means, scales = [], []
        for first in range(0, counts.shape[0], _ENCODE_BLOCK):
            mean, scale = raw_latents(self.body, dense(counts[first : first + _ENCODE_BLOCK], self.centre))
            means.append(((mean - self.centre) / self.spread).cpu().numpy())
            scales.append((scale / self.spread).cpu().numpy())
        return np.concatenate(means), np.concatenate(scales)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> CountDistribution:
        """Distribution of counts (n_cells, n_genes) at latents (n_cells, n_latent)."""
        raw = latents.to(self.centre) * self.spread + self.centre
        decoded = self.body.decode(raw[:, :-1], raw[:, -1])
        return decoded if self.shift is None else decoded.shifted(self.shift)

    def decoded(self, latents: Tensor) -> Iterator[tuple[CountDistribution, int]]:
        """`decode`, some cells at a time, always of the same shape: of what it yields, only so many rows are cells."""
        for first in range(0, len(latents), _DECODE_BLOCK):
            part = latents[first : first + _DECODE_BLOCK]
            full = torch.cat([part, part[-1:].expand(_DECODE_BLOCK - len(part), -1)])
            yield self.decode(full), len(part)

    def draw_counts(self, latents: Tensor, rng: np.random.Generator) -> sparse.csr_matrix:
        """Integer counts (n_cells, n_genes), drawn from what latents (n_cells, n_latent) decode to.

        A cell does not depend on those that follow. Drawn where they are decoded: a GPU draws other counts than a CPU.
        """
        parts = [sparse.csr_matrix((0, len(self.genes)), dtype=np.int32)]
        if self.centre.device.type == "cuda":
            generator = device_generator(rng, self.centre.device)
            parts += [drawn_on_device(block, generator)[:n_cells] for block, n_cells in self.decoded(latents)]
        else:
            rngs = rng.spawn(3)
            parts += [drawn(block.first(n_cells), rngs) for block, n_cells in self.decoded(latents)]
        return sparse.csr_matrix(sparse.vstack(parts, format="csr"))

    def of_class(self, name: str, added: Mapping[str, Tensor] | None = None) -> Codec:
        """The same codec, as it decodes cells of a class; `added` are offsets of classes that came later."""
        return self.shifted_by({**self.offsets, **(added or {})}.get(name))

    def shifted_by(self, offsets: Tensor | None) -> Codec:
        """The same codec for cells that it decodes with offsets (2, n_genes), or without."""
        return replace(self, shift=None if offsets is None else offsets.to(self.centre))

    def to(self, device: torch.device) -> Codec:
        """The same codec on a device."""
        body, centre, spread = self.body.to(device), self.centre.to(device), self.spread.to(device)
        return replace(self, body=body, centre=centre, spread=spread)

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors, with a hash of all that matters."""
        content = {
            "codec": self.kind,
            "genes": list(self.genes),
            "body": self.body.to_state(),
            "centre": self.centre.cpu(),
            "spread": self.spread.cpu(),
            "offsets": {name: offsets.cpu() for name, offsets in self.offsets.items()},
        }
        about = {"kind": "codec", "format_version": FORMAT_VERSION, "hash": state_hash(content)}
        return {**about, **content, "gains": dict(self.gains)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Inverse of `to_state`; refuses a state whose hash does not fit its content."""
        names = ("codec", "genes", "body", "centre", "spread", "offsets")
        content = {name: state[name] for name in names if name in state}
        if state_hash(content) != state["hash"]:
            raise BranchgenError(f"the codec's content does not fit its hash {state['hash']}; encode again")
        return cls(
            kind=state["codec"],
            genes=tuple(state["genes"]),
            body=BODIES[state["codec"]].from_state(state["body"]),
            centre=state["centre"],
            spread=state["spread"],
            gains=state.get("gains", {}),
            offsets=state.get("offsets", {}),
        )


def dense(counts: sparse.csr_matrix, like: Tensor) -> Tensor:
    """Dense float counts of a block of cells, on the device of `like`."""
    return to_device(torch.from_numpy(counts.toarray().astype(np.float32)), like.device)


def raw_latents(body: Body, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Latents before standardisation, the log library size appended; its standard deviation is zero."""
    mean, scale = body.encode(counts)
    library = torch.log(counts.sum(dim=1, keepdim=True))
    return torch.cat([mean, library], dim=1), torch.cat([scale, torch.zeros_like(library)], dim=1)


@torch.no_grad()
def standardised(kind: str, genes: tuple[str, ...], body: Body, counts: sparse.csr_matrix, like: Tensor) -> Codec:
    """Codec whose latent coordinates have zero mean and unit variance over the given cells' posterior samples."""
    n_cells = counts.shape[0]
    total, square = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for first in range(0, n_cells, _ENCODE_BLOCK):
        mean, scale = (part.double() for part in raw_latents(body, dense(counts[first : first + _ENCODE_BLOCK], like)))
        total = total + mean.sum(dim=0)
        square = square + (mean**2 + scale**2).sum(dim=0)
    centre = total / n_cells
    spread = torch.sqrt(torch.clamp(square / n_cells - centre**2, min=1e-8))
    return Codec(kind=kind, genes=genes, body=body, centre=centre.float(), spread=spread.float())
