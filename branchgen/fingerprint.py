"""Hash of the code that a command runs, so that the workflow repeats exactly the steps whose code has changed."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

EXCLUDED = frozenset({"branchgen", "branchgen.config", "branchgen.benchmark_config"})
"""Modules that are not part of a fingerprint.

`branchgen` holds the version alone: a release repeats a step only where its code changed. The other two describe the
settings of every command, and the workflow passes each one by value: a new default elsewhere changes no result.
"""


def fingerprint(command: str, package: Path = Path(__file__).parent) -> str:
    """SHA-256 (hex, 16 digits) of the modules that `branchgen <command>` imports, at any depth, from the package.

    Formatting, comments and docstrings do not count. Imports inside functions do; those for type checking do not.
    """
    start = f"branchgen.commands.{command}"
    if _source(start, package) is None:
        raise FileNotFoundError(f"branchgen has no command {command!r}")
    digest = hashlib.sha256()
    for module, code in sorted(closure(start, package).items()):
        digest.update(f"{module}\n{code}\n".encode())
    return digest.hexdigest()[:16]


def closure(module: str, package: Path) -> dict[str, str]:
    """What runs of a module and of all it imports from the package that stands at `package`, by module."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name, package)
        if name in found or name in EXCLUDED or path is None:
            continue
        found[name], imported = _parsed(path.read_text(encoding="utf-8"))
        waiting.extend(imported)
    return found


@cache
def _parsed(text: str) -> tuple[str, tuple[str, ...]]:
    """Syntax tree of a module, without docstrings and as text, and the names that it imports."""
    # Once for each module: the commands share most of theirs, and every start of Snakemake asks for all of them.
    tree = _OnlyWhatRuns().visit(ast.parse(text))
    return ast.dump(tree), tuple(imports(tree))


def imports(tree: ast.AST) -> Iterator[str]:
    """Names that a syntax tree imports; what `from a import b` gives is both `a` and `a.b`, as b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source(module: str, package: Path) -> Path | None:
    """File of a module of the package; None for anything else."""
    top, *parts = module.split(".")
    if top != "branchgen":
        return None
    path = package.joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


class _OnlyWhatRuns(ast.NodeTransformer):
    """Drops texts that stand as statements (docstrings) and the bodies of `if TYPE_CHECKING`."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return node
