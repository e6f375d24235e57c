"""Fates of cells by Bayes' rule, against the exact tree; and the tree as scanpy draws it."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from anndata import AnnData
from oracle import GaussianMixtureTree, binary_tree
from scipy import sparse
from scipy.cluster.hierarchy import cophenet, is_valid_linkage
from scipy.spatial.distance import squareform

from branchgen.analysis.fate_cells import fate_cells, linkage_of, parting_times, scanpy_graph, terminal_cells
from branchgen.analysis.fates import Fates, Latents, child_probabilities, draws, fates, separability_table
from branchgen.diffusion.sampler import TreeSampler
from branchgen.hierarchy.tree import Clade, Hierarchy

N_CLASSES, D = 5, 6
TREE = binary_tree(N_CLASSES, D, separation=6.0, equal=True)


def clade(codes: list[int], time: float, *children: Clade) -> Clade:
    return Clade(classes=tuple(TREE.classes[code] for code in codes), children=children, time=time)


def leaves(*codes: int) -> list[Clade]:
    return [clade([code], 0.0) for code in codes]


HIERARCHY = Hierarchy.from_clades(
    clade([0, 1, 2, 3, 4], 0.8, clade([0, 1], 0.5, *leaves(0, 1)), clade([2, 3, 4], 0.6, *leaves(2, 3, 4))), 0.0
)


def sampler_of(tree: GaussianMixtureTree = TREE, hierarchy: Hierarchy = HIERARCHY) -> TreeSampler:
    return tree.sampler(hierarchy, n_steps=10)


def drawn(n: int, seed: int = 0, scale: float = 0.0) -> tuple[Latents, np.ndarray]:
    """Cells of every class, and their types."""
    rng = np.random.default_rng(seed)
    mean = np.concatenate([TREE.sample(name, n, rng).numpy() for name in TREE.classes])
    return Latents(mean=mean, scale=np.full_like(mean, scale)), np.repeat(TREE.classes, n)


def test_probabilities_sum_to_one_at_every_branch_point_and_over_the_classes() -> None:
    found = fates(sampler_of(), drawn(20)[0], 16)
    np.testing.assert_allclose(found.of_classes.sum(axis=1), 1)
    for branch in {branch for branch, _ in found.children}:
        columns = [i for i, (name, _) in enumerate(found.children) if name == branch]
        np.testing.assert_allclose(found.of_children[:, columns].sum(axis=1), 1)


@pytest.mark.parametrize("scale", [0.0, 0.7])
def test_children_have_their_exact_probabilities(scale: float) -> None:
    """Against densities of the exact tree, averaged over noise that is drawn here."""
    cells, _ = drawn(3, scale=scale)
    sampler = sampler_of()
    position, n_draws = HIERARCHY.index[HIERARCHY.branches[0].name], 20_000
    branch, time = HIERARCHY.branches[position], HIERARCHY.branches[position].t_start
    noise = draws(sampler, branch.name, n_draws)
    found = child_probabilities(sampler, position, cells, time, noise)
    rng = np.random.default_rng(5)
    sigma = TREE.schedule.sigma(time, torch.zeros(1, D, dtype=torch.float64))
    for row in range(len(cells)):
        spread = torch.sqrt(sigma**2 + scale**2)
        x = torch.from_numpy(cells.mean[row]) + spread * torch.from_numpy(rng.standard_normal((n_draws, D)))
        classes = torch.stack([TREE.log_density([name], x, time) for name in branch.classes], dim=1).softmax(dim=1)
        for column, child in enumerate(HIERARCHY.children[position]):
            members = [branch.classes.index(name) for name in HIERARCHY.branches[child].classes]
            assert found[row, column] == pytest.approx(float(classes[:, members].sum(dim=1).mean()), abs=0.02)


def test_a_cell_has_its_fate_whatever_cells_stand_beside_it() -> None:
    cells, _ = drawn(2000)
    rows = np.array([7, 9000, 3])
    whole, alone = fates(sampler_of(), cells, 8), fates(sampler_of(), cells.take(rows), 8)
    np.testing.assert_allclose(whole.of_classes[rows], alone.of_classes, rtol=1e-9)


def test_a_typical_cell_is_committed_and_one_in_between_is_not() -> None:
    means = TREE.moments.mean
    between = (means[0] + means[1]) / 2
    cells = Latents(mean=np.concatenate([means, between[None]]), scale=np.zeros((N_CLASSES + 1, D)))
    found = fates(sampler_of(), cells, 64)
    assert (found.of_classes[:N_CLASSES].argmax(axis=1) == np.arange(N_CLASSES)).all()
    assert found.commitment[:N_CLASSES].min() > found.commitment[N_CLASSES]
    assert found.of_classes[N_CLASSES, :2].min() > 0.2
    assert ((found.commitment > 0) & (found.commitment < 1)).all()
    p = found.of_classes[N_CLASSES]
    assert found.entropy[N_CLASSES] == pytest.approx(-(p * np.log(p)).sum())


def test_siblings_are_separate_in_the_data_and_the_same_in_the_noise() -> None:
    cells, types = drawn(60)
    table = separability_table(sampler_of(), cells, types, 8)
    for branch, part in table.groupby("branch"):
        assert part["time"].tolist() == sorted(part["time"])
        assert part["accuracy"].iloc[0] > 0.95
        assert part["accuracy"].iloc[-1] == pytest.approx(part["chance"].iloc[0], abs=0.1)
        assert (np.diff(part["accuracy"]) < 0.02).all()
        assert (part["n_cells"] == 60 * len(HIERARCHY.node(branch).classes)).all()
    # A branch of which only one child has cells says nothing.
    few = types == TREE.classes[0]
    assert separability_table(sampler_of(), cells.take(few), types[few], 8).empty


def test_terminal_cells_are_the_surest_of_their_own() -> None:
    cells, types = drawn(50)
    found = fates(sampler_of(), cells, 8)
    chosen = terminal_cells(types, found)
    for code, name in enumerate(TREE.classes):
        own = found.of_classes[types == name, code]
        stands = chosen[types == name]
        assert stands.sum() == 30
        assert own[stands].min() >= own[~stands].max()


def test_the_linkage_has_the_times_of_the_tree() -> None:
    classes = sorted(TREE.classes, reverse=True)
    linkage = linkage_of(HIERARCHY, classes)
    assert is_valid_linkage(linkage)
    np.testing.assert_allclose(squareform(cophenet(linkage)), parting_times(HIERARCHY, classes))


def test_scanpy_draws_the_tree_beside_the_types(tmp_path) -> None:
    latents, types = drawn(10)
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(3, (len(types), 8)).astype(np.int32))
    cells = AnnData(
        counts,
        obs=pd.DataFrame({"cell_type": pd.Categorical(types)}, index=[f"cell {i}" for i in range(len(types))]),
        var=pd.DataFrame(index=[f"gene {i}" for i in range(8)]),
        layers={"counts": counts},
    )
    fate_cells(cells, latents, fates(sampler_of(), latents, 4), HIERARCHY).write_h5ad(tmp_path / "fates.h5ad")
    read = sc.read_h5ad(tmp_path / "fates.h5ad")
    with mpl.rc_context({"backend": "agg"}):
        drawing = sc.pl.dotplot(read, list(read.var_names[:3]), "cell_type", dendrogram=True, return_fig=True)
        drawing.make_figure()
        angles = np.linspace(0, 2 * np.pi, len(TREE.classes), endpoint=False)
        assert sc.pl.paga(read, pos=np.stack([np.cos(angles), np.sin(angles)], axis=1), threshold=0.05, show=False)
    order = read.uns["dendrogram_cell_type"]["categories_ordered"]
    assert list(drawing.categories_order) == list(order)


def test_types_are_linked_as_far_as_their_cells_are_in_doubt() -> None:
    latents, types = drawn(40)
    found = fates(sampler_of(), latents, 8)
    graph = scanpy_graph(np.asarray(types), found)
    linked, tree = (graph[name].toarray() for name in ("connectivities", "connectivities_tree"))
    np.testing.assert_array_equal(linked, linked.T)
    assert linked.min() >= 0
    assert linked.max() <= 1
    assert np.count_nonzero(tree) == len(found.classes) - 1
    np.testing.assert_allclose(tree[tree > 0], linked[tree > 0])
    # Two types that are one, and a third that nobody takes for them.
    doubt = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    known = Fates(children=(), of_children=np.ones((3, 0)), classes=("A", "B", "C"), of_classes=doubt)
    linked = scanpy_graph(np.array(["A", "B", "C"]), known)["connectivities"].toarray()
    np.testing.assert_array_equal(linked, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
