"""Trees as text in the Newick format, with quoted names and branch lengths."""

from __future__ import annotations

import re
from collections.abc import Collection

from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import HORIZON, Clade, Hierarchy

_TOKEN = re.compile(r"\s*(?:(\[[^\]]*\])|('(?:[^']|'')*')|([(),:;])|([^\s(),:;'\[\]][^(),:;'\[\]]*))")


def to_newick(hierarchy: Hierarchy) -> str:
    """Newick text whose branch lengths are spans of diffusion time, the root's own among them."""

    def render(clade: Clade, t_end: float) -> str:
        below = ",".join(render(child, clade.time) for child in clade.children)
        name = "'" + clade.name.replace("'", "''") + "'"
        return f"{f'({below})' if below else ''}{name}:{t_end - clade.time:.6g}"

    return render(hierarchy.to_clade(), HORIZON) + ";\n"


def parse_newick(text: str, classes: Collection[str] | None = None) -> Clade:
    """Tree of a Newick text whose leaves are the given classes, or whatever they are; branch lengths are read over.

    Nodes with a single child are contracted. Raises BranchgenError for malformed text, for leaves that are not
    classes and for classes that are not leaves.
    """
    tokens = _tokens(text)
    position = 0

    def take(expected: str | None = None) -> str:
        nonlocal position
        token = tokens[position] if position < len(tokens) else "the end"
        if expected is not None and token != expected:
            raise BranchgenError(f"the Newick text is malformed: found {token!r} where {expected!r} should be")
        position += 1
        return token

    def peek() -> str:
        return tokens[position] if position < len(tokens) else "the end"

    def node() -> Clade:
        children: list[Clade] = []
        if peek() == "(":
            take("(")
            children.append(node())
            while peek() == ",":
                take(",")
                children.append(node())
            take(")")
        name = "" if peek() in {",", ")", ":", ";", "the end"} else _unquoted(take())
        if peek() == ":":
            take(":")
            take()
        if len(children) == 1:
            return children[0]
        below = tuple(name for child in children for name in child.classes)
        return Clade(classes=below or (name,), children=tuple(children), name=name)

    root = node()
    take(";")
    if position < len(tokens):
        raise BranchgenError(f"the Newick text is malformed: found {peek()!r} after its end; give one tree")
    leaves = list(root.classes)
    repeated = sorted({name for name in leaves if leaves.count(name) > 1})
    if repeated:
        raise BranchgenError(f"the Newick tree has more than one leaf called {', '.join(map(repr, repeated))}")
    if classes is None:
        return root
    unknown = sorted(set(leaves) - set(classes))
    missing = sorted(set(classes) - set(leaves))
    if unknown or missing:
        raise BranchgenError(
            "the Newick tree does not match the classes: "
            + "; ".join(
                part
                for names, part in (
                    (unknown, f"leaves that are no class: {', '.join(map(repr, unknown))}"),
                    (missing, f"classes that are no leaf: {', '.join(map(repr, missing))}"),
                )
                if names
            )
        )
    return root


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise BranchgenError(
                f"the Newick text is malformed at character {position + 1}: {text[position : position + 20]!r}"
            )
        comment, quoted, mark, plain = match.groups()
        if comment is None:
            tokens.append(quoted or mark or plain.strip())
        position = match.end()
    return tokens


def _unquoted(token: str) -> str:
    return token[1:-1].replace("''", "'") if token.startswith("'") else token
