"""The environment that a volume gives to its kernel: variables, then what hydration makes of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from string import Template
from threading import Event

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from .errors import ConfigError
from .event import log
from .hydration.pipeline import Hydrated, hydrate, look
from .hydration.plan import plan
from .hydration.step import Launch, Place, Progress
from .options import KernelOptions
from .pool import Acquired, Pool
from .session import NOTEBOOK_VARIABLE, SESSION_VARIABLE, VOLUME_VARIABLE

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
    progress: Progress,
    cancel: Event,
    force: bool = False,
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
    progress
        Told what a hydration does.
    cancel
        Ends it.
    force
        Hydrate even what is up to date.

    Raises
    ------
    HydrationFailed, ConfigError, Cancelled
        Nothing half-made is left behind as if it were whole.
    """
    full = Launch(launch.argv, variables(launch.env, pool, options, acquired))
    return hydrate(
        plan(options.hydration(pool.layout.root)),
        Place(acquired.path, acquired.state_directory),
        full,
        session=acquired.record.session,
        progress=progress,
        cancel=cancel,
        force=force,
    )


def is_ready(launch: Launch, pool: Pool, options: KernelOptions, acquired: Acquired) -> bool:
    """Whether a volume has all that its kernelspec declares; starts no process."""
    full = Launch(launch.argv, variables(launch.env, pool, options, acquired))
    place = Place(acquired.path, acquired.state_directory)
    return look(plan(options.hydration(pool.layout.root)), place, full) is not None


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
    if stanza.get("provisioner_name") == PROVISIONER:
        options.take(stanza.get("config", {}), kernelspec)
    program, *rest = spec.argv
    expanded = {k: Template(v).safe_substitute(env) for k, v in spec.env.items()}
    return options, Launch((interpreter_of(program), *rest), {**env, **expanded})


def interpreter_of(program: str) -> str:
    """Return what `KernelManager.format_kernel_cmd` makes of a kernelspec's program: a bare python is this one."""
    major, minor = sys.version_info[:2]
    bare = {"python", f"python{major}", f"python{major}.{minor}"}
    return sys.executable if program in bare else program
