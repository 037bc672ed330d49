"""The notebooks of the project do what they describe, also when they are run again."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.commands import Cli, texts

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


def test_the_tour_remembers_its_last_visit_and_leaves_no_volume_but_its_own(
    cli: Cli, tmp_path: Path
) -> None:
    tour = Path(shutil.copy(NOTEBOOKS / "tour.ipynb", tmp_path))

    called = [cli("run", tour, "--output-dir", tmp_path / visit) for visit in ("1", "2")]
    first, second = (texts(tmp_path / visit / "tour.ipynb") for visit in ("1", "2"))

    assert [c.code for c in called] == [0, 0], called[0].err + called[1].err
    assert first[1].startswith("This is visit 1.")
    assert second[1].startswith("This is visit 2.")
    assert "not yet installed" in first[2]
    assert "here from an earlier visit" in second[2]
    assert "The guest counted 1, then 2 visits." in first[7]
    assert "The guest counted 1, then 2 visits." in second[7]
    assert [volume["session"] for volume in cli("list", "--json").json] == [str(tour)]


def test_the_batch_example_shares_files_through_a_session(cli: Cli, tmp_path: Path) -> None:
    batch = Path(shutil.copytree(NOTEBOOKS / "batch", tmp_path / "batch"))

    called = cli("run", *sorted(batch.glob("*.ipynb")), "--output-dir", tmp_path / "results")

    assert called.code == 0, called.err
    assert texts(tmp_path / "results" / "2-report.ipynb")[0] == "24"
    assert [v["session"] for v in cli("list", "--json").json] == ["batch-example"]
