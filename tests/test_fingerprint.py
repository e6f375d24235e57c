"""A command's fingerprint changes with the code it runs, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from branchgen.fingerprint import fingerprint

SOURCES = {
    "__init__.py": '__version__ = "1"\n',
    "config.py": "class TrainSettings: ...\n",
    "deep.py": 'def square(x):\n    """Square."""\n    return x * x\n',
    "middle.py": "def use(x):\n    from branchgen.deep import square\n\n    return square(x)\n",
    "types.py": "class Shape: ...\n",
    "commands/__init__.py": '"""Commands."""\n',
    "commands/train.py": (
        "from typing import TYPE_CHECKING\n\nfrom branchgen import __version__, middle\n"
        "from branchgen.config import TrainSettings\n\nif TYPE_CHECKING:\n    from branchgen.types import Shape\n\n"
        "def run():\n    return middle.use(2)\n"
    ),
    "commands/plot.py": "import branchgen.types\n\ndef run():\n    return 0\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_code_deep_in_the_imports_counts(package: Path) -> None:
    train, plot = fingerprint("train", package), fingerprint("plot", package)
    edit(package / "deep.py", "x * x", "x ** 2")
    assert fingerprint("train", package) != train
    assert fingerprint("plot", package) == plot


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        pytest.param("deep.py", '"""Square."""', '"""The square of a number."""', id="docstring"),
        pytest.param("deep.py", "return x * x", "return (x  *  x)  # why", id="comment and format"),
        pytest.param("__init__.py", '"1"', '"2"', id="version"),
        pytest.param("config.py", "...", "pass", id="settings, which are passed by value"),
        pytest.param("types.py", "...", "pass", id="imported for type checking only"),
    ],
)
def test_what_changes_no_result_does_not_count(package: Path, module: str, old: str, new: str) -> None:
    before = fingerprint("train", package)
    edit(package / module, old, new)
    assert fingerprint("train", package) == before


def test_a_command_that_does_not_exist_has_no_fingerprint(package: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no command 'trian'"):
        fingerprint("trian", package)


def test_commands_of_the_package_have_different_fingerprints() -> None:
    assert fingerprint("prepare") != fingerprint("fetch")
    assert fingerprint("prepare") == fingerprint("prepare")
