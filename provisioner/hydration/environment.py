"""The environment of one volume, as its kernelspec and, where that is allowed, its notebook declare it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from string import Template
from threading import Event

from provisioner.core.errors import ConfigError
from provisioner.core.logins import without_logins
from provisioner.core.progress import StepProgress
from provisioner.core.record import Record
from provisioner.core.session import NOTEBOOK_VARIABLE, SESSION_VARIABLE, VOLUME_VARIABLE
from provisioner.hydration.hooks.process import holding
from provisioner.hydration.journal import StepState, examine
from provisioner.hydration.kernelspec import declared
from provisioner.hydration.plan import plan
from provisioner.hydration.runner import Hydrated, hydrate, look
from provisioner.hydration.step import Launch, Place, Pristine, Step
from provisioner.settings.notebook import content_of, volume_metadata
from provisioner.settings.options import KernelOptions
from provisioner.settings.pool import VolumePool
from provisioner.system.layout import state_directory


@dataclass(frozen=True)
class Environment:
    """The environment that is declared for one volume."""

    settings: VolumePool
    options: KernelOptions
    record: Record
    path: Path
    """The volume's directory."""
    notebook: str | None = None
    """The path of the kernel's notebook, which may declare more if the administrator allows it."""

    def launch(self, given: Launch) -> Launch:
        """Return a launch with the variables of this volume's kernels, before any hydration."""
        added = {**self.settings.env, **self.options.env}
        expanded = {k: Template(v).safe_substitute(given.env) for k, v in added.items()}
        named = {VOLUME_VARIABLE: str(self.path), SESSION_VARIABLE: self.record.session}
        env = {**given.env, **expanded, **named}
        env.pop(NOTEBOOK_VARIABLE, None)
        return Launch(given.argv, env)

    def hydrate(
        self,
        given: Launch,
        *,
        lease: int,
        progress: StepProgress,
        cancel: Event,
        clock: Callable[[], datetime],
        force: bool = False,
        template: Pristine | None = None,
    ) -> Hydrated:
        """Hydrate the volume and return the launch inside its environment; blocks until hydration ends.

        `given` is the kernel's launch without a volume. Hooks inherit `lease`, the descriptor of the volume's lease: if
        this process is killed, its hook lives a moment longer, and keeps the volume leased until then. `template` is a
        volume to copy from, where that is faster. The other parameters are those of `runner.hydrate`.

        Raises
        ------
        HydrationFailed, ConfigError, Cancelled
            Nothing unfinished counts as done.
        """
        with holding(lease):
            return hydrate(
                self._steps(),
                replace(self._place(), template=template),
                self.launch(given),
                repeat=self._repeat(),
                progress=progress,
                cancel=cancel,
                force=force,
                now=clock,
            )

    def is_ready(self, given: Launch) -> bool:
        """Whether the volume has all that is declared; starts no process."""
        return look(self._steps(), self._place(), self.launch(given)) is not None

    def state(self, given: Launch) -> list[StepState]:
        """Return the state of each step; reads files, starts no process, changes nothing."""
        return list(examine(self._steps(), self._place(), self.launch(given)))

    def _steps(self) -> list[Step]:
        options = self.options
        if self.notebook is not None:
            options = _with_notebook(options, self.notebook, self.settings)
        return plan(options, self.settings.root_path / "cache" / "uv")

    def _place(self) -> Place:
        kernelspec = self.record.kernelspec.lower()  # jupyter_client ignores the case
        return Place(self.path, state_directory(self.path), kernelspec=kernelspec)

    def _repeat(self) -> str:
        if self.record.spare is not None:
            return f"jupyter volumes warm {shlex.quote(self.record.kernelspec)}"
        return f"jupyter volumes hydrate {shlex.quote(self.record.session)}"


def environment_of(
    settings: VolumePool, record: Record, path: Path, env: Mapping[str, str]
) -> tuple[Environment, Launch]:
    """Return a volume's environment and the launch of its kernels, given the server's environment `env`.

    Raises
    ------
    ConfigError
        An option of its kernelspec is unknown or has a wrong value.
    """
    options, launch = declared(record.kernelspec, env)
    # The session of a notebook is its path. Any other session names no file, which then declares nothing.
    return Environment(settings, options, record, path, notebook=record.session), launch


def state_of(
    settings: VolumePool, record: Record, path: Path, env: Mapping[str, str]
) -> list[StepState]:
    """Return the state of each step in a volume: what it has, and what is out of date.

    Reads files, starts no process, changes nothing; the volume may be in use.

    Raises
    ------
    ConfigError
        The kernelspec or the notebook declares something invalid, or the notebook something not allowed.
    """
    if not record.has_files:
        return []
    here, launch = environment_of(settings, record, path, env)
    return here.state(launch)


def _with_notebook(options: KernelOptions, notebook: str, settings: VolumePool) -> KernelOptions:
    """Return the options with what the notebook declares; refuse what the administrator does not allow."""
    # The imports are inside: few notebooks declare anything, and every kernel start would pay for them.
    profile = volume_metadata(notebook).get("nix_profile")
    if profile is not None:
        from provisioner.hydration.steps.nix.reference import allows

        if not isinstance(profile, str) or not allows(settings.allowed_nix_profiles, profile):
            raise ConfigError(
                f"The notebook asks for the Nix profile {without_logins(repr(profile))}, which "
                "VolumePool.allowed_nix_profiles does not have; remove metadata.volume.nix_profile or ask the "
                "administrator to allow it."
            )
        options = options.having(nix_profile=profile)
    content = content_of(notebook, b"# /// script") if settings.allow_notebook_requirements else {}
    if not content or options.pyproject is not None:
        return options
    from provisioner.hydration.steps.uv.inline_script import inline_script

    script = inline_script(content)
    if script is None:
        return options
    requirements = options.requirements
    if isinstance(requirements, str):
        raise ConfigError(
            "The notebook declares its packages (PEP 723), and so does the kernelspec with the file "
            f"{requirements!r}; choose another kernel or remove the notebook's block."
        )
    return options.having(
        requirements=[*(requirements or ()), *script.dependencies],
        requires_python=script.requires_python or options.requires_python,
    )
