"""How far two trees of the same classes agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

from scipy.stats import spearmanr

from branchgen.hierarchy.tree import Clade

Groups = frozenset[frozenset[str]]


def inner_groups(tree: Clade) -> Groups:
    """Classes of every clade of two or more classes, but for that of all classes."""
    everything = frozenset(tree.classes)
    return frozenset(
        group for clade in tree.walk() if len(group := frozenset(clade.classes)) > 1 and group != everything
    )


def robinson_foulds(a: Clade, b: Clade) -> float:
    """Clades that one of two trees has and the other has not, as a share of all that both have; 0 for equal trees."""
    ours, theirs = inner_groups(a), inner_groups(b)
    return len(ours ^ theirs) / max(len(ours) + len(theirs), 1)


def triplet_agreement(known: Clade, found: Clade) -> float:
    """Share of the triplets that a known tree resolves and another resolves in the same way.

    A triplet of classes is resolved where two of them are together without the third. Not a number where the known tree
    resolves none; classes that it does not have do not count.
    """
    names = sorted(set(known.classes) & set(found.classes))
    pairs = _inmost(known), _inmost(found)
    resolved = agreed = 0
    for triplet in combinations(names, 3):
        expected, got = (_closest(triplet, depth) for depth in pairs)
        resolved += expected is not None
        agreed += expected is not None and expected == got
    return agreed / resolved if resolved else float("nan")


def time_agreement(known: Clade, found: Clade) -> float:
    """Spearman correlation of the times of the clades that both trees have, the whole among them."""
    times = [{frozenset(c.classes): c.time for c in tree.walk() if c.children} for tree in (known, found)]
    common = sorted(set(times[0]) & set(times[1]), key=sorted)
    if len(common) < 3:
        return float("nan")
    return float(spearmanr(*([table[group] for group in common] for table in times)).statistic)


def restricted(tree: Clade, classes: Collection[str]) -> Clade:
    """The same tree of these classes alone, at least one of which it has; nodes with a single child are contracted."""
    if not tree.children:
        return tree
    below = [restricted(child, classes) for child in tree.children if not set(child.classes).isdisjoint(classes)]
    if len(below) == 1:
        return below[0]
    kept = tuple(name for child in below for name in child.classes)
    return Clade(classes=kept, children=tuple(below), time=tree.time, name=tree.name)


def _inmost(tree: Clade) -> Mapping[frozenset[str], int]:
    """Number of classes of the smallest clade that holds a pair of classes."""
    sizes: dict[frozenset[str], int] = {}
    for clade in tree.walk():
        for pair in combinations(clade.classes, 2):
            sizes[frozenset(pair)] = len(clade.classes)  # children come after their parents
    return sizes


def _closest(triplet: tuple[str, str, str], sizes: Mapping[frozenset[str], int]) -> frozenset[str] | None:
    """The two of three classes that are together without the third; None where there are none."""
    pairs = [frozenset(pair) for pair in combinations(triplet, 2)]
    by_size = sorted(pairs, key=lambda pair: sizes[pair])
    return by_size[0] if sizes[by_size[0]] < sizes[by_size[1]] else None
