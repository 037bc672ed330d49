"""Steps of other packages: found by their entry points, and what goes wrong in them told as theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from threading import Event
from typing import Any, Literal, TypeVar

from provisioner.core.errors import ConfigError, HydrationFailed, VolumeError
from provisioner.core.progress import StepProgress
from provisioner.hydration.step import Lasting, Launch, Place, Step
from provisioner.settings.options import ENTRY_POINTS

T = TypeVar("T")

_PARTS = ("name", "key", "intact", "hydrate", "environment")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it names a file


def foreign_step(option: str, value: object) -> Step:
    """Return the step that an option of another package stands for.

    Parameters
    ----------
    option
        The option's name in kernel.json, which is its entry point's.
    value
        Its value, as JSON has it.

    Raises
    ------
    ConfigError
        No installed package knows the option, it cannot be loaded, or it does not like the value.
    """
    made: Any
    try:
        made = _factory(option)(value)
    except VolumeError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(_blame(option, error)) from error
    missing = [part for part in _PARTS if not hasattr(made, part)]
    if missing:
        raise ConfigError(
            f"the hydration option {option!r} gave a step without {missing[0]!r}: "
            "ask the makers of its package"
        )
    if not isinstance(made.name, str) or not _NAME.fullmatch(made.name):
        raise ConfigError(
            f"the hydration option {option!r} gave a step of the name {made.name!r}, which cannot name a file: "
            "ask the makers of its package"
        )
    return (_Lasting if isinstance(made, Lasting) else _Foreign)(option, made)


@cache  # looking through all installed packages takes longer than a whole hydrated start
def _factory(option: str) -> Callable[[object], object]:
    found = entry_points(group=ENTRY_POINTS, name=option)
    if not found:
        raise ConfigError(
            f"no installed package knows the hydration option {option!r}: "
            "correct its name, or install the package that adds it"
        )
    factory: Callable[[object], object] = next(iter(found)).load()
    return factory


def _blame(option: str, error: BaseException) -> str:
    return (
        f"the hydration option {option!r} failed with {type(error).__name__} ({error}): "
        "correct its value in kernel.json, or ask the makers of its package"
    )


class _Foreign:
    """Asks a step of another package, and believes what has the right type."""

    def __init__(self, option: str, step: Any) -> None:
        self._option = option
        self._step = step
        self.name: str = step.name

    @property
    def stale(self) -> Literal["fail", "warn"]:
        return "warn" if getattr(self._step, "stale", "fail") == "warn" else "fail"

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        with self._blamed():
            found = self._step.inputs(place, launch) if hasattr(self._step, "inputs") else {}
            return {str(name): str(digest) for name, digest in dict(found).items()}

    def key(self, place: Place, launch: Launch) -> str:
        with self._blamed():
            return _require(self._step.key(place, launch), str, "key")

    def intact(self, place: Place, launch: Launch) -> bool:
        with self._blamed():
            return bool(self._step.intact(place, launch))

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        with self._blamed():
            self._step.hydrate(place, launch, progress, cancel)

    def environment(self, place: Place, launch: Launch) -> Launch:
        with self._blamed():
            after = _require(self._step.environment(place, launch), Launch, "environment")
            texts = [*after.argv, *after.env.keys(), *after.env.values()]
            if not after.argv or not all(isinstance(text, str) for text in texts):
                raise TypeError("environment() gave no command line, or other things than texts")
            return Launch(tuple(after.argv), after.env, after.added)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except VolumeError:
            raise
        except (Exception, SystemExit) as error:
            raise HydrationFailed(_blame(self._option, error)) from error


class _Lasting(_Foreign):
    lasts: Literal[True] = True


def _require(answer: object, kind: type[T], method: str) -> T:
    if not isinstance(answer, kind):
        raise TypeError(f"{method}() gave {answer!r}")
    return answer
