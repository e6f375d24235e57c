"""Hierarchies from data: known trees come back, and nothing depends on abundance or order."""

import numpy as np
import pytest

from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import CRITERIA, Fidelity, merge_times
from branchgen.hierarchy.derive import Derivation, derive, flat
from branchgen.hierarchy.moments import Moments, gaussian_divergence
from branchgen.hierarchy.newick import parse_newick
from branchgen.hierarchy.parts import Parts
from branchgen.hierarchy.topology import merge_by_criterion, tree_of_levels
from branchgen.hierarchy.tree import Clade, Hierarchy

D = 8
SCHEDULE = NoiseSchedule.uniform(0.02, 10.0, D)
CLASSES = ["B", "T", "NK", "Mono", "DC"]
POSITIONS = {"B": (4, 1, 0), "T": (4, -1, 0.5), "NK": (4, -1, -0.5), "Mono": (-4, 0, 1), "DC": (-4, 0, -1)}
KNOWN = [{"B", "T", "NK", "Mono", "DC"}, {"B", "T", "NK"}, {"T", "NK"}, {"Mono", "DC"}]


def simulate(sizes: dict[str, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Isotropic Gaussian classes on a known tree: latents, zero scales, codes."""
    rng = np.random.default_rng(seed)
    latents, codes = [], []
    for code, name in enumerate(CLASSES):
        centre = np.zeros(D)
        centre[:3] = POSITIONS[name]
        latents.append(centre + 0.3 * rng.normal(size=(sizes[name], D)))
        codes.append(np.full(sizes[name], code))
    x = np.concatenate(latents)
    return x, np.zeros_like(x), np.concatenate(codes)


def derived(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
    classes: list[str] = CLASSES,
    criterion: str = "fidelity",
    tree: Clade | None = None,
    epsilon: float = 1.0,
    max_evaluations: float = 1.0,
) -> Derivation:
    return derive(
        Parts.of_cells(*data, np.random.default_rng(2)),
        classes,
        sigma=SCHEDULE.levels,
        criterion=criterion,
        epsilon=epsilon,
        max_evaluations=max_evaluations,
        min_branch_span=0.01,
        shrinkage=float(D),
        n_bootstrap=20,
        rng=np.random.default_rng(1),
        tree=tree,
    )


def inner(found: Derivation) -> list[set[str]]:
    return [set(clade.classes) for clade in found.hierarchy.to_clade().walk() if clade.children]


@pytest.mark.parametrize(("criterion", "epsilon"), [("fidelity", 0.3), ("similarity", 0.05)])
def test_a_known_tree_comes_back_with_support(criterion: str, epsilon: float) -> None:
    found = derived(simulate(dict.fromkeys(CLASSES, 200)), criterion=criterion, epsilon=epsilon)
    assert sorted(map(sorted, inner(found))) == sorted(map(sorted, KNOWN))
    assert all(support.support == 1 for support in found.support.values())
    for name, support in found.support.items():
        time = found.hierarchy.node(name).t_start
        assert support.time_low - 0.02 <= time <= support.time_high + 0.02
        assert support.time_low < support.time_high


def test_a_cost_moves_all_branch_points_by_one_factor() -> None:
    data = simulate(dict.fromkeys(CLASSES, 200))
    free = derived(data)
    cost = free.hierarchy.sharing()
    cheaper = derived(data, max_evaluations=0.85 * cost)
    assert 0.8 * cost < cheaper.hierarchy.sharing() <= 0.85 * cost
    assert inner(cheaper) == inner(free)
    # A branch point at the least time there is stays there.
    times = {name: (cheaper.hierarchy.node(name).t_start, free.hierarchy.node(name).t_start) for name in free.support}
    factors = [after / before for after, before in times.values() if after > 0.05]
    assert len(factors) >= 3
    np.testing.assert_allclose(factors, factors[0], rtol=1e-6)
    assert derived(data, max_evaluations=cost).hierarchy == free.hierarchy


def test_intervals_shrink_as_their_branch_points_move_towards_the_data() -> None:
    data = simulate(dict.fromkeys(CLASSES, 200))
    free = derived(data)
    cheap = derived(data, max_evaluations=0.85 * free.hierarchy.sharing())
    factor = cheap.hierarchy.branches[0].t_start / free.hierarchy.branches[0].t_start
    assert 0.5 < factor < 0.95
    for name, support in cheap.support.items():
        width = free.support[name].time_high - free.support[name].time_low
        assert support.time_high - support.time_low == pytest.approx(factor * width, rel=1e-3)


def test_no_cost_moves_a_branch_point_by_more_than_a_half() -> None:
    data = simulate(dict.fromkeys(CLASSES, 200))
    free, cheapest = derived(data), derived(data, max_evaluations=0.0)
    for name in free.support:
        assert cheapest.hierarchy.node(name).t_start >= free.hierarchy.node(name).t_start / 2
    assert cheapest.hierarchy.branches[0].t_start == pytest.approx(free.hierarchy.branches[0].t_start / 2)


def test_abundance_does_not_matter() -> None:
    """A class of 1 % keeps its place, and times hardly move: classes have equal weights."""
    even = derived(simulate(dict.fromkeys(CLASSES, 300)))
    skewed = derived(simulate({"B": 2000, "T": 30, "NK": 300, "Mono": 1500, "DC": 40}))
    assert sorted(map(sorted, inner(skewed))) == sorted(map(sorted, inner(even)))
    for a, b in [("B", "T"), ("T", "NK"), ("Mono", "DC"), ("B", "DC")]:
        assert skewed.hierarchy.branch_point(a, b).t_start == pytest.approx(
            even.hierarchy.branch_point(a, b).t_start, abs=0.03
        )


def test_order_of_classes_does_not_matter_and_inputs_stay() -> None:
    x, scale, codes = simulate(dict.fromkeys(CLASSES, 50))
    before = x.copy(), codes.copy()
    first = derived((x, scale, codes))
    order = [3, 0, 4, 2, 1]
    renamed = np.argsort(order)[codes]
    second = derived((x, scale, renamed), [CLASSES[i] for i in order])
    assert [b.name for b in first.hierarchy.branches] == [b.name for b in second.hierarchy.branches]
    assert [b.classes for b in first.hierarchy.branches] == [b.classes for b in second.hierarchy.branches]
    for a, b in zip(first.hierarchy.branches, second.hierarchy.branches, strict=True):
        assert a.t_start == pytest.approx(b.t_start, abs=1e-5)
    assert (x == before[0]).all() and (codes == before[1]).all()


def test_merge_time_is_in_closed_form_for_two_equal_gaussians() -> None:
    """Two isotropic Gaussians ±δ of variance v: KL(child ‖ pooled) = ½ ln(1 + δ²/(v + σ²)), as traces cancel."""
    delta, variance, epsilon = 2.0, 0.3, 0.05
    mean = np.zeros((2, D))
    mean[0, 0], mean[1, 0] = delta, -delta
    moments = Moments.exact(mean, np.stack([variance * np.eye(D)] * 2))
    sigma = np.sqrt(delta**2 / np.expm1(2 * epsilon) - variance)
    expected = np.log(sigma / 0.02) / np.log(10 / 0.02)
    (time,) = merge_times(Fidelity(moments, SCHEDULE.levels, epsilon), [[(0,), (1,)]])
    assert time == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("sizes", [(400, 400), (150, 2000), (200, 400, 800)])
def test_few_cells_do_not_look_like_a_difference(sizes: tuple[int, ...]) -> None:
    """Classes with one distribution: what is subtracted is what estimation alone adds, whatever their sizes."""
    subtracted, plain = [], []
    codes = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=(len(codes), D))
        moments = Moments.of_classes(x, np.zeros_like(x), codes, len(sizes), 0.0)
        criterion = Fidelity(moments, SCHEDULE.levels, 1.0)
        groups = [(code,) for code in range(len(sizes))]
        mean, covariance = moments.pooled(range(len(sizes)))
        plain.append(gaussian_divergence(moments.mean[0], moments.covariance[0], mean, covariance))
        # The criterion is the largest over children and never negative, so the first child's bias is taken alone.
        noise = 0.02**2 * np.eye(D)
        relative = (np.linalg.inv(covariance + noise) @ moments.covariance[0])[None]
        subtracted.append(criterion._bias([groups], 0, relative)[0])
    assert np.mean(subtracted) == pytest.approx(np.mean(plain), rel=0.2)


@pytest.mark.parametrize("n_cells", [20, 60])
def test_variance_of_posteriors_is_no_error_of_estimation(n_cells: int) -> None:
    """Classes of few cells, mostly unsure of where they are, part where their exact moments do."""
    d, apart, scale = 30, 4.0, 0.9
    spread = np.sqrt(1 - scale**2)
    codes = np.repeat([0, 1], n_cells)
    schedule = NoiseSchedule.uniform(0.1, 10.0, d)
    mean = np.zeros((2, d))
    mean[1, 0] = apart
    exact = Moments.exact(mean, np.stack([np.eye(d)] * 2))
    times = []
    for seed in range(5):
        x = mean[codes] + np.random.default_rng(seed).normal(0, spread, (2 * n_cells, d))
        moments = Moments.of_classes(x, np.full_like(x, scale), codes, 2, float(d))
        times.append(merge_times(Fidelity(moments, schedule.levels, 0.5), [[(0,), (1,)]])[0])
    (expected,) = merge_times(Fidelity(exact, schedule.levels, 0.5), [[(0,), (1,)]])
    assert np.mean(times) == pytest.approx(expected, abs=0.05)


def test_noise_of_equal_levels_is_noise_of_any_levels() -> None:
    """The measure along eigenvectors is the one that inverts matrices."""
    x, scale, codes = simulate(dict.fromkeys(CLASSES, 60))
    moments = Moments.of_classes(x, scale, codes, len(CLASSES), float(D))
    sets = [[(0,), (3, 4)], [(1, 2), (0,)], [(4,), (2,)]]
    times = np.array([0.0, 0.3, 0.8])
    unequal = np.where(np.arange(D) == 1, 1 + 1e-12, 1.0)
    found = Fidelity(moments, SCHEDULE.levels, 1.0).curve(sets)(times)
    expected = Fidelity(moments, lambda t: SCHEDULE.levels(t) * unequal, 1.0).curve(sets)(times)
    assert (found > 0).all()
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_every_criterion_falls_with_noise() -> None:
    x, scale, codes = simulate(dict.fromkeys(CLASSES, 100))
    moments = Moments.of_classes(x, scale, codes, len(CLASSES), float(D))
    for make in CRITERIA.values():
        criterion = make(moments, SCHEDULE.levels, 1.0)
        sets = [[(0,), (3, 4)]] * 21
        assert (np.diff(criterion.curve(sets)(np.linspace(0, 1, 21))) <= 1e-12).all()


def test_a_given_tree_gets_times_only() -> None:
    data = simulate(dict.fromkeys(CLASSES, 100))
    odd = parse_newick("(((B,Mono)odd,T),(NK,DC));", CLASSES)
    found = derived(data, tree=odd)
    clades = inner(found)
    assert {"B", "Mono"} in clades or len(clades) < 4
    assert all(support.support is None for support in found.support.values())
    free = derived(data)
    assert found.hierarchy.branch_point("B", "Mono").t_start > free.hierarchy.branch_point("T", "NK").t_start


def test_levels_make_a_tree() -> None:
    levels = [["L", "L", "L", "M", "M"], ["B", "TNK", "TNK", "M", "M"]]
    tree = tree_of_levels(levels, CLASSES)
    clades = {frozenset(clade.classes): clade.name for clade in tree.walk() if clade.children}
    assert clades[frozenset({"T", "NK"})] == "TNK"
    assert clades[frozenset({"B", "T", "NK"})] == "L"
    assert frozenset({"Mono", "DC"}) in clades
    with pytest.raises(BranchgenError, match="at least one column"):
        tree_of_levels([], CLASSES)


def test_moments_shrink_small_classes_and_count_posterior_variance() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) * [1.0, 2.0, 0.5]
    codes = np.repeat([0, 1], [390, 10])
    scale = np.full_like(x, 0.5)
    raw = Moments.of_classes(x, scale, codes, 2, 0.0)
    np.testing.assert_allclose(raw.covariance[0], np.cov(x[:390].T) + 0.25 * np.eye(3))
    shrunk = Moments.of_classes(x, scale, codes, 2, 10.0)
    np.testing.assert_allclose(shrunk.covariance[1], raw.covariance[1] / 2 + raw.covariance.mean(axis=0) / 2)


def test_pooled_moments_are_those_of_the_mixture() -> None:
    rng = np.random.default_rng(0)
    mean, roots = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 4))
    moments = Moments.exact(mean, roots @ roots.transpose(0, 2, 1))
    weights = np.array([0.2, 0.5, 0.3])
    pooled_mean, pooled = moments.pooled([0, 1, 2], weights)
    second = sum(w * (s + np.outer(m, m)) for w, m, s in zip(weights, moments.mean, moments.covariance, strict=True))
    np.testing.assert_allclose(pooled, second - np.outer(pooled_mean, pooled_mean), atol=1e-12)


def test_gaussian_divergence_against_known_values() -> None:
    zero, one = np.zeros(1), np.eye(1)
    assert gaussian_divergence(zero, one, zero, one) == pytest.approx(0)
    assert gaussian_divergence(zero + 1, one, zero, one) == pytest.approx(0.5)
    assert gaussian_divergence(zero, 4 * one, zero, one) == pytest.approx((4 - 1 - np.log(4)) / 2)


def test_merging_does_not_invert_times() -> None:
    x, scale, codes = simulate(dict.fromkeys(CLASSES, 30), seed=3)
    moments = Moments.of_classes(x, scale, codes, len(CLASSES), float(D))
    tree = merge_by_criterion(Fidelity(moments, SCHEDULE.levels, 0.5), CLASSES)
    for clade in tree.walk():
        assert all(child.time <= clade.time for child in clade.children)


@pytest.mark.parametrize("n_classes", [1, 2, 7])
def test_flat_shares_nothing(n_classes: int) -> None:
    classes = [f"type {number}" for number in range(n_classes)]
    found = flat(classes)
    assert sorted(found.hierarchy.classes) == classes
    assert found.hierarchy.sharing() == pytest.approx(1, abs=1e-3)
    assert len(found.hierarchy.branches) == (1 + n_classes if n_classes > 1 else 1)
    assert set(found.support) == ({"root"} if n_classes > 1 else set())
    assert Hierarchy.from_list(found.hierarchy.to_list()) == found.hierarchy
