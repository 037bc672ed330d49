"""The environment that a volume gives to its kernel: variables, then what hydration makes of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from string import Template
from threading import Event
from typing import TYPE_CHECKING

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from .config import VolumePool
from .errors import ConfigError
from .event import log
from .hydration.pipeline import Hydrated, hydrate, look
from .hydration.plan import HydrationOptions, plan
from .hydration.process import holding
from .hydration.step import Launch, Place, Pristine, Progress
from .logins import without_logins
from .notebook import inline_script, volume_metadata
from .options import KernelOptions
from .pool import Pool
from .record import Record
from .session import NOTEBOOK_VARIABLE, SESSION_VARIABLE, VOLUME_VARIABLE
from .uses import Acquired

if TYPE_CHECKING:
    from .hydration.condition import StepState

PROVISIONER = "volume-provisioner"
"""The name of the entry point of the provisioner that gives volumes; what a kernel.json names."""


def variables(
    env: Mapping[str, str], pool: Pool, options: KernelOptions, acquired: Acquired
) -> dict[str, str]:
    """Return the variables of a kernel: those given, the pool's, the kernelspec's, and those that name the volume."""
    added = {**pool.settings.env, **options.env}
    expanded = {name: Template(value).safe_substitute(env) for name, value in added.items()}
    said = {VOLUME_VARIABLE: str(acquired.path), SESSION_VARIABLE: acquired.record.session}
    merged = {**env, **expanded, **said}
    merged.pop(NOTEBOOK_VARIABLE, None)
    return merged


def prepare(
    launch: Launch,
    pool: Pool,
    options: KernelOptions,
    acquired: Acquired,
    *,
    notebook: str | None,
    progress: Progress,
    cancel: Event,
    force: bool = False,
    template: Pristine | None = None,
) -> Hydrated:
    """Hydrate a volume and return the launch within its environment; blocks, for as long as hydration takes.

    Parameters
    ----------
    launch
        The command line, and the environment it would have without a volume.
    pool, acquired
        The volume, which this process has leased.
    options
        What the kernelspec declares.
    notebook
        The path of the kernel's notebook, which may declare more where the administrator allows it.
    progress
        Told what a hydration does.
    cancel
        Ends it.
    force
        Hydrate even what is up to date.
    template
        A volume to copy from, where that is faster.

    Raises
    ------
    HydrationFailed, ConfigError, Cancelled
        Nothing half-made is left behind as if it were whole.
    """
    full = Launch(launch.argv, variables(launch.env, pool, options, acquired))
    steps = plan(_with_notebook(options.hydration(pool.layout.root), notebook, pool.settings))
    # A hook outlives this process, if that is killed, by a moment: so long the volume stays leased.
    with holding(acquired.lease_fd):
        return hydrate(
            steps,
            replace(_place(acquired), template=template),
            full,
            repeat=_repeat(acquired.record),
            progress=progress,
            cancel=cancel,
            force=force,
            now=pool.clock,
        )


def _repeat(record: Record) -> str:
    if record.spare is not None:
        return f"jupyter volumes warm {shlex.quote(record.kernelspec)}"
    return f"jupyter volumes hydrate {shlex.quote(record.session)}"


def _with_notebook(
    options: HydrationOptions, notebook: str | None, settings: VolumePool
) -> HydrationOptions:
    """Return what is to be hydrated once the notebook has been asked, within what the administrator allows."""
    if notebook is None:
        return options
    profile = volume_metadata(notebook).get("nix_profile")
    if profile is not None:
        from .hydration.nix import allows

        if not isinstance(profile, str) or not allows(settings.allowed_nix_profiles, profile):
            raise ConfigError(
                f"The notebook asks for the Nix profile {without_logins(repr(profile))}, which "
                "VolumePool.allowed_nix_profiles does not have; remove metadata.volume.nix_profile or ask the "
                "administrator to allow it."
            )
        options = replace(options, nix_profile=profile)
    script = inline_script(notebook) if settings.allow_notebook_requirements else None
    if script is not None and options.pyproject is None:
        declared = options.requirements
        if isinstance(declared, str):
            raise ConfigError(
                "The notebook declares its packages (PEP 723), and so does the kernelspec with the file "
                f"{declared!r}; choose another kernel or remove the notebook's block."
            )
        options = replace(
            options,
            requirements=(*(declared or ()), *script.dependencies),
            requires_python=script.requires_python or options.requires_python,
        )
    return options


def is_ready(launch: Launch, pool: Pool, options: KernelOptions, acquired: Acquired) -> bool:
    """Whether a volume has all that its kernelspec declares; starts no process."""
    full = Launch(launch.argv, variables(launch.env, pool, options, acquired))
    return look(plan(options.hydration(pool.layout.root)), _place(acquired), full) is not None


def _place(acquired: Acquired) -> Place:
    kernelspec = acquired.record.kernelspec.lower()  # jupyter_client finds it however it is typed
    return Place(acquired.path, acquired.state_directory, kernelspec=kernelspec)


def state(pool: Pool, record: Record, env: Mapping[str, str]) -> list[StepState]:
    """Return what a volume has of the environment that its kernelspec declares, and what is out of date.

    Reads files, starts no process, changes nothing; the volume may be in use.

    Parameters
    ----------
    pool, record
        The volume.
    env
        The environment that its kernels would be started with.

    Raises
    ------
    ConfigError
        The kernelspec, or the notebook, declares what makes no sense or is not allowed.
    """
    from .hydration.condition import examine

    if not record.has_files:
        return []
    options, launch = declared(record.kernelspec, env)
    acquired = Acquired(record, pool.path(record), -1, kernel="")
    full = Launch(launch.argv, variables(launch.env, pool, options, acquired))
    # The session of a notebook is its path; that of anything else names no file, and asks for nothing.
    steps = plan(_with_notebook(options.hydration(pool.layout.root), record.session, pool.settings))
    return list(examine(steps, _place(acquired), full))


def declared(kernelspec: str, env: Mapping[str, str]) -> tuple[KernelOptions, Launch]:
    """Return what a kernelspec declares and what its kernels are launched with, where no kernel is being started.

    For those who work in a volume in a kernel's stead: a shell, a hydration by hand, the maker of spares. A
    kernelspec that is no longer installed is taken for this interpreter's own.

    Raises
    ------
    ConfigError
        If its options make no sense.
    """
    options = KernelOptions()
    try:
        spec = KernelSpecManager().get_kernel_spec(kernelspec)
    except NoSuchKernel:
        if kernelspec:
            log.warning("The kernelspec %r is not installed; the default is used.", kernelspec)
        spec = KernelSpec(argv=["python"], language="python")
    stanza = spec.metadata.get("kernel_provisioner", {})
    if not isinstance(stanza, dict):
        raise ConfigError(
            f"kernel.json of {kernelspec!r}: metadata.kernel_provisioner is no mapping; correct it."
        )
    config = stanza.get("config", {})
    if not isinstance(config, dict):
        raise ConfigError(
            f"kernel.json of {kernelspec!r}: the provisioner's config is no mapping; correct it."
        )
    if stanza.get("provisioner_name") == PROVISIONER:
        options.take(config, kernelspec)
    program, *rest = spec.argv
    expanded = {k: Template(v).safe_substitute(env) for k, v in spec.env.items()}
    return options, Launch((interpreter_of(program), *rest), {**env, **expanded})


def interpreter_of(program: str) -> str:
    """Return what `KernelManager.format_kernel_cmd` makes of a kernelspec's program: a bare python is this one."""
    major, minor = sys.version_info[:2]
    bare = {"python", f"python{major}", f"python{major}.{minor}"}
    return sys.executable if program in bare else program
