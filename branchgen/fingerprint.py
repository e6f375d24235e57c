"""Hash of the code that a command runs, so that the workflow repeats exactly the steps whose code has changed."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
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
    for module, tree in sorted(closure(start, package).items()):
        digest.update(f"{module}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()[:16]


def closure(module: str, package: Path) -> dict[str, ast.Module]:
    """Syntax trees, without docstrings, of a module and of all it imports from the package that stands at `package`."""
    trees: dict[str, ast.Module] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name, package)
        if name in trees or name in EXCLUDED or path is None:
            continue
        trees[name] = _OnlyWhatRuns().visit(ast.parse(path.read_text(encoding="utf-8")))
        waiting.extend(imports(trees[name]))
    return trees


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
