"""Steps of other packages: found by their entry points; an error in one is reported under its option's name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any, cast

from provisioner.core.errors import ConfigError, HydrationFailed, VolumeError
from provisioner.hydration.step import Launch, Step
from provisioner.settings.options import ENTRY_POINTS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def third_party_step(option: str, value: object) -> Step:
    """Return the step that an option of another package adds, given the option's value as JSON has it.

    What its methods raise, or return with a wrong type, is a `HydrationFailed` of one line that names the option.

    Raises
    ------
    ConfigError
        No installed package knows the option, it cannot be loaded, it refuses the value, or returns no step.
    """
    with _blaming(option, ConfigError):
        made: Any = _factory(option)(value)
        if not _NAME.fullmatch(_as_text(made.name)):
            raise ValueError(f"{made.name!r}, the name of its step, cannot name a file")
        step = SimpleNamespace(name=made.name)
        step.stale = "warn" if getattr(made, "stale", "fail") == "warn" else "fail"
        # The next two are optional: `Lasting` and `Traceable` check that the attributes exist.
        if hasattr(made, "lasts"):
            step.lasts = True
        if hasattr(made, "inputs"):
            step.inputs = _blamed(option, made.inputs, _as_texts)
        for method, checked in _METHODS.items():
            setattr(step, method, _blamed(option, getattr(made, method), checked))
    return cast(Step, step)


@cache  # searching all installed packages takes longer than a whole hydrated start
def _factory(option: str) -> Callable[[object], object]:
    found = entry_points(group=ENTRY_POINTS, name=option)
    if not found:
        raise ConfigError(
            f"no installed package knows the hydration option {option!r}: "
            "correct its name, or install the package that adds it"
        )
    factory: Callable[[object], object] = next(iter(found)).load()
    return factory


def _blamed(
    option: str, method: Callable[..., object], checked: Callable[[Any], object]
) -> Callable[..., object]:
    def call(*arguments: object) -> object:
        with _blaming(option, HydrationFailed):
            return checked(method(*arguments))

    return call


@contextmanager
def _blaming(option: str, kind: type[VolumeError]) -> Iterator[None]:
    try:
        yield
    except VolumeError:
        raise
    except (Exception, SystemExit) as error:
        raise kind(
            f"the hydration option {option!r} failed with {type(error).__name__} ({error}): "
            "correct its value in kernel.json, or ask the makers of its package"
        ) from error


def _as_texts(inputs: Any) -> dict[str, str]:
    return {str(name): str(digest) for name, digest in dict(inputs).items()}


def _as_text(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")
    return text


def _as_launch(after: object) -> Launch:
    if not isinstance(after, Launch) or not after.argv:
        raise TypeError("environment() gave no launch with a command line")
    env = {_as_text(name): _as_text(value) for name, value in after.env.items()}
    return Launch(tuple(map(_as_text, after.argv)), env)


_METHODS: dict[str, Callable[[Any], object]] = {
    "key": _as_text,
    "intact": bool,
    "hydrate": bool,
    "environment": _as_launch,
}
"""The methods of a step, each with the function that checks what it returns."""
