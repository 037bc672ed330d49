"""Which notebooks a run executes, with which kernels and into which files; refused before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from provisioner.cli.batch.outcome import Job
from provisioner.core.errors import ConfigError
from provisioner.hydration.kernelspec import (
    PACKAGED,
    Kernelspec,
    kernelspecs,
    volume_kernelspec,
    way_to_volume,
)
from provisioner.settings.notebook import canonical

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
        If one is a directory, if an output would overwrite another or a notebook, or cannot be written, or if the
        kernel is unknown or gives no volume.
    """
    chosen = None if kernel is None else volume_kernelspec(kernel, "--kernel ").name
    for label in given:
        _require_file_name(label)
    jobs = [
        Job(
            label,
            Path(canonical(label)),
            _output(label, output_directory, inplace),
            lambda notebook: chosen or kernel_for(notebook),
        )
        for label in given
    ]
    _require_distinct_outputs(jobs, inplace)
    if output_directory is not None:
        _make(Path(output_directory))
    else:
        _require_writable(jobs)
    return jobs


def kernel_for(notebook: NotebookNode) -> str:
    """Return the kernelspec for a notebook: its own if that gives volumes, else ours for Python.

    Raises
    ------
    ConfigError
        If it is written in another language and its kernelspec gives no volume, or is not installed; or if the
        kernels of its own cannot start.
    """
    own = notebook.metadata.get("kernelspec", {})
    name = str(own.get("name", "")).lower()
    installed = next((found for found in kernelspecs() if found.name == name), None)
    if installed is not None and installed.stanza.gives_volume:
        return volume_kernelspec(name).name
    language = _language(notebook, installed)
    if language in {"", "python"}:
        return PACKAGED
    if installed is None:
        told = f"its kernel {name!r} is not installed" if name else "it names no kernel"
        raise ConfigError(f"{told} ({language}); install one, or name a kernelspec with --kernel.")
    cure = way_to_volume(installed, "--kernel ")
    raise ConfigError(f"its kernel {name!r} ({language}) gives no volume; {cure}.")


def _language(notebook: NotebookNode, installed: Kernelspec | None) -> str:
    if installed is not None:
        return installed.language
    named = notebook.metadata.get("kernelspec", {}).get("language")
    return str(named or notebook.metadata.get("language_info", {}).get("name", "")).lower()


def _require_file_name(label: str) -> None:
    """Refuse what names no file, and so no output beside it."""
    if os.path.isdir(label):
        raise ConfigError(
            f"{label} is a directory; name the notebooks in it, such as {os.path.join(label, '*.ipynb')}."
        )
    if not Path(label).name:
        raise ConfigError(f"{label!r} names no notebook; give the path of one.")


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
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise ConfigError(
            f"--output-dir {directory} cannot be made ({reason}); name another one."
        ) from error
    if not os.access(directory, os.W_OK):
        raise ConfigError(f"--output-dir {directory} cannot be written; name another one.")


def _require_writable(jobs: Sequence[Job]) -> None:
    """Refuse notebooks that lie where nothing can be written beside them, also not anew in their own place."""
    for job in jobs:
        directory = job.output.parent
        if directory.is_dir() and not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{job.output} cannot be written, for {directory.absolute()} is not yours to write to; "
                "name an --output-dir."
            )


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
