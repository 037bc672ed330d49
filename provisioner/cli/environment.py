"""The environment that a kernel of a volume has, for a person or a command in its place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from string import Template
from threading import Event
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from ..duration import parse_duration
from ..hydration.pipeline import hydrate
from ..hydration.plan import HydrationOptions, plan
from ..hydration.step import Launch, Place, Progress
from ..pool import Acquired, Pool
from ..session import NOTEBOOK_VARIABLE, SESSION_VARIABLE, VOLUME_VARIABLE
from .stanza import is_bare_python, stanza_of


def kernel_environment(
    pool: Pool, acquired: Acquired, given: Mapping[str, str], *, progress: Progress, bare: bool
) -> Mapping[str, str]:
    """Return the environment of a kernel in this volume, hydrated if it has to be.

    Parameters
    ----------
    pool
        The pool, whose settings add variables.
    acquired
        The volume.
    given
        The environment to start from.
    progress
        Told what a hydration does.
    bare
        Leave out what hydration makes: the way in when it fails.

    Raises
    ------
    HydrationFailed, ConfigError
        What the kernelspec declares cannot be had.
    """
    spec = _kernelspec(acquired.record.kernelspec)
    config = stanza_of(spec.metadata).config
    launch = Launch(_argv(spec), _variables(pool, acquired, given, spec, config.get("env", {})))
    if bare:
        return launch.env
    place = Place(acquired.path, acquired.state_directory)
    steps = plan(_options(config, pool))
    session = acquired.record.session
    return hydrate(
        steps, place, launch, session=session, progress=progress, cancel=Event()
    ).launch.env


def _kernelspec(name: str) -> KernelSpec:
    """Return the kernelspec of a volume; one for our own Python if it is no longer installed."""
    try:
        return KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return KernelSpec(argv=["python"])


def _argv(spec: KernelSpec) -> tuple[str, ...]:
    program, *rest = spec.argv
    return (sys.executable if is_bare_python(program) else program, *rest)


def _variables(
    pool: Pool,
    acquired: Acquired,
    given: Mapping[str, str],
    spec: KernelSpec,
    own: Mapping[str, str],
) -> dict[str, str]:
    """Lay the variables of the kernelspec, the pool and the volume over those that are given."""
    variables = {**given, **_expanded(spec.env, given)}
    variables |= _expanded({**pool.settings.env, **own}, variables)
    variables.pop(NOTEBOOK_VARIABLE, None)
    return {
        **variables,
        VOLUME_VARIABLE: str(acquired.path),
        SESSION_VARIABLE: acquired.record.session,
    }


def _expanded(added: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    return {name: Template(value).safe_substitute(variables) for name, value in added.items()}


def _options(config: Mapping[str, Any], pool: Pool) -> HydrationOptions:
    """Return what a kernelspec declares; what is no option of hydration is the provisioner's own."""
    known = {field.name for field in fields(HydrationOptions)} - {"uv_cache", "extra"}
    declared = {name: _value(name, value) for name, value in config.items() if name in known}
    return HydrationOptions(uv_cache=pool.layout.root / "uv-cache", **declared)


def _value(name: str, value: Any) -> Any:
    if name == "bootstrap_timeout":
        return parse_duration(value)
    return tuple(value) if isinstance(value, list) else value
