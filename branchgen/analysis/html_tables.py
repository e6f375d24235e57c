"""Plain HTML: tables of figures, their style, and numbers as a reader wants them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from branchgen.analysis.targets import Statistic

STYLE = """
:root { color: #1c1c1c; background: #fff; font: 15px/1.5 "Source Sans 3", "Helvetica Neue", Arial, sans-serif; }
body { margin: 0; }
main { max-width: 82rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; font-weight: 600; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; font-weight: 600; margin: 3rem 0 0; padding-top: .6rem; border-top: 2px solid #1c1c1c; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.8rem 0 .3rem; }
p { max-width: 48rem; margin: .4rem 0 1rem; }
a { color: inherit; }
img { width: 100%; max-width: 60rem; display: block; margin: 1rem 0; }
sup { line-height: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; font-size: .9rem; margin: 1.2rem 0; }
dt { font-weight: 600; }
dd { margin: 0; color: #444; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums lining-nums; }
th, td { padding: .2rem .55rem; text-align: right; white-space: nowrap; vertical-align: baseline; }
th { font-weight: 600; border-bottom: 1px solid #1c1c1c; vertical-align: bottom; white-space: normal; max-width: 9rem; }
td { border-bottom: 1px solid #e4e4e4; }
th.label, td.label { text-align: left; }
td.wide { text-align: left; white-space: normal; min-width: 14rem; }
th.wide { text-align: left; }
td.floor, th.floor { background: #f4f4f1; }
td.own, th.own { background: #fdf3ec; }
.sd { color: #777; font-size: .85em; }
.mark { display: inline-block; width: 1.1em; margin-left: .2em; text-align: center; }
.met { color: #1d6b3a; }
.missed { color: #b3261e; }
.none { color: #aaa; }
footer { margin-top: 3rem; color: #777; font-size: .85rem; }
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  :root { font-size: 9px; }
  main { max-width: none; padding: 0; }
  section { break-before: page; }
  tr { break-inside: avoid; }
  h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  td, th { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""


@dataclass(frozen=True)
class Cell:
    """Content of a table's cell, already HTML, and its kind, a class of the style: label, wide, floor, own or none."""

    content: str
    kind: str = ""


def text(value: str) -> str:
    """Any text as HTML."""
    return html.escape(value)


def number(value: float, decimals: int) -> str:
    """A number with a true minus sign, never −0."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:,.{decimals}f}".replace(",", "\N{THIN SPACE}").replace("-", "\N{MINUS SIGN}")


def figures(value: Statistic | None, decimals: int, scale: float = 1.0) -> str:
    """Mean and, of several seeds, standard deviation; a dash where there is nothing."""
    if value is None or math.isnan(value.mean):
        return '<span class="none">–</span>'
    mean = number(value.mean * scale, decimals)
    if value.n < 2:
        return mean
    return f'{mean} <span class="sd">± {number(value.sd * scale, decimals)}</span>'


def plural(n: int, noun: str) -> str:
    """A number with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def mark(*, met: bool | None) -> str:
    """Whether a target is met; of its width where there is none, so that figures stay below each other."""
    if met is None:
        return '<span class="mark"></span>'
    kind, sign, meaning = ("met", "✓", "meets") if met else ("missed", "✗", "misses")
    return f'<span class="mark {kind}" title="{meaning} the target">{sign}</span>'


def table(header: Sequence[str], lines: Sequence[Sequence[Cell]]) -> str:
    """A table; the cells of the first line say of what kind each column is."""
    kinds = [cell.kind for cell in lines[0]] if lines else [""] * len(header)
    names = "".join(
        f'<th scope="col"{_class(kind)}>{text(name)}</th>' for name, kind in zip(header, kinds, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(f'<td{_class(cell.kind)}>{cell.content}</td>' for cell in line)}</tr>" for line in lines
    )
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></div>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
