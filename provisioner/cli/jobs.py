"""Which notebooks a run executes, with which kernels and into which files; refused before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from ..errors import ConfigError
from ..notebook import canonical
from .installed import PACKAGED, Installed, kernelspec, kernelspecs
from .outcome import Job

_EXECUTED = ".executed.ipynb"
"""What takes the place of `.ipynb` in the name of an output beside its notebook."""


def jobs_for(
    given: Sequence[str], *, kernel: str | None, output_directory: str | None, inplace: bool
) -> list[Job]:
    """Return what is to be executed, in the order given.

    Parameters
    ----------
    given
        The paths of notebooks as people gave them.
    kernel
        The kernelspec for all of them; None: each its own, as `kernel_for` chooses it.
    output_directory
        Where the executed notebooks are written, under their own names.
    inplace
        Write each into itself.

    Raises
    ------
    ConfigError
        If an output would overwrite another or a notebook, or cannot be written, or if the kernel is unknown or gives
        no volume.
    """
    if kernel is not None:
        _require_volume(kernelspec(kernel), kernel)
    jobs = [
        Job(
            label,
            Path(canonical(label)),
            _output(label, output_directory, inplace),
            lambda notebook: kernel or kernel_for(notebook),
        )
        for label in given
    ]
    _require_distinct_outputs(jobs, inplace)
    if output_directory is not None:
        _make(Path(output_directory))
    return jobs


def kernel_for(notebook: NotebookNode) -> str:
    """Return the kernelspec for a notebook: its own if that gives volumes, else ours for Python.

    Raises
    ------
    ConfigError
        If it is written in another language and its kernelspec gives no volume.
    """
    own = notebook.metadata.get("kernelspec", {})
    name = str(own.get("name", "")).lower()
    installed = next((found for found in kernelspecs() if found.name == name), None)
    if installed is not None and installed.stanza.gives_volume:
        return installed.name
    language = _language(notebook, installed)
    if language not in {"", "python"}:
        raise ConfigError(
            f"its kernel {name!r} ({language}) gives no volume; "
            f"`jupyter volumes kernelspec add {name}-volume --from {name}` makes one that does, "
            "to be named with --kernel."
        )
    return PACKAGED


def _language(notebook: NotebookNode, installed: Installed | None) -> str:
    if installed is not None:
        return installed.language
    named = notebook.metadata.get("kernelspec", {}).get("language")
    return str(named or notebook.metadata.get("language_info", {}).get("name", "")).lower()


def _require_volume(installed: Installed, name: str) -> None:
    if not installed.stanza.gives_volume:
        raise ConfigError(
            f"The kernelspec {name!r} gives no volume; "
            f"`jupyter volumes kernelspec add {name}-volume --from {name}` makes one that does."
        )


def _output(label: str, directory: str | None, inplace: bool) -> Path:
    path = Path(label)
    if inplace:
        return Path(canonical(path))
    if directory is not None:
        return Path(directory, path.name)
    return path.with_name(path.name.removesuffix(".ipynb") + _EXECUTED)


def _make(directory: Path) -> None:
    """Make the directory of the outputs now: hours of work must not end at a typing error."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(
            f"--output-dir {directory} is not a directory; name another one."
        ) from None
    if not os.access(directory, os.W_OK):
        raise ConfigError(f"--output-dir {directory} cannot be written; name another one.")


def _require_distinct_outputs(jobs: Sequence[Job], inplace: bool) -> None:
    writers: dict[str, str] = {}
    for job in jobs:
        output = os.path.realpath(job.output)
        if output in writers:
            raise ConfigError(
                f"{writers[output]} and {job.label} would both be written to {job.output}; "
                "run them apart, or rename one."
            )
        writers[output] = job.label
    for job in jobs:
        writer = writers.get(str(job.notebook))
        if writer is not None and not inplace:
            raise ConfigError(
                f"The output of {writer} would overwrite the notebook {job.label}; "
                "leave that out, name another --output-dir, or say --inplace."
            )
