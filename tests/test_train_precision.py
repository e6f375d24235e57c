"""`branchgen train` computes in the way that its settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from run_commands import run_command

from branchgen.cli import build_parser


def losses(inputs: Path, folder: Path, **changes: Any) -> list[float]:
    """Held-out losses in training; the weights may be the first ones, if no others are better."""
    assert run_command("train", inputs, folder, learning_rate=0.01, **changes) == 0
    return list(pd.read_parquet(folder / "training.parquet")["loss"])


def test_bfloat16_is_another_training(tiny_run: Path, tmp_path: Path) -> None:
    plain = losses(tiny_run, tmp_path / "plain")
    assert losses(tiny_run, tmp_path / "float32", precision="float32") == plain
    rounded = losses(tiny_run, tmp_path / "bfloat16", precision="bfloat16")
    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize(("text", "wanted"), [("true", 1), ("True", 1), ("false", 0)])
def test_the_network_is_compiled_where_it_is_asked_for(
    text: str, wanted: int, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []

    def compile_(module: torch.nn.Module, **_: Any) -> torch.nn.Module:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    losses(tiny_run, tmp_path, compile=text)
    assert len(compiled) == wanted


def test_what_is_neither_true_nor_false_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", "--compile", "yes"])
    assert "argument --compile: invalid bool value: 'yes'; it must be true or false" in capsys.readouterr().err
