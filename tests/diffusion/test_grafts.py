"""Sampling with new classes: old ones are what they were, to the last bit; new ones have their moments."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from oracle import GaussianMixtureTree, binary_tree

from branchgen.diffusion.blocks import BLOCK
from branchgen.diffusion.grafts import Graft, grafted, grown_moments, lone_class, new_head, own_weights
from branchgen.diffusion.handover import HANDOVERS
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sample import n_evaluations, sample_blocks
from branchgen.diffusion.sampler import TreeSampler, branch_times
from branchgen.diffusion.solvers import SOLVERS
from branchgen.diffusion.transmute import transmute
from branchgen.hierarchy.grafts import Place, grown
from branchgen.hierarchy.tree import Branch, Hierarchy

TREE = binary_tree(6, 8, separation=5.0)
OLD_CLASSES = TREE.classes[:4]
OLD = Hierarchy(
    (
        Branch(name="root", classes=OLD_CLASSES, t_start=0.55, t_end=1.0),
        Branch(name="AB", classes=OLD_CLASSES[:2], t_start=0.3, t_end=0.55),
        *(Branch(name=name, classes=(name,), t_start=0.0, t_end=0.3) for name in OLD_CLASSES[:2]),
        *(Branch(name=name, classes=(name,), t_start=0.0, t_end=0.55) for name in OLD_CLASSES[2:]),
    )
)
N, M = TREE.classes[4:]
PLACES = {
    "inside a branch": [Place(name=N, host="AB", time=0.42)],
    "where a branch ends": [Place(name=N, host="AB", time=0.3)],
    "from a class": [Place(name=N, host=OLD_CLASSES[0], time=0.1)],
    "next to the noise": [Place(name=N, host="root", time=0.9)],
    "one from another": [Place(name=N, host="AB", time=0.4), Place(name=M, host=N, time=0.2)],
    "twice from one": [Place(name=N, host="AB", time=0.4), Place(name=M, host="AB", time=0.5)],
}


def extended(tree: GaussianMixtureTree, places: list[Place], **choices: Any) -> tuple[TreeSampler, TreeSampler]:
    """Samplers with exact denoisers, without and with the new classes."""
    old = tree.sampler(OLD, **choices)
    new = grown(OLD, places, lambda branch: branch_times(branch, old.n_steps))
    codes = {place.name: tree.classes.index(place.name) for place in places}
    grafts = [
        Graft(
            place=place,
            mean=tree.moments.mean[codes[place.name]],
            covariance=tree.moments.covariance[codes[place.name]],
            weights={},
            n_cells=100,
            provenance="",
        )
        for place in places
    ]
    members = {**{branch.name: branch.classes for branch in OLD.branches}, **{name: (name,) for name in codes}}
    sampler = dataclasses.replace(
        old,
        hierarchy=new.hierarchy,
        trunks=new.trunks,
        moments=grown_moments(old.moments, OLD, new, grafts),
        denoiser_of=lambda name: tree.denoiser(members[name]),
        mixture_of=lambda name: old.mixture_of(name) if name in OLD.index else tree.denoiser(members[name]),
    )
    return old, sampler


def cells(sampler: TreeSampler, classes: tuple[str, ...], n: int = BLOCK, ancestors: str = "shared") -> dict[str, Any]:
    found: dict[str, list[np.ndarray]] = {}
    for name, _, latents, wanted in sample_blocks(sampler, dict.fromkeys(classes, n), ancestors):
        found.setdefault(name, []).append(latents[:wanted].numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("choices", [
    {"solver": solver} for solver in SOLVERS
] + [{"handover": name} for name in HANDOVERS] + [{"n_corrections": 2}, {"n_steps": 7}], ids=str)  # fmt: skip
def test_old_classes_are_the_same_to_the_last_bit(places: list[Place], choices: dict[str, Any]) -> None:
    old, new = extended(TREE, places, **choices)
    before, after = cells(old, OLD_CLASSES), cells(new, new.hierarchy.classes)
    alone = cells(new, tuple(place.name for place in places))
    for name in OLD_CLASSES:
        np.testing.assert_array_equal(before[name], after[name])
    for place in places:
        np.testing.assert_array_equal(alone[place.name], after[place.name])


def test_independent_classes_stay_too() -> None:
    old, new = extended(TREE, PLACES["one from another"])
    before = cells(old, OLD_CLASSES, ancestors="independent")
    after = cells(new, new.hierarchy.classes, ancestors="independent")
    assert all((before[name] == after[name]).all() for name in OLD_CLASSES)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_new_classes_have_their_moments(places: list[Place]) -> None:
    """As for old ones: means within 3 standard errors (16 coordinates), variances within 6 %."""
    _, sampler = extended(TREE, places)
    n = 16 * BLOCK
    found = cells(sampler, tuple(place.name for place in places), n)
    for name, x in found.items():
        code = TREE.classes.index(name)
        variance = np.diag(TREE.moments.covariance[code])
        assert np.abs((x.mean(axis=0) - TREE.moments.mean[code]) / np.sqrt(variance / n)).max() < 3.5
        np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.06)


def test_a_new_class_costs_its_own_branch_and_no_step_more() -> None:
    old, new = extended(TREE, PLACES["inside a branch"])
    before, _ = n_evaluations(old, dict.fromkeys(OLD_CLASSES, 1))
    after, alone = n_evaluations(new, dict.fromkeys(new.hierarchy.classes, 1))
    leaf = new.hierarchy.node(N)
    assert after - before == len(branch_times(leaf, new.n_steps)) - 1
    assert alone == 5 * new.n_steps
    only, _ = n_evaluations(new, {N: 1})
    assert only == new.n_steps


def test_transmutation_between_old_classes_stays_and_new_ones_are_reached() -> None:
    old, new = extended(TREE, PLACES["inside a branch"])
    a, c = OLD_CLASSES[0], OLD_CLASSES[2]
    x = TREE.sample(a, 600, np.random.default_rng(0))
    before, after = (torch.cat(list(transmute(s, x, a, c, "flow"))) for s in (old, new))
    assert torch.equal(before, after)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("source", [OLD_CLASSES[0], OLD_CLASSES[2]])
def test_transmutation_into_a_new_class_and_back(places: list[Place], source: str) -> None:
    """From beside it and from afar, where the trunk between was trained without the new class."""
    _, sampler = extended(TREE, places, n_steps=20)
    x = TREE.sample(source, 600, np.random.default_rng(0))
    code = TREE.classes.index(N)
    there = torch.cat(list(transmute(sampler, x, source, N, "flow")))
    spread = np.sqrt(np.diag(TREE.moments.covariance[code]) / len(x))
    assert np.abs((there.mean(dim=0).numpy() - TREE.moments.mean[code]) / spread).max() < 4
    back = torch.cat(list(transmute(sampler, there, N, source, "flow")))
    assert torch.sqrt(((back - x) ** 2).mean()) < 0.05


def test_a_new_head_learns_alone_and_begins_as_its_gaussian() -> None:
    shape = Shape(n_latent=8, n_branches=len(OLD.branches), n_hidden=16, n_blocks=1, n_head=8)
    trained = BranchedDenoiser(shape, TREE.schedule, TREE.branch_moments(OLD), torch.Generator().manual_seed(0))
    code = TREE.classes.index(N)
    mean, covariance = TREE.moments.mean[code], TREE.moments.covariance[code]
    head = new_head(trained, mean, covariance, torch.Generator().manual_seed(1))
    assert {name.split(".")[0] for name, weight in head.named_parameters() if weight.requires_grad} == {"heads"}
    for name, value in trained.state_dict().items():
        if not name.startswith(("heads", "mean", "basis", "variance", "within")):
            assert torch.equal(value, head.state_dict()[name])
    x = TREE.sample(N, 50, np.random.default_rng(0)).float()
    torch.testing.assert_close(
        head.denoiser(0)(x, 0.5), TREE.denoise((N,), x.double(), 0.5).float(), atol=1e-3, rtol=1e-3
    )
    with torch.no_grad():
        head.heads.second.normal_(generator=torch.Generator().manual_seed(2))
    graft = Graft(
        place=PLACES["inside a branch"][0],
        mean=mean,
        covariance=covariance,
        weights=own_weights(head.state_dict()),
        n_cells=1,
        provenance="",
    )
    again = grafted(trained, Graft.from_state(graft.to_state()))
    assert torch.equal(again.denoiser(0)(x, 0.5), head.denoiser(0)(x, 0.5))
    assert lone_class(N).classes == (N,)
