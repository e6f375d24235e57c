"""The branches of any tree tile the (class × time) plane."""

import numpy as np
import pytest

from branchgen.errors import BranchgenError
from branchgen.hierarchy.newick import parse_newick, to_newick
from branchgen.hierarchy.tree import Branch, Clade, Hierarchy


def random_clade(rng: np.random.Generator, n_classes: int) -> Clade:
    """A random tree, often unbalanced, with times that fall from the root and are sometimes nearly equal."""
    clades = [Clade(classes=(f"type {i}",), name=f"type {i}") for i in range(n_classes)]
    time = 0.0
    while len(clades) > 1:
        time += float(rng.choice([0.0, 1e-6, 0.01, rng.uniform(0, 0.3)]))
        size = min(len(clades), int(rng.integers(2, 4)))
        chosen = sorted(rng.choice(len(clades), size, replace=False), reverse=True)
        children = tuple(clades.pop(i) for i in chosen)
        clades.append(Clade(classes=sum((c.classes for c in children), ()), children=children, time=min(time, 1.0)))
    return clades[0]


@pytest.mark.parametrize("seed", range(100))
def test_random_trees_tile_the_plane(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 20))
    tree = Hierarchy.from_clades(random_clade(rng, n_classes), min_span=0.03)
    assert sorted(tree.classes) == sorted(f"type {i}" for i in range(n_classes))

    times = rng.uniform(0, 1, 50)
    # Branch points and the next smaller numbers are where half-open spans could overlap or leave a gap.
    edges = {branch.t_start for branch in tree.branches}
    times = np.concatenate([times, sorted(edges), [np.nextafter(t, 0) for t in edges if t > 0]])
    for name in tree.classes:
        for t in times:
            owners = [b.name for b in tree.branches if name in b.classes and b.t_start <= t < b.t_end]
            assert len(owners) == 1
            assert tree.branches[tree.branch_of([name], np.array([t]))[0]].name == owners[0]
    for position, below in enumerate(tree.children):
        parts = [name for child in below for name in tree.branches[child].classes]
        assert not below or sorted(parts) == sorted(tree.branches[position].classes)
        assert bool(below) == (tree.branches[position].t_start > 0)
    assert Hierarchy.from_list(tree.to_list()) == tree
    assert 0 < tree.sharing() <= 1


def test_near_equal_times_make_one_branch_point() -> None:
    ab = Clade(classes=("a", "b"), children=(Clade(classes=("a",)), Clade(classes=("b",))), time=0.49)
    root = Clade(classes=("a", "b", "c"), children=(ab, Clade(classes=("c",))), time=0.5)
    tree = Hierarchy.from_clades(root, min_span=0.03)
    assert [branch.name for branch in tree.branches] == ["root", "a", "b", "c"]
    assert len(Hierarchy.from_clades(root, min_span=0.001).branches) == 5


def test_branch_points_and_paths() -> None:
    tree = Hierarchy.from_list(
        [
            {"name": "root", "classes": ["a", "b", "c"], "t_start": 0.6, "t_end": 1.0},
            {"name": "ab", "classes": ["a", "b"], "t_start": 0.2, "t_end": 0.6},
            {"name": "a", "classes": ["a"], "t_start": 0.0, "t_end": 0.2},
            {"name": "b", "classes": ["b"], "t_start": 0.0, "t_end": 0.2},
            {"name": "c", "classes": ["c"], "t_start": 0.0, "t_end": 0.6},
        ]
    )
    assert [branch.name for branch in tree.path("b")] == ["root", "ab", "b"]
    assert tree.branch_point("a", "b").name == "ab"
    assert tree.branch_point("a", "c").name == "root"
    assert tree.branch_points == (0, 1)
    assert tree.sharing() == pytest.approx((0.4 + 0.4 + 0.2 + 0.2 + 0.6) / 3)
    with pytest.raises(BranchgenError, match=r"no class or branch is called 'd'; there are root, ab, a, b, c"):
        tree.node("d")


def test_a_stage_boundary_is_a_branch_with_one_child() -> None:
    tree = Hierarchy.from_list(
        [
            {"name": "root", "classes": ["a", "b"], "t_start": 0.7, "t_end": 1.0},
            {"name": "middle", "classes": ["a", "b"], "t_start": 0.4, "t_end": 0.7},
            {"name": "a", "classes": ["a"], "t_start": 0.0, "t_end": 0.4},
            {"name": "b", "classes": ["b"], "t_start": 0.0, "t_end": 0.4},
        ]
    )
    assert tree.children == ((1,), (2, 3), (), ())
    assert tree.branch_points == (1,)


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ([("root", "ab", 0.5, 1.0), ("a", "a", 0.0, 0.5), ("b", "b", 0.0, 0.4)], "class 'b' has no branch or several"),
        ([("root", "ab", 0.5, 1.0), ("a", "a", 0.0, 0.6), ("b", "b", 0.0, 0.5)], "class 'a' has no branch or several"),
        ([("root", "ab", 0.5, 0.9), ("a", "a", 0.0, 0.5), ("b", "b", 0.0, 0.5)], "from time 0.9 to 1"),
        ([("root", "ab", 0.5, 1.0), ("root", "a", 0.0, 0.5), ("b", "b", 0.0, 0.5)], "share a name"),
    ],
)
def test_overlaps_and_gaps_are_refused(branches: list[tuple[str, str, float, float]], message: str) -> None:
    with pytest.raises(BranchgenError, match=message):
        Hierarchy(tuple(Branch(name=n, classes=tuple(c), t_start=s, t_end=e) for n, c, s, e in branches))


@pytest.mark.parametrize(("t_start", "t_end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_empty_or_outlying_spans_are_refused(t_start: float, t_end: float) -> None:
    with pytest.raises(BranchgenError, match="it must be a part of"):
        Branch(name="x", classes=("a",), t_start=t_start, t_end=t_end)


@pytest.mark.parametrize("seed", range(20))
def test_newick_round_trip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = Hierarchy.from_clades(random_clade(rng, int(rng.integers(2, 12))), min_span=0.02)
    back = parse_newick(to_newick(tree), tree.classes)
    assert {frozenset(c.classes) for c in back.walk()} == {frozenset(c.classes) for c in tree.to_clade().walk()}
    assert {c.name for c in back.walk()} == {b.name for b in tree.branches}


def test_newick_names_comments_and_unary_nodes() -> None:
    classes = ["CD4+/CD45RA+ T", "B, naive", "it's", "x(y)"]
    text = "(('CD4+/CD45RA+ T':1[&&NHX:x=1],('B, naive'))lymph:0.5,(('it''s','x(y)')inner)outer);"
    root = parse_newick(text, classes)
    assert sorted(root.classes) == sorted(classes)
    assert [child.name for child in root.children] == ["lymph", "inner"]


def test_newick_of_whatever_leaves() -> None:
    assert parse_newick("((x,y),z);").classes == ("x", "y", "z")
    with pytest.raises(BranchgenError, match="more than one leaf called 'x'"):
        parse_newick("(x,x);")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(a,b,d);", "leaves that are no class: 'd'; classes that are no leaf: 'c'"),
        ("(a,b,c,a);", "more than one leaf called 'a'"),
        ("((a,b),c)", "found 'the end' where ';'"),
        ("((a,b,c);", r"found ';' where '\)'"),
        ("(a,b,'c);", "malformed at character 6"),
        ("", "found 'the end' where ';'"),
    ],
)
def test_newick_that_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(BranchgenError, match=message):
        parse_newick(text, ["a", "b", "c"])
