"""Branch points with exact denoisers on cells whose marker genes are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from oracle import GaussianMixtureTree
from scipy import linalg, sparse, stats

from branchgen.analysis.branch_points import (
    Population,
    branch_gene_table,
    branch_point_cells,
    branch_point_table,
    compare,
    log_profile,
    populations,
)
from branchgen.analysis.expression import normalised
from branchgen.cells.codec import Codec, standardised
from branchgen.cells.principal import PrincipalComponents
from branchgen.diffusion.blocks import BLOCK
from branchgen.diffusion.handover import levels_at
from branchgen.diffusion.sample import descend
from branchgen.diffusion.sampler import TreeSampler
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.tree import Clade, Hierarchy

CLASSES = ("a1", "a2", "b1", "b2", "b3")
N_MARKERS, N_OTHERS = 5, 40
MARKED = ("a", "b", *CLASSES)
"""Lineages and classes, each with marker genes of its own."""
GENES = [f"{name} marker {i}" for name in MARKED for i in range(N_MARKERS)] + [f"other {i}" for i in range(N_OTHERS)]
EFFECT = 1.5
"""ln of how much more a marker is expressed."""
N_PER_CLASS = 120


def markers(name: str) -> set[str]:
    return {f"{name} marker {i}" for i in range(N_MARKERS)}


def marked_cells() -> AnnData:
    """Poisson counts; a cell has the markers of its lineage (first letter) and of its class. A sixth is for testing."""
    rng = np.random.default_rng(0)
    labels = np.repeat(CLASSES, N_PER_CLASS)
    raised = np.array([[gene.split()[0] in {name[0], name} for gene in GENES] for name in labels])
    share = np.exp(rng.normal(0, 0.5, len(GENES)) + EFFECT * raised)
    share /= share.sum(axis=1, keepdims=True)
    counts = rng.poisson(share * rng.lognormal(np.log(3000), 0.2, len(labels))[:, None])
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(labels),
            "split": pd.Categorical(np.where(np.arange(len(labels)) % 6 == 0, "test", "train")),
        },
        index=[f"cell {i}" for i in range(len(labels))],
    )
    matrix = sparse.csr_matrix(counts.astype(np.int32))
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=GENES), layers={"counts": matrix})


@dataclass(frozen=True)
class World:
    """Cells, their codec, and the exact diffusion model of Gaussians with the moments of their latents."""

    cells: AnnData
    codec: Codec
    tree: GaussianMixtureTree
    sampler: TreeSampler

    @property
    def hierarchy(self) -> Hierarchy:
        return self.sampler.hierarchy

    @cached_property
    def branch_points(self) -> AnnData:
        return branch_point_cells(self.sampler, self.codec, {}, 200)

    @cached_property
    def genes(self) -> pd.DataFrame:
        return branch_gene_table(self.sampler, self.branch_points, self.cells)


@pytest.fixture(scope="module")
def world() -> World:
    cells = marked_cells()
    counts = cells.layers["counts"]
    body = PrincipalComponents.fit(counts, 6, 0)
    codec = standardised("pca", tuple(GENES), body, counts, torch.zeros(1))
    mean, scale = (part.astype(float) for part in codec.encode(counts))
    moments = Moments.of_classes(mean, scale, cells.obs["cell_type"].cat.codes.to_numpy(), len(CLASSES), 7.0)
    tree = GaussianMixtureTree(
        CLASSES, moments, np.array([0.1, 0.3, 0.2, 0.15, 0.25]), NoiseSchedule.uniform(0.02, 10.0, codec.n_latent)
    )
    below = tuple(
        Clade(
            classes=tuple(name for name in CLASSES if name[0] == lineage),
            children=tuple(Clade(classes=(name,)) for name in CLASSES if name[0] == lineage),
            time=time,
            name=lineage,
        )
        for lineage, time in (("a", 0.55), ("b", 0.6))
    )
    hierarchy = Hierarchy.from_clades(Clade(classes=CLASSES, children=below, time=0.8), 0.03)
    assert [branch.name for branch in hierarchy.branches] == ["root", "a", "a1", "a2", "b", "b1", "b2", "b3"]
    sampler = tree.sampler(hierarchy)
    return World(cells, codec, tree, sampler)


def found(world: World, n_cells: int, **changes: object) -> dict[tuple[str, str], Population]:
    sampler = replace(world.sampler, **changes)
    return {(population.branch, population.name): population for population in populations(sampler, n_cells)}


def test_every_branch_point_has_its_parent_and_its_children(world: World) -> None:
    expected = {("root", "root"), ("root", "a"), ("root", "b"), ("a", "a"), ("a", "a1"), ("a", "a2")}
    expected |= {("b", "b"), ("b", "b1"), ("b", "b2"), ("b", "b3")}
    parts = found(world, 30)
    assert set(parts) == expected
    for (branch, _), population in parts.items():
        assert population.time == world.hierarchy.node(branch).t_start
        assert population.noised.shape == population.denoised.shape == (30, world.codec.n_latent)


def test_a_child_enters_as_its_parent_leaves_row_by_row(world: World) -> None:
    """By linear transport between the noised pooled Gaussians, written out here; by identity they are the same."""
    parts, same = found(world, 50, handover="linear"), found(world, 50, handover="identity")
    position, moments = world.hierarchy.index, world.sampler.moments
    for branch, child in parts:
        noise = np.diag(levels_at(world.sampler.schedule, world.hierarchy.node(branch).t_start) ** 2)
        p, c = moments.covariance[position[branch]] + noise, moments.covariance[position[child]] + noise
        root = linalg.sqrtm(p)
        matrix = linalg.inv(root) @ linalg.sqrtm(root @ c @ root) @ linalg.inv(root)
        left = parts[branch, branch].noised.numpy() - moments.mean[position[branch]]
        expected = left @ matrix.T + moments.mean[position[child]]
        np.testing.assert_allclose(parts[branch, child].noised.numpy(), expected, atol=1e-8)
        if branch != child:
            assert not torch.equal(parts[branch, child].noised, parts[branch, branch].noised)
            assert torch.equal(same[branch, child].noised, same[branch, branch].noised)


def test_populations_are_the_samples_on_their_way(world: World) -> None:
    """Beyond one block, and the first are the same whatever their number."""
    n_cells = BLOCK + 10
    parts, fewer = found(world, n_cells), found(world, 10)
    wanted = [dict.fromkeys(CLASSES, n) for n in (BLOCK, 10)]
    passages = [p for block in (0, 1) for p in descend(world.sampler, block, wanted[block], scope="analyse")]
    for (branch, name), population in parts.items():
        own = sorted((p for p in passages if p.branch.name == name), key=lambda p: p.segment)
        ends = torch.cat([p.leaving if name == branch else p.entering for p in own])
        assert torch.equal(population.noised, ends[:n_cells])
        assert torch.equal(fewer[branch, name].noised, ends[:10])
    assert len(torch.unique(parts["root", "root"].noised, dim=0)) == n_cells


def test_each_population_is_denoised_by_its_own_branch(world: World) -> None:
    for (_, name), population in found(world, 20).items():
        expected = world.tree.denoise(world.hierarchy.node(name).classes, population.noised, population.time)
        assert torch.equal(population.denoised, expected)


def test_populations_have_the_moments_of_their_noised_branch(world: World) -> None:
    n_cells = 4 * BLOCK
    position, moments = world.hierarchy.index, world.sampler.moments
    for (branch, name), population in found(world, n_cells).items():
        sigma = levels_at(world.sampler.schedule, world.hierarchy.node(branch).t_start)
        variance = np.diag(moments.covariance[position[name]]) + sigma**2
        errors = (population.noised.numpy().mean(axis=0) - moments.mean[position[name]]) / np.sqrt(variance / n_cells)
        assert np.abs(errors).max() < 4
        np.testing.assert_allclose(population.noised.numpy().var(axis=0) / variance, 1, atol=0.15)
        # E[E[x₀ | x_t]] = E[x₀]
        spread = population.denoised.numpy().std(axis=0) / np.sqrt(n_cells)
        away = np.abs(population.denoised.numpy().mean(axis=0) - moments.mean[position[name]])
        assert (away < 5 * spread + 0.02).all()


def test_profiles_are_the_logarithm_of_expected_shares(world: World) -> None:
    latents = torch.from_numpy(world.branch_points.obsm["X_denoised"][:7])
    expected = world.codec.decode(latents).expected
    shares = (expected / expected.sum(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(log_profile(world.codec, latents), np.log1p(1e4 * shares), rtol=1e-5)


def test_cells_at_the_branch_points(world: World) -> None:
    cells = world.branch_points
    assert cells.n_obs == 10 * 200
    assert list(cells.var_names) == GENES
    assert cells.obs_names.is_unique
    assert np.isfinite(cells.X).all()
    np.testing.assert_allclose(np.expm1(cells.X.astype(float)).sum(axis=1), 1e4, rtol=1e-4)
    for (branch, name), population in found(world, 200).items():
        rows = ((cells.obs["branch"] == branch) & (cells.obs["population"] == name)).to_numpy()
        assert (cells.obs["time"][rows] == population.time).all()
        np.testing.assert_array_equal(cells.obsm["X_latent"][rows], population.noised.float().numpy())
        np.testing.assert_array_equal(cells.obsm["X_denoised"][rows], population.denoised.float().numpy())


def test_the_table_has_a_row_per_branch_point_and_child(world: World) -> None:
    support = {
        "root": {"support": 1.0, "time_low": 0.78, "time_high": 0.82},
        "a": {"support": None, "time_low": 0.5, "time_high": 0.56},
        "b": {"support": 0.5, "time_low": 0.6, "time_high": 0.6},
    }
    sizes = {"a1": 1, "a2": 20, "b1": 300, "b2": 4000, "b3": 50_000}
    table = branch_point_table(world.sampler, support, sizes).set_index(["branch", "child"])
    pairs = [("root", "a"), ("root", "b"), ("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2"), ("b", "b3")]
    assert sorted(table.index) == sorted(pairs)
    assert table.loc["root"]["n_train"].to_dict() == {"a": 21, "b": 54_300}
    assert table.loc["b"]["n_train"].to_dict() == {"b1": 300, "b2": 4000, "b3": 50_000}
    assert table.loc[("root", "b"), "classes"] == ["b1", "b2", "b3"]
    assert table["support"].dtype == float
    assert table.loc["a"]["support"].isna().all()
    position, moments = world.hierarchy.index, world.sampler.moments
    for (branch, child), row in table.iterrows():
        time = world.hierarchy.node(branch).t_start
        assert (row["time"], row["time_low"], row["time_high"]) == (
            time,
            support[branch]["time_low"],
            support[branch]["time_high"],
        )
        assert row["sigma"] == pytest.approx(0.02 * 500**time)
        noise = torch.diag(torch.full((world.codec.n_latent,), row["sigma"] ** 2, dtype=torch.float64))
        gaussians = [
            torch.distributions.MultivariateNormal(
                torch.from_numpy(moments.mean[position[name]]),
                torch.from_numpy(moments.covariance[position[name]]) + noise,
            )
            for name in (child, branch)
        ]
        assert row["divergence"] == pytest.approx(float(torch.distributions.kl_divergence(*gaussians)))


PAIRS = [("root", "a", "b"), ("root", "b", "a"), ("a", "a1", "a2"), ("a", "a2", "a1")]
"""Branch, child, and its one sibling."""


def ranked(world: World, branch: str, child: str, column: str) -> list[str]:
    """Genes of a child from the highest to the lowest value."""
    rows = world.genes[(world.genes["branch"] == branch) & (world.genes["child"] == child)]
    assert list(rows["gene"]) == GENES
    return list(rows.sort_values(column, ascending=False)["gene"])


@pytest.mark.parametrize("column", ["statistic", "log2_fold_change", "difference_at_branch_point"])
@pytest.mark.parametrize(("branch", "child", "sibling"), PAIRS)
def test_markers_of_a_child_come_first_and_those_of_its_sibling_last(
    column: str, branch: str, child: str, sibling: str, world: World
) -> None:
    genes = ranked(world, branch, child, column)
    assert set(genes[:N_MARKERS]) == markers(child)
    assert set(genes[-N_MARKERS:]) == markers(sibling)
    rows = world.genes[(world.genes["branch"] == branch) & (world.genes["child"] == child)].set_index("gene")
    assert (rows.loc[sorted(markers(child)), column] > 0).all()
    assert (rows.loc[sorted(markers(sibling)), column] < 0).all()


@pytest.mark.parametrize("child", ["b1", "b2", "b3"])
def test_of_three_children_each_is_compared_with_the_two_others(child: str, world: World) -> None:
    for column in ("statistic", "difference_at_branch_point"):
        assert set(ranked(world, "b", child, column)[:N_MARKERS]) == markers(child)
        others = {gene for name in ("b1", "b2", "b3") if name != child for gene in markers(name)}
        assert set(ranked(world, "b", child, column)[-2 * N_MARKERS :]) == others


def test_fold_changes_are_those_simulated(world: World) -> None:
    for branch, child, sibling in PAIRS[2:]:
        rows = world.genes[(world.genes["branch"] == branch) & (world.genes["child"] == child)].set_index("gene")
        up, down = (rows.loc[sorted(markers(name)), "log2_fold_change"] for name in (child, sibling))
        # Shares: one has its markers raised and the other its own, so the sums of both are much the same.
        np.testing.assert_allclose(up, EFFECT / np.log(2), atol=0.35)
        np.testing.assert_allclose(down, -EFFECT / np.log(2), atol=0.35)
        same = rows.loc[[gene for gene in GENES if gene.startswith("other")], "log2_fold_change"]
        assert abs(same.median()) < 0.25


def test_the_test_is_students_on_the_training_cells_with_benjamini_hochbergs_correction(world: World) -> None:
    train = world.cells[world.cells.obs["split"] == "train"]
    counts = train.layers["counts"].toarray().astype(float)
    normalised = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    labels = train.obs["cell_type"].astype(str).to_numpy()
    for branch, child in (("root", "a"), ("a", "a2"), ("b", "b3")):
        inside = np.isin(labels, world.hierarchy.node(child).classes)
        beside = np.isin(labels, world.hierarchy.node(branch).classes) & ~inside
        expected = stats.ttest_ind(normalised[inside], normalised[beside], equal_var=True)
        rows = world.genes[(world.genes["branch"] == branch) & (world.genes["child"] == child)]
        np.testing.assert_allclose(rows["statistic"], expected.statistic, rtol=1e-6)
        np.testing.assert_allclose(rows["p_value"], expected.pvalue, rtol=1e-4)
        np.testing.assert_allclose(rows["q_value"], stats.false_discovery_control(rows["p_value"]), rtol=1e-6)
    for column in ("p_value", "q_value"):
        assert world.genes[column].between(0, 1).all()
    assert (world.genes["q_value"] >= world.genes["p_value"]).all()


@pytest.mark.parametrize(
    ("n_inside", "n_beside", "detected"),
    [
        (250, 250, (0.02, 1.0)),
        (40, 460, (0.02, 0.1)),
        (40, 460, (0.1, 1.0)),
        (20, 100, (0.1, 1.0)),
        (10, 30, (0.2, 1.0)),
    ],
)
def test_p_values_are_uniform_where_a_class_is_split_by_chance(
    n_inside: int, n_beside: int, detected: tuple[float, float]
) -> None:
    """1,000 splits of one class, a gene each: rare children and genes that few cells express are no exception."""
    rng = np.random.default_rng(0)
    rate = rng.lognormal(-1.5, 1.2, 400) * rng.lognormal(0, 0.3, (800, 1))
    counts = rng.poisson(rng.gamma(2.0, rate / 2.0))
    cells = normalised(sparse.csr_matrix(counts.astype(np.int32))).log1p()
    share = (counts > 0).mean(axis=0)
    genes = np.flatnonzero((share > detected[0]) & (share <= detected[1]))
    assert len(genes) > 20
    p_values = []
    for _ in range(1000):
        rows, gene = rng.permutation(len(counts)), [rng.choice(genes)]
        inside, beside = rows[:n_inside], rows[n_inside : n_inside + n_beside]
        p_values.append(float(compare(cells[inside][:, gene], cells[beside][:, gene])["p_value"][0]))
    assert stats.kstest(p_values, "uniform").pvalue > 0.05
    assert np.mean(np.array(p_values) < 0.001) < 0.008


def test_the_hybrid_lies_between_the_children(world: World) -> None:
    """The parent's profile at the branch point is its mean, and has the children's markers at half height."""
    cells = world.branch_points
    rows = world.genes[(world.genes["branch"] == "root") & (world.genes["child"] == "a")].set_index("gene")
    at_root = (cells.obs["branch"] == "root") & (cells.obs["population"] == "root")
    np.testing.assert_allclose(rows["hybrid"], cells.X[at_root.to_numpy()].mean(axis=0), rtol=1e-6)
    profiles = {
        name: cells.X[((cells.obs["branch"] == "root") & (cells.obs["population"] == name)).to_numpy()].mean(axis=0)
        for name in ("a", "b")
    }
    np.testing.assert_allclose(rows["difference_at_branch_point"], profiles["a"] - profiles["b"], atol=1e-5)
    chosen = [GENES.index(gene) for gene in sorted(markers("a") | markers("b"))]
    low, high = (combine(profiles["a"], profiles["b"])[chosen] for combine in (np.minimum, np.maximum))
    hybrid = rows["hybrid"].to_numpy()[chosen]
    assert (low < hybrid).all()
    assert (hybrid < high).all()


def test_expression_is_that_of_the_childs_training_cells(world: World) -> None:
    inside = (world.cells.obs["cell_type"].str.startswith("b") & (world.cells.obs["split"] == "train")).to_numpy()
    counts = world.cells.layers["counts"][inside].toarray()
    expected = np.log1p((1e4 * counts / counts.sum(axis=1, keepdims=True)).mean(axis=0))
    rows = world.genes[(world.genes["branch"] == "root") & (world.genes["child"] == "b")]
    np.testing.assert_allclose(rows["expression"], expected, rtol=1e-9)


def test_cells_that_are_not_for_training_change_nothing(world: World) -> None:
    spoiled = world.cells.copy()
    test = (spoiled.obs["split"] == "test").to_numpy()
    labels = spoiled.obs["cell_type"].to_numpy().copy()
    labels[test] = labels[test][::-1]
    spoiled.obs["cell_type"] = pd.Categorical(labels, categories=CLASSES)
    pd.testing.assert_frame_equal(branch_gene_table(world.sampler, world.branch_points, spoiled), world.genes)


def test_a_class_with_one_training_cell_has_no_test_but_its_fold_changes(world: World) -> None:
    """One cell has no variance: nothing can be said about its genes, and the other children keep theirs."""
    rows = np.flatnonzero((world.cells.obs["cell_type"] == "b2") & (world.cells.obs["split"] == "train"))
    few = world.cells[np.setdiff1d(np.arange(world.cells.n_obs), rows[1:])].copy()
    table = branch_gene_table(world.sampler, world.branch_points, few)
    assert len(table) == len(world.genes)
    alone = (table["branch"] == "b") & (table["child"] == "b2")
    assert (table["p_value"][alone] == 1).all()
    assert (table["q_value"][alone] == 1).all()
    assert (table["statistic"][alone] == 0).all()
    assert np.isfinite(table["log2_fold_change"][alone]).all()
    others = table[(table["branch"] == "b") & (table["child"] == "b3")].sort_values("statistic", ascending=False)
    assert set(others["gene"][:N_MARKERS]) == markers("b3")
    elsewhere = table["branch"] == "a"
    pd.testing.assert_frame_equal(table[elsewhere], world.genes[elsewhere])


def test_genes_without_counts_are_no_markers(world: World) -> None:
    """Below a branch point many genes are silent: they have no variance, and no fold change."""
    silent = world.cells.copy()
    counts = silent.layers["counts"].toarray()
    lineage_a = silent.obs["cell_type"].str.startswith("a").to_numpy()
    counts[np.ix_(lineage_a, [gene.startswith("b marker") for gene in GENES])] = 0
    silent.layers["counts"] = sparse.csr_matrix(counts)
    table = branch_gene_table(world.sampler, world.branch_points, silent)
    assert not table.isna().any(axis=None)
    below_a = table[(table["branch"] == "a") & table["gene"].isin(markers("b"))]
    assert len(below_a) == 2 * N_MARKERS
    assert (below_a["p_value"] == 1).all()
    assert (below_a[["statistic", "log2_fold_change"]] == 0).all(axis=None)
    at_root = table[(table["branch"] == "root") & (table["child"] == "b")]
    assert set(at_root.nlargest(N_MARKERS, "log2_fold_change")["gene"]) == markers("b")


def test_fold_changes_of_genes_that_one_side_is_without_are_what_its_number_of_cells_can_tell() -> None:
    few, many = np.array([[0.0, 9.0]] * 4), np.array([[3.0, 0.0]] * 32)
    sides = [sparse.csr_matrix(np.log1p(counts)) for counts in (few, many)]
    for inside, beside, sign in ((*sides, 1), (*sides[::-1], -1)):
        found = compare(inside, beside)["log2_fold_change"]
        np.testing.assert_allclose(found, sign * np.log2([0.25 / 3.25, 9.25 / 0.25]))
