"""The benchmark of trees: simulated ones, and a derived hierarchy beside the tree that is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from branchgen.cli import main

QUICK = ["--n-trees=2", "--n-cells=800", "--n-genes=200", "--n-bootstrap=4"]


def test_a_row_for_every_tree(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "known.nwk").write_text("((A0,A1),(B2,B3));")
    known = f"{tiny_run / 'hierarchy.json'}={tmp_path / 'known.nwk'}"
    table = tmp_path / "trees.parquet"
    assert main(["benchmark-trees", f"--output-table={table}", *QUICK, "--known", known]) == 0
    found = pd.read_parquet(table)
    assert list(found["kind"]) == ["known", "simulated", "simulated"]
    assert found["triplets"].between(0.8, 1).all()
    assert found["support"].between(0, 1).all()
    assert (found["exact"] == (found["robinson_foulds"] == 0)).all()
    assert found["times"][1:].min() > 0.8
    assert "2 trees, simulated" in capsys.readouterr().out


def test_a_known_tree_of_some_classes(tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "known.nwk").write_text("((A0,A1),(B2,elsewhere));")
    known = f"{tiny_run / 'hierarchy.json'}={tmp_path / 'known.nwk'}"
    table = tmp_path / "trees.parquet"
    assert main(["benchmark-trees", f"--output-table={table}", *QUICK, "--n-trees=1", "--known", known]) == 0
    row = pd.read_parquet(table).iloc[0]
    assert (row["n_classes"], row["exact"], row["triplets"]) == (3, True, 1.0)
    assert f"not in {tiny_run / 'hierarchy.json'}, and left out: elsewhere" in caplog.text
    assert "known.nwk, and left out: B3" in caplog.text


def test_a_known_tree_of_other_classes_is_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "known.nwk").write_text("((A0,A1),(X,Y));")
    known = f"{tiny_run / 'hierarchy.json'}={tmp_path / 'known.nwk'}"
    assert main(["benchmark-trees", f"--output-table={tmp_path / 'trees.parquet'}", *QUICK, "--known", known]) == 2
    assert "known.nwk has 2 of the classes of" in capsys.readouterr().err
    assert not (tmp_path / "trees.parquet").exists()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ("hierarchy.json", "--known is 'hierarchy.json'; it must be HIERARCHY=NEWICK, two files"),
        ("{run}/hierarchy.json={tmp}/no.nwk", "no.nwk does not exist; check the path"),
        ("{tmp}/no.json={tmp}/no.nwk", "no.json does not exist; check the path"),
    ],
)
def test_mistakes(known: str, message: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = known.format(run=tiny_run, tmp=tmp_path)
    line = [f"--output-table={tmp_path / 'trees.parquet'}", *QUICK, "--known", known]
    assert main(["benchmark-trees", *line]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
