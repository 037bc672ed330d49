"""The values of settings: taken as they are meant, or refused in one line that says what would do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from traitlets import Bool, Integer, TraitError, TraitType
from traitlets.config import Configurable
from traitlets.config.loader import DeferredConfig, LazyConfigValue

from provisioner.core.duration import EXPECTED, parse_duration
from provisioner.core.errors import ConfigError
from provisioner.core.logins import without_logins
from provisioner.core.policy import Keep

KEEP_EXPECTED = 'a count of 1 or more, a duration, or {"count": …, "age": …}'
"""What `keep` takes, as a clause for messages."""

_SECRET = frozenset({"env", "launcher_config"})
"""The settings whose values no message shows."""


class Duration(TraitType["timedelta | None", Any]):
    """A timedelta, given in seconds or as text (`"30m"`); None where `"never"` was said; never zero or less."""

    info_text = EXPECTED
    default_value = None
    allow_none = True

    def validate(self, obj: Any, value: Any) -> timedelta | None:
        """Return the timedelta that `value` stands for."""
        try:
            return parse_duration(value)
        except ValueError:
            self.error(obj, value)

    def from_string(self, s: str) -> timedelta | None:
        """Read a command line's value."""
        try:
            return parse_duration(s)
        except ValueError as error:
            raise TraitError(f"{s!r} must be {error}") from None


def keep(value: object, where: str) -> Keep:
    """Return which older backups stay, according to a value of `keep_backups` that its trait has taken.

    Raises
    ------
    ConfigError
        If it is a mapping that makes no sense.
    """
    if isinstance(value, timedelta):
        return Keep(count=1, age=value)
    if value is None:
        return Keep(count=None, age=None)
    if isinstance(value, int):
        return Keep(count=value, age=None)
    if not isinstance(value, Mapping) or not value or set(value) - {"count", "age"}:
        raise ConfigError(f"{where}.keep_backups is {value!r}; it must be {KEEP_EXPECTED}.")
    count = value.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"{where}.keep_backups has the count {count!r}; use 1 or more.")
    try:
        return Keep(count=count, age=parse_duration(value.get("age")))
    except ValueError as error:
        raise ConfigError(f"{where}.keep_backups: the age must be {error}.") from None


def plain(trait: TraitType[Any, Any], value: object, earlier: object) -> object:
    """Return a configured value as it is meant: read from a command line's text, or added to what was there.

    Parameters
    ----------
    trait
        What it is for.
    value
        As the loader left it.
    earlier
        What weaker places say, which `c.VolumePool.<name>.append(…)` and its like change.
    """
    if isinstance(value, LazyConfigValue):
        return value.get_value(earlier)
    if isinstance(value, DeferredConfig):
        return value.get_value(trait)
    return value


def checked(
    traits: type[Configurable], given: Mapping[str, Any], where: str, earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """Return `given` as the traits take it.

    Parameters
    ----------
    traits
        The class that has a trait for each setting.
    given
        The values, as one place has them.
    where
        What that place is called in messages.
    earlier
        What weaker places say.

    Raises
    ------
    ConfigError
        For the first name that is none, or value that its trait does not take.
    """
    known = traits.class_traits(config=True)
    taken: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(known))}."
            raise ConfigError(f"{where}.{name} is not a setting; {hint}")
        trait = known[name]
        try:
            before = earlier[name] if name in earlier else trait.default()
            value = plain(trait, value, before)
            if isinstance(value, bool) and not isinstance(trait, Bool):
                raise TraitError("Python takes True for 1; nobody means that.")
            taken[name] = getattr(traits(**{name: value}), name)
        except (TraitError, ValueError) as error:
            raise ConfigError(
                f"{where}.{name} is {told(name, value)}; it must be {_expected(trait)}."
            ) from error
    return taken


def told(name: str, value: object) -> str:
    """Return a value as messages show it: without logins, and of variables, which may be secrets, only the names."""
    if name in _SECRET and isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, value)) or 'nothing'}"
    return "not shown" if name in _SECRET else without_logins(repr(value))


def _expected(trait: TraitType[Any, Any]) -> str:
    """Return what a trait takes, as a clause; traitlets' own leaves out bounds and what a mapping holds."""
    said = trait.metadata.get("expected")
    if isinstance(said, str):
        return said
    if isinstance(trait, Integer):
        return f"a whole number, {trait.min} or more"
    return trait.info()
