"""Reads and writes notebooks: each is read whole or refused, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output

from provisioner.cli.batch.reporting import Failure
from provisioner.core.errors import ConfigError
from provisioner.system.files import replacing


def read(path: Path) -> NotebookNode:
    """Return a notebook of any format, converted to format 4; `ConfigError` says why a file is refused.

    As in other tools, a notebook with cells to execute need not be valid otherwise.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        # Reading a pipe or a device may never end.
        raise ConfigError("is not a file; name a notebook.")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError("does not exist; correct the path.") from None
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror}).") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing cell ids; nbformat adds them
        try:
            notebook: NotebookNode = nbformat.reads(content.decode(), as_version=4)  # type: ignore[no-untyped-call]  # nbformat's functions have no types
            sound = all(map(_is_sound, notebook.cells))
        except (nbformat.reader.NotJSONError, UnicodeDecodeError, RecursionError):
            # nbformat's message quotes the file, which may be a secret under a wrong name.
            raise ConfigError("is not a notebook (not JSON in UTF-8).") from None
        except (AttributeError, KeyError, TypeError):
            raise ConfigError("is not a notebook (it has no cells).") from None
        except Exception as error:  # noqa: BLE001 - a damaged notebook may raise anything in nbformat
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(f"is not a notebook ({reason}).") from None
    if not sound:
        raise ConfigError("is not a notebook (it has a cell without a type or a source).")
    return notebook


def _is_sound(cell: Any) -> bool:
    types = {"cell_type": str, "source": str, "metadata": dict}
    return isinstance(cell, dict) and all(isinstance(cell.get(k), t) for k, t in types.items())


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


def note_failure(notebook: NotebookNode, failure: Failure) -> None:
    """Add an output for a failure that left no traceback: a timeout, or the death of the kernel."""
    if failure.cell is None:
        return
    outputs, name, message = (
        notebook.cells[failure.cell - 1].outputs,
        failure.error,
        failure.message,
    )
    if not any(output.get("ename") == name for output in outputs):
        outputs.append(
            new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])  # type: ignore[no-untyped-call]  # nbformat's functions have no types
        )


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook atomically, with the permissions of the earlier file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, many_writers=True) as aside:
        with open(aside, "x", encoding="utf-8") as file:
            nbformat.write(notebook, file)  # type: ignore[no-untyped-call]  # nbformat's functions have no types
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, aside)
