"""Steps of other packages: found by their entry points; an error in one is reported under its option's name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any, cast

from provisioner.core.errors import ConfigError, HydrationFailed, VolumeError
from provisioner.hydration.step import Launch, Step
from provisioner.settings.options import ENTRY_POINTS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it names a file


def third_party_step(option: str, value: object) -> Step:
    """Return the step that an option of another package adds.

    What its methods raise, or return with a wrong type, is a `HydrationFailed` of one line that names the option.

    Parameters
    ----------
    option
        The option's name in kernel.json, which is the name of its entry point.
    value
        Its value, as JSON has it.

    Raises
    ------
    ConfigError
        No installed package knows the option, it cannot be loaded, or it refuses the value.
    """
    with _blaming(option, ConfigError):
        made: Any = _factory(option)(value)
    for part in ("name", *_METHODS):
        if not hasattr(made, part):
            raise ConfigError(
                f"the hydration option {option!r} gave a step without {part!r}: "
                "ask the makers of its package"
            )
    if not isinstance(made.name, str) or not _NAME.fullmatch(made.name):
        raise ConfigError(
            f"the hydration option {option!r} gave a step of the name {made.name!r}, which cannot name a file: "
            "ask the makers of its package"
        )
    step = SimpleNamespace(name=made.name)
    step.stale = "warn" if getattr(made, "stale", "fail") == "warn" else "fail"
    if hasattr(made, "lasts"):
        step.lasts = True  # only then: `Lasting` checks that the attribute exists
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


def _as_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"key() gave {key!r}")
    return key


def _as_launch(after: object) -> Launch:
    if not isinstance(after, Launch):
        raise TypeError(f"environment() gave {after!r}")
    texts = [*after.argv, *after.env.keys(), *after.env.values()]
    if not after.argv or not all(isinstance(text, str) for text in texts):
        raise TypeError("environment() gave no command line, or values that are not texts")
    return replace(after, argv=tuple(after.argv))


_METHODS: dict[str, Callable[[Any], object]] = {
    "key": _as_key,
    "intact": bool,
    "hydrate": bool,
    "environment": _as_launch,
}
"""The methods of a step, each with the function that checks what it returns."""
