"""The uv step: an environment built beside the old one from a shared cache, put in place by a rename."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal

from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.records import digest, digest_text
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.python.interpreter import interpreter, runs_python
from provisioner.hydration.steps.python.owners import Owner, beside, choose, unfinished
from provisioner.hydration.steps.uv.build import Build, needed_beside
from provisioner.hydration.steps.uv.declaration import Declaration
from provisioner.hydration.steps.uv.venv import is_ours, is_usable, record_of, recover
from provisioner.system.removal import remove

_SCHEMA = (
    "1"  # of the key and the record; increase it when the same inputs should be installed again
)


@dataclass(frozen=True)
class UvEnvironment:
    """Gives the volume a virtual environment of its own.

    Parameters
    ----------
    declaration
        What is installed in it, besides pip (so that `%pip` works) and ipykernel (if the kernel is one).
    cache
        uv's cache, created if missing. On the volume's file system files are linked, elsewhere copied.
    requires_python
        A version specifier that the interpreter must satisfy, such as `>=3.11`; None for any.
    stale
        What to do when the declaration has changed and cannot be installed while the earlier environment
        is whole: `fail` the start, or `warn` and use the earlier one.

    Notes
    -----
    What a user has installed is kept. In the state directory are `env`, whose `hydrated.json` is the record and
    moves with it; `env.new`, which is being built; and for a moment `env.old`. If `env` belongs to another Python
    or kernelspec, it is `env-2` instead, and so on. A new one starts as a copy of what another kernelspec has of
    the same Python, so that packages installed by hand are kept.
    """

    name: ClassVar[str] = "uv"
    lasts: ClassVar[Literal[True]] = True  # each kernelspec has its own environment

    declaration: Declaration
    cache: Path
    requires_python: str | None = None
    stale: Literal["fail", "warn"] = "fail"

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digests of the declaration, the interpreter, and what the kernel needs besides."""
        return {
            "requires-python": digest_text(f"{_SCHEMA} {self.requires_python}"),
            "the interpreter": digest_text(_python(launch)),
            "the kernel's own needs": digest_text(" ".join(needed_beside(launch))),
            **self.declaration.inputs(place.volume),
        }

    def key(self, place: Place, launch: Launch) -> str:
        """Digest all inputs."""
        return digest(self.inputs(place, launch))

    def intact(self, place: Place, launch: Launch) -> bool:
        """Whether the environment runs and was made for this very path, with nothing unfinished beside it."""
        place = self._chosen(place, launch)
        beside_it = (beside(place.environment, what) for what in ("new", "old"))
        return (
            record_of(place.environment).get("prefix") == str(place.environment)
            and is_usable(place.environment)
            and Owner.read(place.environment) == self._owner(place, launch)
            and not any(os.path.lexists(path) for path in beside_it)
        )

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Correct an environment that has only moved; else copy a spare's, or build a new one."""
        place = self._chosen(place, launch)
        recover(place.environment)
        build = Build(
            declaration=self.declaration,
            cache=self.cache,
            requires_python=self.requires_python,
            place=place,
            launch=launch,
            owner=self._owner(place, launch),
            key=partial(self.key, place, launch),
            hooks=StepHooks(self.name, place, progress, cancel),
        )
        try:
            same = record_of(place.environment).get("key") == self.key(place, launch)
            if same and is_ours(place.environment) and not place.refresh:
                build.correct_path()
            elif not build.copy_template():
                build.install()
        finally:
            # The volume's lock is held, so no other process is building one.
            for leftover in (*unfinished(place), beside(place.environment, "old")):
                remove(leftover)

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch with the environment's interpreter, if it runs Python, and its PATH."""
        place = self._chosen(place, launch)
        programs = place.environment / "bin"
        env = {k: v for k, v in launch.env.items() if k not in {"PYTHONHOME", "CONDA_PREFIX"}}
        env["VIRTUAL_ENV"] = str(place.environment)
        env["PATH"] = ":".join([str(programs), *filter(None, [launch.env.get("PATH")])])
        argv = launch.argv
        if runs_python(launch):
            argv = (str(programs / "python"), *argv[1:])
        return replace(launch, argv=argv, env=env)

    def _chosen(self, place: Place, launch: Launch) -> Place:
        return choose(place, self.name, _python(launch), shared=False)

    def _owner(self, place: Place, launch: Launch) -> Owner:
        return Owner(self.name, _python(launch), (place.kernelspec,))


def _python(launch: Launch) -> str:
    return os.path.realpath(interpreter(launch))
