"""New classes on a tree: where they go, and that what was there stays."""

import numpy as np
import pytest
from oracle import GaussianMixtureTree, binary_tree

from branchgen.diffusion.sampler import branch_times
from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.derive import timed
from branchgen.hierarchy.grafts import Grown, Place, grown, place
from branchgen.hierarchy.topology import joined
from branchgen.hierarchy.tree import Branch, Clade, Hierarchy

OLD = Hierarchy(
    (
        Branch(name="root", classes=("A", "B", "C"), t_start=0.6, t_end=1.0),
        Branch(name="AB", classes=("A", "B"), t_start=0.2, t_end=0.6),
        Branch(name="A", classes=("A",), t_start=0.0, t_end=0.2),
        Branch(name="B", classes=("B",), t_start=0.0, t_end=0.2),
        Branch(name="C", classes=("C",), t_start=0.0, t_end=0.6),
    )
)


def grid(branch: Branch) -> list[float]:
    return branch_times(branch, 20)


def test_a_new_class_divides_the_branch_it_leaves_at_a_time_of_the_grid() -> None:
    found = grown(OLD, [Place(name="N", host="AB", time=0.41)], grid)
    tree = found.hierarchy
    assert [branch.name for branch in tree.branches] == ["root", "AB with N", "AB", "A", "B", "C", "N"]
    assert tree.node("AB with N").classes == ("A", "B", "N")
    assert tree.node("AB").classes == ("A", "B")
    assert tree.node("N").t_end == tree.node("AB").t_end == pytest.approx(0.4)
    assert tree.node("N").t_end in grid(OLD.node("AB"))
    assert tree.classes == ("A", "B", "C", "N")
    assert found.trunks == ("root", "AB", "AB", "A", "B", "C", "N")
    assert found.ends == {"root": "root", "AB": "AB", "A": "A", "B": "B", "C": "C", "N": "N"}
    assert tree.branch_point("N", "A").name == "AB with N"


def test_a_class_that_leaves_where_a_branch_ends_is_one_child_more() -> None:
    tree = grown(OLD, [Place(name="N", host="AB", time=0.2)], grid).hierarchy
    assert len(tree.branches) == len(OLD.branches) + 1
    assert {tree.branches[child].name for child in tree.children[tree.index["AB"]]} == {"A", "B", "N"}


def test_a_branch_of_a_single_step_has_no_time_to_leave_at() -> None:
    leaves = [Branch(name=name, classes=(name,), t_start=0.0, t_end=0.03) for name in "AB"]
    old = Hierarchy((Branch(name="root", classes=("A", "B"), t_start=0.03, t_end=1.0), *leaves))
    tree = grown(old, [Place(name="N", host="A", time=0.01)], grid).hierarchy
    assert tree.parents[tree.index["N"]] == 0
    assert tree.node("N").t_end == 0.03


def test_the_root_stays_the_branch_of_all_classes() -> None:
    found = grown(OLD, [Place(name="N", host="root", time=0.81), Place(name="M", host="root", time=0.9)], grid)
    tree = found.hierarchy
    assert tree.branches[0].name == "root"
    assert set(tree.branches[0].classes) == {"A", "B", "C", "N", "M"}
    assert tree.node("root without N").classes == ("A", "B", "C")
    assert set(tree.node("root without M").classes) == {"A", "B", "C", "N"}
    assert found.ends["root"] == "root without N"
    assert [found.trunks[tree.index[b.name]] for b in tree.path("A")] == ["root", "root", "root", "AB", "A"]


def test_classes_may_leave_the_same_branch_one_after_the_other_and_each_other() -> None:
    places = [
        Place(name="N", host="C", time=0.3),
        Place(name="M", host="C", time=0.3),
        Place(name="L", host="N", time=0.1),
        Place(name="K", host="C", time=0.1),
    ]
    found = grown(OLD, places, grid)
    tree = found.hierarchy
    assert set(tree.branch_point("N", "M").classes) == {"C", "K", "L", "M", "N"}
    assert set(tree.branch_point("L", "N").classes) == {"L", "N"}
    assert set(tree.branch_point("K", "C").classes) == {"K", "C"}
    assert [found.trunks[tree.index[b.name]] for b in tree.path("C")] == ["root", "C", "C", "C"]
    assert grown(OLD, places[:2], grid).hierarchy.path("M")[-1].t_end == tree.path("M")[-1].t_end


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Place(name="A", host="C", time=0.3), "has a class or branch 'A' already"),
        (Place(name="AB", host="C", time=0.3), "has a class or branch 'AB' already"),
        (Place(name="N", host="D", time=0.3), "no branch is called 'D'; there are root, AB, A, B, C"),
    ],
)
def test_names_are_checked(wrong: Place, message: str) -> None:
    with pytest.raises(BranchgenError, match=message):
        grown(OLD, [wrong], grid)


def known_tree(tree: GaussianMixtureTree, members: list[str], criterion: Fidelity) -> Hierarchy:
    """The classes in pairs by name, and all pairs at once, at the times of the criterion."""
    codes = {name: code for code, name in enumerate(tree.classes)}
    pairs = [members[i : i + 2] for i in range(0, len(members), 2)]
    clades = [
        joined([Clade(classes=(n,), name=n) for n in pair], 0.0) if len(pair) > 1 else Clade(classes=tuple(pair))
        for pair in pairs
    ]
    return Hierarchy.from_clades(timed(criterion, joined(clades, 0.0), codes), 0.0)


def test_a_class_goes_where_it_would_have_been() -> None:
    """Four pairs, one class left out: it comes to its sibling's branch, at the time at which the pair really parts."""
    tree = binary_tree(8, 20, separation=8.0)
    criterion = Fidelity(tree.moments, tree.schedule.levels, 0.5)
    everything = known_tree(tree, list(tree.classes), criterion)
    codes = {name: code for code, name in enumerate(tree.classes)}
    for code, name in enumerate(tree.classes):
        sibling = tree.classes[code ^ 1]
        others = [other for other in tree.classes if other not in (name, sibling)]
        old = known_tree(tree, [*others, sibling], criterion)
        found = place(Grown(old, tuple(old.index)), name, sibling, criterion, codes, 1.0)
        assert found.host == sibling
        np.testing.assert_allclose(found.time, everything.branch_point(name, sibling).t_start, atol=0.01)
