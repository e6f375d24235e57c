"""pyproject.toml, environment.yml and constraints.txt name the same packages with the same bounds."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import branchgen

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# conda-forge and bioconda name these otherwise.
CONDA_NAMES = {
    "igraph": "python-igraph",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}


def requirements(*lists: list[str]) -> dict[str, SpecifierSet]:
    """Bounds by name."""
    parsed = [Requirement(text) for texts in lists for text in texts]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in parsed}


DEPENDENCIES = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(texts) for name, texts in PROJECT["optional-dependencies"].items()}
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_conda_environment_has_the_dependencies_with_their_bounds() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    named = requirements(environment["dependencies"])
    assert named.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert named.pop("pip") == SpecifierSet()
    assert named == {CONDA_NAMES.get(name, name): bounds for name, bounds in DEPENDENCIES.items()}


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    for bounds in (DEPENDENCIES, *EXTRAS.values()):
        for name, specifier in bounds.items():
            assert {clause.operator for clause in specifier} == {">=", "<"}, name


def test_constraints_are_versions_within_the_bounds_of_what_is_installed_by_make() -> None:
    bounds = {**DEPENDENCIES, **EXTRAS["test"], **EXTRAS["slurm"]}
    here = [constraint for constraint in CONSTRAINTS if constraint.marker is None or constraint.marker.evaluate()]
    assert sorted(canonicalize_name(constraint.name) for constraint in here) == sorted(bounds)
    for constraint in CONSTRAINTS:
        (clause,) = constraint.specifier
        assert clause.operator == "=="
        assert bounds[canonicalize_name(constraint.name)].contains(clause.version), constraint


def test_extras() -> None:
    assert set(EXTRAS) == {"test", "scvi", "slurm"}


def test_version_is_that_of_the_package() -> None:
    assert metadata.version("branchgen") == branchgen.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", branchgen.__version__)


def test_console_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="branchgen")
    assert command.value == "branchgen.__main__:run"
    assert callable(command.load())
    assert (Path(sys.executable).parent / "branchgen").exists()


def test_every_folder_of_the_package_is_packaged() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = (path.parent.relative_to(ROOT) for path in (ROOT / "branchgen").rglob("__init__.py"))
    assert sorted(packages) == sorted(".".join(folder.parts) for folder in folders)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "config/README.md", ".snakemake-workflow-catalog.yml"])
def test_files_that_the_workflow_catalogue_reads(name: str) -> None:
    text = (ROOT / name).read_text().lower()
    assert text
    if name == "README.md":
        assert "snakemake" in text
        assert "workflow" in text
