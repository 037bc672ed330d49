from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nbformat import from_dict

from provisioner.cli.batch.plan import kernel_for, plan_runs
from provisioner.cli.commands.run import run_session
from provisioner.core.errors import BadSession, ConfigError
from tests.support.commands import write_kernelspec

pytestmark = pytest.mark.usefixtures("cli")


def _outputs(*notebooks: str, directory: str | None = None, inplace: bool = False) -> list[str]:
    runs = plan_runs(notebooks, kernel=None, output_directory=directory, inplace=inplace)
    return [str(run.output) for run in runs]


def _notebook(**metadata: Any) -> Any:
    content = {"metadata": metadata, "cells": [], "nbformat": 4, "nbformat_minor": 5}
    return from_dict(content)  # type: ignore[no-untyped-call]  # nbformat's functions have no types


def test_an_output_is_written_beside_its_notebook_into_a_directory_or_over_it(
    tmp_path: Path,
) -> None:
    results = str(tmp_path / "results")

    assert _outputs("x/a.ipynb", "b") == ["x/a.executed.ipynb", "b.executed.ipynb"]
    assert _outputs("x/a.ipynb", directory=results) == [f"{results}/a.ipynb"]
    assert _outputs("/x/a.ipynb", inplace=True) == ["/x/a.ipynb"]


def test_inplace_writes_the_file_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "real.ipynb")

    assert _outputs(str(tmp_path / "link.ipynb"), inplace=True) == [str(tmp_path / "real.ipynb")]


@pytest.mark.parametrize(
    ("notebooks", "options", "said"),
    [
        (["x/a.ipynb", "y/a.ipynb"], {"directory": "DIR"}, "would both be written to"),
        (["a.ipynb", "./a.ipynb"], {}, "would both be written to"),
        (["a.ipynb", "a.ipynb"], {"inplace": True}, "would both be written to"),
        (["a.ipynb", "a.executed.ipynb"], {}, "would overwrite the notebook a.executed.ipynb"),
        (["DIR/a.ipynb"], {"directory": "DIR"}, "would overwrite the notebook"),
        (["a.ipynb"], {"directory": "DIR/file"}, r"cannot be made \(File exists"),
        (["a.ipynb"], {"directory": "DIR/file/results"}, r"cannot be made \(Not a directory"),
    ],
)
def test_outputs_that_would_overwrite_something_are_refused_before_anything_runs(
    tmp_path: Path, notebooks: list[str], options: dict[str, Any], said: str
) -> None:
    (tmp_path / "file").touch()
    if "directory" in options:
        options = {"directory": options["directory"].replace("DIR", str(tmp_path))}

    with pytest.raises(ConfigError, match=said):
        _outputs(*(path.replace("DIR", str(tmp_path)) for path in notebooks), **options)


def _install(kernels: Path, name: str, *argv: str, gives_volume: bool = False) -> None:
    write_kernelspec(kernels / name, {} if gives_volume else None, argv=argv, language="R")


def test_a_kernel_that_is_missing_or_gives_no_volume_is_refused_with_one_that_does(
    kernels: Path,
) -> None:
    def refusal(name: str) -> str:
        with pytest.raises(ConfigError) as caught:
            plan_runs(["a.ipynb"], kernel=name, output_directory=None, inplace=False)
        return str(caught.value)

    assert "There is no kernelspec 'nope'" in refusal("nope")
    _install(kernels, "ir", "R", "--slave")
    assert "kernelspec add ir-volume --from ir` makes one" in refusal("ir")
    _install(kernels, "science", "R", "--slave", gives_volume=True)
    assert "`--kernel science` starts the same kernel" in refusal("ir")
    _install(kernels, "ir-volume", "R", "--verbose", gives_volume=True)
    assert "`--kernel ir-volume` starts the same kernel" in refusal("ir")
    assert "`--kernel python3-volume` starts the same kernel" in refusal("python3")


@pytest.mark.parametrize("path", [".", "..", "/", "DIR", "DIR/"])
def test_a_directory_or_an_empty_path_is_refused_as_a_notebook(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="'' names no notebook"):
        _outputs("")
    with pytest.raises(ConfigError, match=r"is a directory; .*such as .*/\*\.ipynb"):
        _outputs(path.replace("DIR", str(tmp_path)))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_notebook_in_a_directory_that_is_not_writable_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inplace: bool
) -> None:
    # Replaced, because root, who may run this test, may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be written.* name an --output-dir"):
        _outputs(str(tmp_path / "a.ipynb"), inplace=inplace)


def test_a_notebook_keeps_its_own_kernel_if_that_gives_volumes(kernels: Path) -> None:
    _install(kernels, "own", "x", gives_volume=True)

    assert kernel_for(_notebook(kernelspec={"name": "own"})) == "own"
    assert kernel_for(_notebook(kernelspec={"name": "python3"})) == "python3-volume"
    assert kernel_for(_notebook(kernelspec={"name": "gone", "language": "python"})) == (
        "python3-volume"
    )
    assert kernel_for(_notebook()) == "python3-volume"


def test_a_notebook_in_another_language_is_never_given_to_python(kernels: Path) -> None:
    in_r = _notebook(kernelspec={"name": "ir", "language": "R"})
    with pytest.raises(ConfigError, match="'ir' is not installed"):
        kernel_for(in_r)
    _install(kernels, "ir", "R")
    with pytest.raises(ConfigError, match="kernelspec add ir-volume --from ir"):
        kernel_for(in_r)
    with pytest.raises(ConfigError, match="julia"):
        kernel_for(_notebook(language_info={"name": "julia"}))


def test_the_volume_of_a_run_belongs_to_the_directory_of_its_notebooks() -> None:
    assert run_session(None, None, ["/p/a/x.ipynb"]) is None
    assert run_session(None, "notebook", ["/p/a/x.ipynb"]) is None
    assert run_session(None, "run", ["/p/a/x.ipynb"]) == "run:/p/a"
    assert run_session(None, "run", ["/p/a/x.ipynb", "/p/b/y.ipynb"]) == "run:/p"
    assert run_session("named", "run", ["/p/a/x.ipynb"]) == "named"
    with pytest.raises(BadSession):
        run_session("", "run", ["/p/a/x.ipynb"])
