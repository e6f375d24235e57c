"""The optimiser that leaves out what is not drawn does what AdamW on all weights does."""

import copy

import numpy as np
import pytest
import torch
from oracle import binary_tree

from branchgen.config import FitSettings
from branchgen.diffusion.computing import Computing
from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.optimizer import BranchOptimizer
from branchgen.seeds import numpy_rng, torch_generator

N_BRANCHES, N_LATENT, N_DRAWN = 80, 3, 6
EPSILON = 1e-20
"""So small that it plays no part: what is pending treats it in its own way."""
SETTINGS = FitSettings(learning_rate=5e-3, weight_decay=0.1, gradient_clip=0.5)


@pytest.fixture(autouse=True)
def small_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("branchgen.diffusion.optimizer._EPSILON", EPSILON)


def network() -> BranchedDenoiser:
    shape = Shape(n_latent=N_LATENT, n_branches=N_BRANCHES, n_hidden=8, n_blocks=1, n_head=4)
    moments = BranchMoments(
        np.zeros((N_BRANCHES, N_LATENT)),
        np.stack([np.eye(N_LATENT)] * N_BRANCHES),
        np.ones(N_BRANCHES),
        tuple((i,) for i in range(N_BRANCHES)),
    )
    schedule = binary_tree(2, N_LATENT).schedule
    return BranchedDenoiser(shape, schedule, moments, torch_generator(0, "weights")).double()


def drawn_at(step: int) -> np.ndarray:
    """Branches of a step's segments: few, one of them twice, and never the last."""
    rows = numpy_rng(step, "rows").choice(N_BRANCHES - 1, N_DRAWN, replace=False)
    return np.append(rows, rows[0])


def rate_at(step: int) -> float:
    return SETTINGS.learning_rate * (1 - step / 400)


def kept_at(step: int) -> float:
    return 0.5 ** (1 / (0.1 * (step + 1)))


def differentiate(net: BranchedDenoiser, step: int) -> None:
    """Gradients of a loss of one batch, large enough to be clipped at times."""
    branch = torch.from_numpy(drawn_at(step))
    x = torch.randn((len(branch), 5, N_LATENT), generator=torch_generator(step, "x"), dtype=torch.float64)
    t = torch.rand((len(branch), 5), generator=torch_generator(step, "t"), dtype=torch.float64)
    ((net(x, t, branch) - torch.sin(3 * x)) ** 2).sum().backward()  # type: ignore[no-untyped-call]


def reference(n_steps: int) -> tuple[BranchedDenoiser, BranchedDenoiser]:
    """Network and average after steps of torch's AdamW, of all weights."""
    net = network()
    average = copy.deepcopy(net).requires_grad_(requires_grad=False)
    adamw = torch.optim.AdamW(net.parameters(), eps=EPSILON, weight_decay=SETTINGS.weight_decay)
    for step in range(n_steps):
        adamw.zero_grad()
        differentiate(net, step)
        torch.nn.utils.clip_grad_norm_(net.parameters(), SETTINGS.gradient_clip)
        adamw.param_groups[0]["lr"] = rate_at(step)
        adamw.step()
        for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1 - kept_at(step))
    return net, average


def advance(net: BranchedDenoiser, optimizer: BranchOptimizer, steps: range) -> None:
    for step in steps:
        drawn = optimizer.draw(np.unique(drawn_at(step)))
        optimizer.zero_grad()
        differentiate(net, step)
        optimizer.step(drawn, rate_at(step), kept_at(step))


def begun(*, sparse: bool) -> tuple[BranchedDenoiser, BranchedDenoiser, BranchOptimizer]:
    net = network()
    if sparse:
        Computing().forward_of(net)
    average = copy.deepcopy(net).requires_grad_(requires_grad=False)
    return net, average, BranchOptimizer(net, average, SETTINGS)


@pytest.mark.parametrize("sparse", [True, False])
def test_every_weight_and_average_is_that_of_adamw(sparse: bool) -> None:
    net, average, optimizer = begun(sparse=sparse)
    for n_steps in (1, 40, 300):
        advance(net, optimizer, range(optimizer.n_steps, n_steps))
        assert {
            w.grad.is_sparse for n, w in net.named_parameters() if n.startswith("heads.") and w.grad is not None
        } == {sparse}
        optimizer.catch_up()
        for own, others in zip((net, average), reference(n_steps), strict=True):
            for (name, value), expected in zip(own.named_parameters(), others.parameters(), strict=True):
                torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12, msg=lambda m, at=name: f"{at}: {m}")


def test_undrawn_heads_are_far_from_adamw_until_caught_up_with() -> None:
    net, _, optimizer = begun(sparse=True)
    advance(net, optimizer, range(100))
    expected = reference(100)[0].heads.first
    assert (net.heads.first - expected).abs().max() > 1e-3
    optimizer.catch_up()
    assert (net.heads.first - expected).abs().max() < 1e-4


def test_saving_in_between_changes_nothing() -> None:
    net, average, optimizer = begun(sparse=True)
    advance(net, optimizer, range(30))
    saved = copy.deepcopy((net.state_dict(), average.state_dict(), optimizer.to_state()))
    advance(net, optimizer, range(30, 60))
    optimizer.catch_up()

    again, again_average, resumed = begun(sparse=True)
    again.load_state_dict(saved[0])
    again_average.load_state_dict(saved[1])
    resumed.restore(saved[2])
    advance(again, resumed, range(30, 60))
    resumed.catch_up()
    for one, other in ((net, again), (average, again_average)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_frozen_weights_stay() -> None:
    net, average, _ = begun(sparse=True)
    before = copy.deepcopy(net.state_dict())
    for name, weight in net.named_parameters():
        weight.requires_grad = name.startswith("heads.")
    optimizer = BranchOptimizer(net, average, SETTINGS)
    advance(net, optimizer, range(5))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("heads."), name
