"""The diagram of the package: which layer may import which, and what each may touch."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "branchgen"

# From the ground up; a module imports only from its own line or from lines above it.
LAYERS = (
    ("errors", "pinned", "seeds", "provenance"),
    ("section",),
    ("config", "benchmark_config"),
    ("cells", "hierarchy"),
    ("diffusion",),
    ("analysis",),
    ("hdf5", "files", "stores", "growing", "device", "distributed", "measured", "progress", "signals"),
    ("trained", "extension", "generation_cost"),
    ("commands", "api"),
    ("interface",),
    ("cli",),
    ("__main__",),
)
# Siblings of one layer that know nothing of each other.
STRANGERS = {("cells", "hierarchy"), ("hierarchy", "cells")}
# Tools beside the layers, used by the workflow and the tests; no module imports them.
BESIDE = {"fingerprint": set(), "schema": {"config", "section"}}
EDGE = (
    "hdf5",
    "files",
    "growing",
    "stores",
    "device",
    "distributed",
    "measured",
    "progress",
    "signals",
    "trained",
    "generation_cost",
    "commands",
    "api",
    "interface",
    "cli",
    "__main__",
)

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
ALLOWED = {
    "hierarchy": {"numpy", "scipy"},
    "diffusion": {"numpy", "torch"},
    "config": set(),
    "benchmark_config": set(),
    "section": set(),
    "errors": set(),
    "pinned": {"torch"},
    "seeds": {"numpy", "torch"},
    "provenance": set(),
}


def part(path: Path) -> str:
    """Layer of a module: the name of its folder, or its own."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of every import, wherever it stands; the name is empty for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)


def own_imports(tree: ast.AST) -> Iterator[str]:
    """Names of the modules of the package that a module imports, without `branchgen.`."""
    for module, name in imported(tree):
        if module == "branchgen":
            if name and name != "__version__":
                yield name
        elif module.startswith("branchgen."):
            as_module = PACKAGE.joinpath(*module.split(".")[1:], name).with_suffix(".py")
            yield (
                f"{module}.{name}".removeprefix("branchgen.")
                if as_module.is_file()
                else module.removeprefix("branchgen.")
            )


def each_module(*, of: set[str] | None = None) -> pytest.MarkDecorator:
    """Runs a test on every module, or on those of some layers."""
    chosen = {path: tree for path, tree in MODULES.items() if of is None or part(path) in of}
    return pytest.mark.parametrize(
        ("path", "tree"), chosen.items(), ids=[str(path.relative_to(PACKAGE)) for path in chosen]
    )


@each_module()
def test_every_module_has_a_layer(path: Path, tree: ast.Module) -> None:
    assert part(path) in {*LEVEL, *BESIDE, "__init__"}


@each_module()
def test_imports_go_down(path: Path, tree: ast.Module) -> None:
    here = part(path)
    for name in own_imports(tree):
        there = name.split(".")[0]
        if here in BESIDE:
            assert there in BESIDE[here]
            continue
        assert there in LEVEL, f"{here} imports {name}, which is no layer"
        assert LEVEL[there] <= LEVEL[here], f"{here} imports {name} from above"
        assert (here, there) not in STRANGERS, f"{here} imports its stranger {name}"
        if here == "commands":
            assert there != "commands", "a command knows no other command"


def test_no_import_cycle() -> None:
    graph = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): set(own_imports(tree))
        for path, tree in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@each_module(of=set(ALLOWED))
def test_libraries_of_a_layer(path: Path, tree: ast.Module) -> None:
    libraries = {module.split(".")[0] for module, _ in imported(tree)} - set(sys.stdlib_module_names) - {"branchgen"}
    assert libraries <= ALLOWED[part(path)]


@each_module(of=set(LEVEL) - set(EDGE))
def test_only_the_edge_opens_files_prints_or_picks_a_device(path: Path, tree: ast.Module) -> None:
    libraries = {module.split(".")[0] for module, _ in imported(tree)}
    assert not libraries & {"os", "pathlib", "shutil", "tempfile", "subprocess", "urllib", "socket"}
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }
    opening = {"open", "read_text", "write_text", "read_h5ad", "write_h5ad", "read_parquet", "to_parquet", "read_csv"}
    assert not called & (opening | {"to_csv", "print", "is_available"})
    assert not {"torch.load", "torch.save", "np.load", "np.save"} & {
        ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
    }


def test_package_files_hold_a_docstring_only() -> None:
    packages = [path for path in MODULES if path.name == "__init__.py"]
    assert len(packages) >= 6
    for path in packages:
        docstring, *rest = MODULES[path].body
        assert isinstance(docstring, ast.Expr), f"{path} has no docstring"
        if path.parent == PACKAGE:
            assert [ast.unparse(statement).split(" = ")[0] for statement in rest] == ["__version__"]
        else:
            assert not rest, f"{path} holds more than a docstring"


def test_diffusion_imports_where_there_is_only_torch_and_numpy() -> None:
    modules = [".".join(("branchgen", *path.relative_to(PACKAGE).with_suffix("").parts))
               for path in MODULES if part(path) == "diffusion" and path.name != "__init__.py"]  # fmt: skip
    assert modules
    absent = ["anndata", "h5py", "matplotlib", "pandas", "pyarrow", "scanpy", "scipy", "sklearn", "snakemake", "umap"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); import importlib; "
        f"[importlib.import_module(name) for name in {modules}]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("command", ["derive", "plot", "plot_branch_points", "prepare"])
def test_what_runs_no_network_does_not_wait_for_torch(command: str) -> None:
    code = f"import sys, branchgen.commands.{command}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_help_is_quick_because_it_imports_no_heavy_library() -> None:
    code = (
        "import sys\nfrom branchgen.cli import build_parser\nbuild_parser().format_help()\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    heavy = {
        "anndata",
        "h5py",
        "matplotlib",
        "numpy",
        "pandas",
        "pyarrow",
        "scanpy",
        "scipy",
        "sklearn",
        "torch",
        "umap",
    }
    assert not heavy & set(run.stdout.split())

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "branchgen", "--help"], check=True, capture_output=True, timeout=60)
        return time.perf_counter() - start

    # The best of three: other programs on the machine must not decide.
    assert min(seconds() for _ in range(3)) < 0.5
