"""Reads and writes notebooks: each is read whole or refused, and written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output

from provisioner.system.files import replacing


class NotebookUnusable(Exception):
    """The file is not a notebook that can be executed; the message says why."""


def read(path: Path) -> NotebookNode:
    """Return a notebook of any format, converted to format 4.

    Raises
    ------
    NotebookUnusable
        If the file is missing, cannot be read, or is not a notebook.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        # Reading a pipe or a device may never end.
        raise NotebookUnusable("is not a file; name a notebook.")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotebookUnusable("does not exist; correct the path.") from None
    except OSError as error:
        raise NotebookUnusable(f"cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise NotebookUnusable("is not a notebook (not UTF-8 text).") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise NotebookUnusable("is not a notebook (not JSON).") from None
    if not isinstance(content, dict) or not {"cells", "worksheets"} & content.keys():
        raise NotebookUnusable("is not a notebook (it has no cells).")
    return _as_version_4(text)


def _as_version_4(text: str) -> NotebookNode:
    with warnings.catch_warnings():
        # Missing cell ids; nbformat adds them.
        warnings.simplefilter("ignore")
        try:
            notebook: NotebookNode = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]  # nbformat's functions have no types
            sound = all(map(_is_sound, notebook.cells))
        except Exception as error:  # noqa: BLE001 - a damaged notebook may raise anything in nbformat
            reason = str(error).strip().partition("\n")[0]
            raise NotebookUnusable(f"is not a notebook ({reason}).") from None
    if not sound:
        raise NotebookUnusable("is not a notebook (it has a cell without a type or a source).")
    return notebook


def _is_sound(cell: NotebookNode) -> bool:
    """Whether a cell has what its execution needs; like other tools, this does not require a valid notebook."""
    return (
        isinstance(cell, dict)
        and isinstance(cell.get("cell_type"), str)
        and isinstance(cell.get("source"), str)
        and isinstance(cell.get("metadata"), dict)
    )


def clear(notebook: NotebookNode) -> int:
    """Remove the outputs of earlier executions; return the number of cells to execute."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    return sum(map(is_executable, notebook.cells))


def is_executable(cell: NotebookNode) -> bool:
    """Whether nbclient executes a cell."""
    return bool(cell.cell_type == "code" and cell.source.strip())


def note_failure(notebook: NotebookNode, number: int | None, error: str, message: str) -> None:
    """Add an output for a failure that left no traceback: a timeout, or the death of the kernel."""
    if number is None:
        return
    cell = notebook.cells[number - 1]
    if not any(output.get("ename") == error for output in cell.outputs):
        cell.outputs.append(
            new_output(  # type: ignore[no-untyped-call]  # nbformat's functions have no types
                "error", ename=error, evalue=message, traceback=[f"{error}: {message}"]
            )
        )


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook atomically, with the permissions of the earlier file.

    Raises
    ------
    OSError
        If the notebook cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, many_writers=True) as aside:
        with open(aside, "x", encoding="utf-8") as file:
            nbformat.write(notebook, file)  # type: ignore[no-untyped-call]  # nbformat's functions have no types
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, aside)
