"""Which session's volume a kernel gets, however it is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from provisioner.core.errors import BadSession
from provisioner.core.session import SERVER_VARIABLE
from provisioner.pool.pool import Pool
from tests.support.kernels import (
    REAL,
    ask,
    client_of,
    environment,
    kernel,
    process_of,
    provisioner_of,
    require_free,
    session_with,
)


def notebook(path: Path, session: object = None) -> Path:
    """Write a notebook that asks for a session."""
    metadata = {} if session is None else {"volume": {"session": session}}
    path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4}))
    return path


def test_the_caller_names_the_session_before_the_notebook_and_the_notebook_before_the_kernel(
    here: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = notebook(tmp_path / "plain.ipynb")
    asking = notebook(tmp_path / "asking.ipynb", "shared work")
    told = {SERVER_VARIABLE: str(asking)}
    assert session_with(env=environment("caller", **told)) == "caller"
    assert session_with(env=environment(**told)) == "shared work"
    assert session_with(env=environment(**{SERVER_VARIABLE: str(plain)})) == str(plain)
    assert str(session_with()).startswith("kernel:")
    monkeypatch.setenv("JUPYTER_VOLUME_SESSION", "of the process")
    manager = KernelManager(kernel_name="mute")
    manager.start_kernel()  # without env=, as papermill does
    assert provisioner_of(manager).session == "of the process"
    manager.shutdown_kernel(now=True)


def test_two_kernels_without_a_name_have_two_volumes(here: Pool) -> None:
    with kernel(session=None) as first, kernel(session=None) as second:
        assert provisioner_of(first).volume != provisioner_of(second).volume


def test_a_notebook_renamed_while_its_kernel_runs_takes_its_volume_along(
    here: Pool, tmp_path: Path
) -> None:
    old, new = notebook(tmp_path / "old.ipynb"), tmp_path / "new.ipynb"
    with kernel(env=environment(**{SERVER_VARIABLE: str(old)}), session=None) as manager:
        volume = provisioner_of(manager).volume
        old.rename(new)
        manager.restart_kernel(now=True, env=environment(**{SERVER_VARIABLE: str(new)}))
        assert provisioner_of(manager).volume == volume
        assert provisioner_of(manager).session == str(new)
        assert process_of(manager).environ()["JUPYTER_VOLUME_SESSION"] == str(new)
    assert session_with(env=environment(**{SERVER_VARIABLE: str(new)})) == str(new)
    assert here.find(str(old)).id == here.find(str(new)).id
    assert len(here.volumes()) == 1


def test_a_shared_volume_is_not_renamed_after_one_of_its_notebooks(
    here: Pool, tmp_path: Path
) -> None:
    """The notebook named the session; other notebooks may still ask for it when this one no longer does."""
    asking = notebook(tmp_path / "asking.ipynb", "shared work")
    env = environment(**{SERVER_VARIABLE: str(asking)})
    with kernel(env=env, session=None) as manager:
        notebook(asking)
        manager.restart_kernel(now=True, env=env)
        assert provisioner_of(manager).session == "shared work"
    assert [r.session for r in here.volumes()] == ["shared work"]


def test_a_name_that_no_session_can_have_is_refused_in_one_line(here: Pool) -> None:
    for name in ("", " ", "a\nb", "x" * 5000):
        with pytest.raises(BadSession) as caught:
            session_with(env=environment(name))
        assert "\n" not in str(caught.value)
    assert here.volumes() == []


def test_a_run_nested_in_a_cell_has_a_volume_of_its_own(here: Pool, tmp_path: Path) -> None:
    nested = """
import nbformat, nbclient, os
inner = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
    "import os; print(os.getcwd(), os.environ['JUPYTER_VOLUME_SESSION'])")])
nbclient.NotebookClient(inner, kernel_name="python3-volume").execute()
said = inner.cells[0].outputs[0].text.split()
"""
    path = notebook(tmp_path / "outer.ipynb")
    env = environment(**{SERVER_VARIABLE: str(path)})
    with kernel(REAL, session=None, env=env) as manager, client_of(manager) as client:
        directory, session = ask(client, "said", nested)
        assert directory != provisioner_of(manager).volume
        assert session.startswith("kernel:")
    assert len(here.volumes()) == 2
    require_free(here)
