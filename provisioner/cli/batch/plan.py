"""Plans a batch: which notebooks, with which kernels, into which files. Faults are refused before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from provisioner.core.errors import ConfigError
from provisioner.hydration.kernelspec import PACKAGED, kernelspecs, volume_kernelspec, way_to_volume
from provisioner.settings.notebook import canonical


@dataclass(frozen=True)
class Run:
    """The planned execution of one notebook, from its canonical path into `output`.

    `label`, its name in messages, is the path that the user gave. If `kernel` is None, the notebook's own content
    decides about its kernelspec.
    """

    label: str
    notebook: Path
    output: Path
    kernel: str | None


def plan_runs(
    given: Sequence[str], *, kernel: str | None, output_directory: str | None, inplace: bool
) -> list[Run]:
    """Return the planned runs, in the order of the given paths.

    The executed notebooks are written into a directory under their own names, over the originals, or beside them.

    Raises `ConfigError` if a path is a directory; if an output cannot be written, or would overwrite another one or a
    notebook; or if the kernelspec is unknown or gives no volume.
    """
    chosen = None if kernel is None else volume_kernelspec(kernel, "--kernel ").name
    runs = [_plan(label, chosen, output_directory, inplace) for label in given]
    _require_distinct_outputs(runs, inplace)
    _require_writable(runs, output_directory)
    return runs


def kernel_for(notebook: NotebookNode) -> str:
    """Return the kernelspec for a notebook: its own if that gives volumes, else `python3-volume`.

    Raises `ConfigError` if the notebook is written in another language, or if its own kernelspec has a fault.
    """
    own = notebook.metadata.get("kernelspec", {})
    name = str(own.get("name", "")).lower()
    installed = next((found for found in kernelspecs() if found.name == name), None)
    if installed is not None and installed.stanza.gives_volume:
        return volume_kernelspec(name).name
    if installed is not None:
        language = installed.language
    else:
        named = own.get("language") or notebook.metadata.get("language_info", {}).get("name", "")
        language = str(named).lower()
    if language in {"", "python"}:
        return PACKAGED
    if installed is None:
        reason = f"its kernel {name!r} is not installed" if name else "it names no kernel"
        raise ConfigError(
            f"{reason} ({language}); install one, or name a kernelspec with --kernel."
        )
    cure = way_to_volume(installed, "--kernel ")
    raise ConfigError(f"its kernel {name!r} ({language}) gives no volume; {cure}.")


def _plan(label: str, kernel: str | None, directory: str | None, inplace: bool) -> Run:
    path = Path(label)
    if os.path.isdir(label):
        raise ConfigError(
            f"{label} is a directory; name the notebooks in it, such as {os.path.join(label, '*.ipynb')}."
        )
    if not path.name:
        raise ConfigError(f"{label!r} names no notebook; give the path of one.")
    notebook = Path(canonical(label))
    if inplace:
        output = notebook
    elif directory is not None:
        output = Path(directory, path.name)
    else:
        output = path.with_name(f"{path.name.removesuffix('.ipynb')}.executed.ipynb")
    return Run(label, notebook, output, kernel)


def _require_writable(runs: Sequence[Run], output_directory: str | None) -> None:
    """Make the directory of the outputs before the run: hours of work must not end at a typing error."""
    if output_directory is not None:
        try:
            os.makedirs(output_directory, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--output-dir {output_directory} cannot be made ({error.strerror}: {error.filename}); "
                "name another one."
            ) from error
    for run in runs:
        directory = run.output.parent
        # --inplace too replaces the file in its directory.
        if directory.is_dir() and not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{run.output} cannot be written, because you may not write to {directory.absolute()}; "
                f"name {'an' if output_directory is None else 'another'} --output-dir."
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
