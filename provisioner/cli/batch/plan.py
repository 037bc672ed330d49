"""Plans a batch: which notebooks, with which kernels, into which files. Faults are refused before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from provisioner.cli.batch.values import Run
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
"""Replaces `.ipynb` in the name of an output beside its notebook."""


def plan_runs(
    given: Sequence[str], *, kernel: str | None, output_directory: str | None, inplace: bool
) -> list[Run]:
    """Return the planned runs, in the order of `given`.

    Parameters
    ----------
    given
        The paths of the notebooks, as the user gave them.
    kernel
        The kernelspec for all of them; None: `kernel_for` chooses for each.
    output_directory
        Where the executed notebooks are written, under their own names.
    inplace
        Write each executed notebook over the original.

    Raises
    ------
    ConfigError
        If a path is a directory; if an output cannot be written, or would overwrite another one or a notebook; or if
        the kernelspec is unknown or gives no volume.
    """
    chosen = None if kernel is None else volume_kernelspec(kernel, "--kernel ").name
    for label in given:
        _require_file_name(label)
    runs = [
        Run(
            label,
            Path(canonical(label)),
            _output(label, output_directory, inplace),
            lambda notebook: chosen or kernel_for(notebook),
        )
        for label in given
    ]
    _require_distinct_outputs(runs, inplace)
    if output_directory is not None:
        _make(Path(output_directory))
    else:
        _require_writable(runs)
    return runs


def kernel_for(notebook: NotebookNode) -> str:
    """Return the kernelspec for a notebook: its own if that gives volumes, else `python3-volume`.

    Raises
    ------
    ConfigError
        If the notebook is written in another language and its kernelspec gives no volume or is not installed, or if
        its own kernelspec has a fault.
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
        reason = f"its kernel {name!r} is not installed" if name else "it names no kernel"
        raise ConfigError(
            f"{reason} ({language}); install one, or name a kernelspec with --kernel."
        )
    cure = way_to_volume(installed, "--kernel ")
    raise ConfigError(f"its kernel {name!r} ({language}) gives no volume; {cure}.")


def _language(notebook: NotebookNode, installed: Kernelspec | None) -> str:
    if installed is not None:
        return installed.language
    named = notebook.metadata.get("kernelspec", {}).get("language")
    return str(named or notebook.metadata.get("language_info", {}).get("name", "")).lower()


def _require_file_name(label: str) -> None:
    """Refuse a path that cannot name a file."""
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
    """Make the directory of the outputs before the run: hours of work must not end at a typing error."""
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


def _require_writable(runs: Sequence[Run]) -> None:
    """Refuse outputs in directories that are not writable; --inplace too replaces the file in its directory."""
    for run in runs:
        directory = run.output.parent
        if directory.is_dir() and not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{run.output} cannot be written, because you may not write to {directory.absolute()}; "
                "name an --output-dir."
            )


def _require_distinct_outputs(runs: Sequence[Run], inplace: bool) -> None:
    writers: dict[str, str] = {}
    for run in runs:
        output = os.path.realpath(run.output)
        if output in writers:
            raise ConfigError(
                f"{writers[output]} and {run.label} would both be written to {run.output}; "
                "run them one after the other, or rename one."
            )
        writers[output] = run.label
    for run in runs:
        writer = writers.get(str(run.notebook))
        if writer is not None and not inplace:
            raise ConfigError(
                f"The output of {writer} would overwrite the notebook {run.label}; "
                "omit that notebook, name another --output-dir, or add --inplace."
            )
