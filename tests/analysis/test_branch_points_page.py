"""The pages of the branch points: one of each, with its place, its populations and the genes of its children."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import pandas as pd
from drawing import (
    invented_branch_genes,
    invented_branch_points,
    invented_hierarchy,
    invented_populations,
    invented_separability,
)

from branchgen.analysis.branch_points_page import branch_points_page
from branchgen.analysis.figures_branch_points import higher_genes
from branchgen.analysis.html_tables import text
from branchgen.hierarchy.tree import Branch, Hierarchy

HIERARCHY, SUPPORT = invented_hierarchy(7)
GENES = invented_branch_genes(HIERARCHY)


def page(hierarchy: Hierarchy = HIERARCHY, genes: pd.DataFrame = GENES) -> str:
    points = invented_branch_points(hierarchy, SUPPORT)
    return branch_points_page(
        hierarchy, points, genes, invented_separability(hierarchy), invented_populations(hierarchy)
    )


def sections(html: str) -> list[str]:
    return re.findall(r"<section .*?</section>", html, flags=re.DOTALL)


def of(name: str, html: str) -> str:
    """Section of a branch."""
    return sections(html)[[HIERARCHY.branches[p].name for p in HIERARCHY.branch_points].index(name)]


def test_every_branch_point_has_a_section_that_the_contents_lead_to() -> None:
    html = page()
    anchors = re.findall(r'<section id="([^"]+)"', html)
    assert len(anchors) == len(HIERARCHY.branch_points)
    assert re.findall(r'<a href="#([^"]+)"', html) == anchors
    # One type is called <unassigned>.
    assert "<unassigned>" not in html
    assert "&lt;unassigned&gt;" in html


def test_a_section_has_every_child_with_its_genes_and_their_expression() -> None:
    html = page()
    for position in HIERARCHY.branch_points:
        branch = HIERARCHY.branches[position]
        section = of(branch.name, html)
        for child in (HIERARCHY.branches[child] for child in HIERARCHY.children[position]):
            heading = f"<h3>{text(child.name)}"
            assert heading in section
            table = section[section.index(heading) :].split("</table>")[0]
            own = GENES[(GENES["branch"] == branch.name) & (GENES["child"] == child.name)]
            shown = re.findall(r"<tr><td[^>]*>(GENE\d+)</td>(.*?)</tr>", table)
            assert [gene for gene, _ in shown] == higher_genes(own, child.name, 10)
            assert shown
            for gene, cells in shown:
                row = own.set_index("gene").loc[gene]
                values = re.findall(r"<td>([^<]*)</td>", cells)
                assert values[-3:] == [
                    f"{row[name]:.2f}" for name in ("expression", "hybrid", "difference_at_branch_point")
                ]


def test_what_the_children_have_in_common_are_the_genes_of_their_branch_above() -> None:
    html = page()
    assert "In common" not in of("root", html)
    for position in HIERARCHY.branch_points[1:]:
        name, above = HIERARCHY.branches[position].name, HIERARCHY.branches[HIERARCHY.parents[position]].name
        common = higher_genes(GENES[GENES["branch"] == above], name, 20)
        assert f"<strong>{', '.join(common)}</strong>" in of(name, html)


def test_time_has_its_interval_and_support_where_cells_were_resampled() -> None:
    html = page()
    first, last = (HIERARCHY.branches[position] for position in (HIERARCHY.branch_points[i] for i in (0, -1)))
    own = SUPPORT[first.name]
    facts = f"Time {first.t_start:.3f} ({own.time_low:.3f} to {own.time_high:.3f} over resampled cells)"
    assert facts in of(first.name, html)
    assert f"{100 * own.support:.0f} % of the resamples" in of(first.name, html)
    assert f"Time {last.t_start:.3f}, noise level" in of(last.name, html)


def test_the_figure_is_an_image_in_the_page_itself() -> None:
    for section in sections(page()):
        (image,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', section)
        assert ElementTree.fromstring(base64.b64decode(image)).tag.endswith("svg")


def test_the_same_tables_give_the_same_page() -> None:
    assert page() == page()


def test_children_that_no_gene_tells_apart() -> None:
    html = page(genes=GENES.assign(q_value=1.0))
    assert html.count("No gene is higher than in its siblings.") == sum(map(len, HIERARCHY.children))
    assert "No gene sets these types together apart" in html


def test_a_q_value_below_all_doubles_has_a_bound() -> None:
    html = page(genes=GENES.assign(q_value=0.0))
    assert "&lt; 10<sup>\N{MINUS SIGN}300</sup>" in html
    assert "3 · 10<sup>\N{MINUS SIGN}7</sup>" in page(genes=GENES.assign(q_value=3e-7))


def test_a_single_class_has_no_branch_points() -> None:
    alone = Hierarchy((Branch(name="a", classes=("a",), t_start=0.0, t_end=1.0),))
    html = branch_points_page(alone, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), invented_populations(alone))
    assert "A single class has no branch points." in html
    assert sections(html) == []
