"""The figures: every name is there and readable, nothing overlaps, and equal tables give equal bytes."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawing import (
    SCHEDULE,
    invented_branch_genes,
    invented_correlations,
    invented_embedding,
    invented_fold_changes,
    invented_genes,
    invented_hierarchy,
    invented_metrics,
    invented_populations,
    invented_separability,
    invented_sharing,
    invented_training,
    invented_verdicts,
    names_of,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from branchgen.analysis.expression import mean_profiles
from branchgen.analysis.figures import class_colours, render
from branchgen.analysis.figures_branch_points import branch_points_figure
from branchgen.analysis.figures_correlations import correlations_figure
from branchgen.analysis.figures_genes import fold_changes_figure, gene_moments_figure
from branchgen.analysis.figures_hybrids import hybrids_figure
from branchgen.analysis.figures_metrics import metrics_figure
from branchgen.analysis.figures_sharing import sharing_figure
from branchgen.analysis.figures_training import training_figure
from branchgen.analysis.figures_tree import leaf_order, tree_figure
from branchgen.analysis.figures_umap import umap_figure, umap_types_figure
from branchgen.analysis.figures_verdicts import verdicts_figure
from branchgen.analysis.metrics import METRICS, SCALES
from branchgen.hierarchy.tree import Branch, Hierarchy


def tree(n_types: int) -> Figure:
    hierarchy, support = invented_hierarchy(n_types)
    return tree_figure(hierarchy, SCHEDULE, support, class_colours(leaf_order(hierarchy)))


def umap(n_types: int) -> Figure:
    return umap_figure(invented_embedding(n_types), class_colours(names_of(n_types)))


def umap_types(n_types: int) -> Figure:
    return umap_types_figure(invented_embedding(n_types), class_colours(names_of(n_types)))


def metrics(n_types: int) -> Figure:
    return metrics_figure(invented_metrics(n_types), names_of(n_types))


def training(n_types: int) -> Figure:
    hierarchy, _ = invented_hierarchy(n_types)
    return training_figure(invented_training(hierarchy), hierarchy)


def many_sources(n_types: int) -> Figure:
    return metrics_figure(invented_metrics(n_types, baselines=("flat", "gauss", "scvi", "mine")), names_of(n_types))


def verdicts(n_types: int) -> Figure:
    return verdicts_figure(invented_verdicts(n_types), names_of(n_types))


def gene_moments(n_types: int) -> Figure:
    return gene_moments_figure(invented_genes())


def fold_changes(n_types: int) -> Figure:
    hierarchy, _ = invented_hierarchy(n_types)
    return fold_changes_figure(invented_fold_changes(hierarchy), hierarchy)


def branch_points(n_types: int) -> Figure:
    hierarchy, _ = invented_hierarchy(n_types)
    return branch_points_figure(invented_separability(hierarchy), invented_branch_genes(hierarchy), hierarchy)


def hybrids(n_types: int) -> Figure:
    """The deepest branch point of a tree: the most leaves the way before it."""
    hierarchy, _ = invented_hierarchy(n_types)
    position = max(hierarchy.branch_points, key=lambda p: len(hierarchy.path(hierarchy.branches[p].classes[0])))
    return hybrids_of(hierarchy, position)


def many_children(n_types: int) -> Figure:
    names = [f"{name} ".ljust(40, "x") for name in names_of(n_types)]
    leaves = [Branch(name=name, classes=(name,), t_start=0.0, t_end=0.3) for name in names]
    return hybrids_of(Hierarchy((Branch(name="root", classes=tuple(names), t_start=0.3, t_end=1.0), *leaves)), 0)


def hybrids_of(hierarchy: Hierarchy, position: int) -> Figure:
    name = hierarchy.branches[position].name
    separability, genes = invented_separability(hierarchy), invented_branch_genes(hierarchy)
    cells = invented_populations(hierarchy)
    return hybrids_figure(
        hierarchy,
        position,
        separability[separability["branch"] == name],
        genes[genes["branch"] == name],
        mean_profiles(cells[(cells.obs["branch"] == name).to_numpy()]),
    )


def gene_correlations(n_types: int) -> Figure:
    return correlations_figure(invented_correlations(n_types))


def sharing(n_models: int) -> Figure:
    return sharing_figure(invented_sharing(n_models))


OF_ALL_CLASSES = {
    "tree": tree,
    "umap": umap,
    "umap_types": umap_types,
    "metrics": metrics,
    "many_sources": many_sources,
    "verdicts": verdicts,
    "training": training,
}
FIGURES = OF_ALL_CLASSES | {
    "gene_moments": gene_moments,
    "fold_changes": fold_changes,
    "correlations": gene_correlations,
    "branch_points": branch_points,
    "sharing": sharing,
    "hybrids": hybrids,
    "many_children": many_children,
}
every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
Draw = Callable[[int], Figure]


def texts(svg: bytes) -> str:
    """All text of an SVG, as it reads, without white space."""
    content = re.sub(r"<[^>]*>", "", svg.decode())
    return re.sub(r"\s", "", html.unescape(content))


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Extents of the texts of a figure that are drawn, in pixels; ticks outside of their axes are not."""
    drawn: list[Text] = []
    draw_text = Text.draw

    def record(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw_text(text, renderer)

    canvas = FigureCanvasAgg(figure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        canvas.draw()
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in dict.fromkeys(drawn)]


def overlapping(found: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    """Pairs of texts that share more than a pixel in both directions."""
    return [
        (a, b)
        for (a, one), (b, two) in itertools.combinations(found, 2)
        if min(one.x1, two.x1) - max(one.x0, two.x0) > 1 and min(one.y1, two.y1) - max(one.y0, two.y0) > 1
    ]


@pytest.mark.parametrize("draw", OF_ALL_CLASSES.values(), ids=OF_ALL_CLASSES)
@pytest.mark.parametrize("n_types", [2, 9])
def test_every_class_is_named_in_a_well_formed_svg(draw: Draw, n_types: int) -> None:
    svg = render(draw(n_types), "svg")
    ElementTree.fromstring(svg)
    shown = texts(svg)
    for name in names_of(n_types):
        assert name.replace(" ", "") in shown
    assert b"<dc:date>" not in svg


@every_figure
@pytest.mark.parametrize("n_types", [8, 20])
def test_no_text_overlaps_another_or_leaves_the_figure(draw: Draw, n_types: int) -> None:
    figure = draw(n_types)
    # Numbers on the points of a UMAP stand where the cells are.
    found = [(text, box) for text, box in boxes(figure) if draw is not umap or not text.isdigit()]
    assert len(found) >= (n_types if draw in OF_ALL_CLASSES.values() else 8)
    assert overlapping(found) == []
    page = figure.bbox
    for text, box in found:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, text


@every_figure
def test_equal_tables_give_equal_bytes_whatever_the_users_style(draw: Draw) -> None:
    format_ = "png" if draw is umap else "svg"
    once = render(draw(3), format_)
    with mpl.rc_context({"font.size": 20, "figure.dpi": 50, "svg.fonttype": "path", "axes.grid": True}):
        again = render(draw(3), format_)
    assert once == again


@pytest.mark.parametrize("draw", [*OF_ALL_CLASSES.values(), fold_changes])
def test_figures_grow_with_the_number_of_types(draw: Draw) -> None:
    assert draw(12).get_figheight() > draw(4).get_figheight()


def test_genes_of_a_child_are_those_it_has_more_of_and_is_sure_of() -> None:
    hierarchy, _ = invented_hierarchy(4)
    genes = invented_branch_genes(hierarchy)
    position = hierarchy.branch_points[-1]
    branch, child = hierarchy.branches[position], hierarchy.branches[hierarchy.children[position][0]]
    rows = genes[(genes["branch"] == branch.name) & (genes["child"] == child.name)]
    sure = rows[(rows["q_value"] <= 0.05) & (rows["log2_fold_change"] > 0)]
    expected = ", ".join(sure.sort_values("statistic", ascending=False)["gene"].head(6))
    figure = branch_points_figure(invented_separability(hierarchy), genes, hierarchy)
    shown = " ".join(text.get_text().replace("\n", " ") for axes in figure.axes for text in axes.texts)
    assert f"{child.name}: {expected}" in re.sub(r"\s+", " ", shown)
    (line,) = [line for line in figure.axes[-2].get_lines() if list(line.get_ydata()) == [0, 1]]
    assert line.get_xdata()[0] == branch.t_start
    assert "too few cells" in shown


def test_a_single_class_has_no_branch_points_to_draw() -> None:
    alone = Hierarchy((Branch(name="a", classes=("a",), t_start=0.0, t_end=1.0),))
    figure = branch_points_figure(pd.DataFrame(), pd.DataFrame(), alone)
    assert "no branch points" in figure.axes[0].texts[0].get_text()


def test_branches_and_intervals_stand_at_their_times() -> None:
    hierarchy, support = invented_hierarchy(8)
    axes = tree_figure(hierarchy, SCHEDULE, support, class_colours(leaf_order(hierarchy))).axes[0]
    lines = {tuple(np.round(np.sort(line.get_xdata()), 9)) for line in axes.get_lines()}
    for branch in hierarchy.branches:
        assert (round(branch.t_start, 9), round(branch.t_end, 9)) in lines
    for of_branch in support.values():
        assert (round(of_branch.time_low, 9), round(of_branch.time_high, 9)) in lines
    left, right = axes.get_xlim()
    assert (left, right) == (1.0, 0.0)  # noise on the left, data on the right


def test_the_upper_axis_has_the_noise_levels_of_the_schedule() -> None:
    figure = tree(4)
    FigureCanvasAgg(figure).draw()
    (upper,) = figure.axes[0].child_axes
    for time, label in zip(upper.get_xticks(), upper.get_xticklabels(), strict=True):
        assert SCHEDULE.levels(np.array([time]))[0, 0] == pytest.approx(float(label.get_text()), rel=1e-3)
    assert len(upper.get_xticks()) >= 5


def test_leaves_of_a_branch_stand_together() -> None:
    hierarchy, _ = invented_hierarchy(20)
    order = leaf_order(hierarchy)
    assert sorted(order) == sorted(hierarchy.classes)
    for branch in hierarchy.branches:
        rows = sorted(order.index(name) for name in branch.classes)
        assert rows == list(range(rows[0], rows[0] + len(rows)))


def test_a_tree_with_a_stage_boundary_and_without_support_is_drawn() -> None:
    hierarchy = Hierarchy(
        (
            Branch(name="root", classes=("a", "b"), t_start=0.7, t_end=1.0),
            Branch(name="stage", classes=("a", "b"), t_start=0.4, t_end=0.7),
            Branch(name="a", classes=("a",), t_start=0.0, t_end=0.4),
            Branch(name="b", classes=("b",), t_start=0.0, t_end=0.4),
        )
    )
    figure = tree_figure(hierarchy, SCHEDULE, {}, class_colours(("a", "b")))
    ticks = [line for line in figure.axes[0].get_lines() if line.get_marker() == "|"]
    assert [line.get_xdata()[0] for line in ticks] == [0.7]


@pytest.mark.parametrize("n_types", [2, 8, 15, 30, 60])
def test_colours_of_classes_differ(n_types: int) -> None:
    colours = np.array(list(class_colours(names_of(n_types)).values()))
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)[np.triu_indices(n_types, k=1)]
    assert distances.min() > 0.05


def test_metrics_show_every_value_and_the_floor_as_a_line() -> None:
    table = invented_metrics(8)
    figure = metrics_figure(table, names_of(8))
    panels = {axes.get_title(loc="left"): axes for axes in figure.findobj(mpl.axes.Axes)}
    pooled = table[table["kind"] == "all"].set_index(["metric", "source"])["value"]
    for metric, name in METRICS.items():
        label = f"{name} · 10³" if metric in SCALES else name
        scale = SCALES.get(metric, 1)
        positions = [line.get_xdata()[0] for line in panels[label].get_lines() if line.get_marker() == "o"]
        expected = [scale * pooled[metric, source] for source in ("branchgen", "nb", "train", "limit")]
        assert positions == pytest.approx(expected)
        upright = [
            line
            for line in panels[label].get_lines()
            if list(line.get_xdata()) == [scale * pooled[metric, "floor"]] * 2
        ]
        assert len(upright) == 1


def test_metrics_without_types_of_their_own_are_drawn() -> None:
    table = invented_metrics(3)
    figure = metrics_figure(table[table["group"] == "all"], names_of(3))
    assert len(figure.findobj(mpl.axes.Axes)) == len(METRICS)


def test_the_number_of_a_type_of_two_parts_stands_on_one_of_its_cells() -> None:
    """The median of as many cells here as there is where there are none."""
    positions = np.array([[-5.0, 0.0], [5.0, 0.0], [0.0, 3.0], [0.0, 4.0]])
    one = pd.DataFrame(positions, columns=["umap_1", "umap_2"]).assign(cell_type=["a", "a", "b", "b"])
    figure = umap_figure(pd.concat([one.assign(source=name) for name in ("real", "generated")]), class_colours("ab"))
    for axes in figure.axes[1:]:
        found = {text.get_text(): text.get_position() for text in axes.texts}
        assert set(found) == {"1", "2"}
        assert list(found["1"]) in positions[:2].tolist()
        assert list(found["2"]) in positions[2:].tolist()
