"""Checks the values of settings and options: converts each to what its trait holds, or refuses it in one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
"""The values of `keep_backups`, as a clause for messages."""

_SECRET = frozenset({"env", "launcher_config"})
"""The settings whose values no message shows."""


class Duration(TraitType["timedelta | None", Any]):
    """A timedelta, given in seconds or as text (`"30m"`); None for `"never"`; never zero or less."""

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
        """Convert the text of a command line."""
        try:
            return parse_duration(s)
        except ValueError as error:
            raise TraitError(f"{s!r} must be {error}") from None


def checked(
    owner: type[Configurable],
    given: Mapping[str, Any],
    where: str,
    earlier: Mapping[str, Any],
    noun: str = "a setting",
) -> dict[str, Any]:
    """Return the values of `given` as the traits of `owner` hold them.

    Parameters
    ----------
    owner
        The class with one trait per setting.
    given
        The values from one source, such as a configuration file.
    where
        The name of that source in messages.
    earlier
        The values from weaker sources, which `c.VolumePool.NAME.append(…)` extends.
    noun
        What a name in `given` is, for messages.

    Raises
    ------
    ConfigError
        For the first unknown name, or value that its trait refuses.
    """
    traits = owner.class_traits(config=True)
    holder = owner()
    accepted: dict[str, Any] = {}
    for name, value in given.items():
        if name not in traits:
            raise unknown_name(name, where, traits, noun)
        trait = traits[name]
        try:
            before = earlier[name] if name in earlier else trait.default()
            value = _resolved(trait, value, before)
            if isinstance(value, bool) and not isinstance(trait, Bool):
                raise TraitError("Python accepts True as 1, which is never meant.")
            setattr(holder, name, value)
        except (TraitError, ValueError) as error:
            raise ConfigError(
                f"{where}.{name} is {_displayed(name, value)}; it must be {_expected(trait)}."
            ) from error
        accepted[name] = getattr(holder, name)
        if name == "env":
            _check_variables(accepted[name], f"{where}.{name}")
    return accepted


def unknown_name(name: str, where: str, known: Collection[str], noun: str) -> ConfigError:
    """Return the error for a name that is not in `known`; it suggests the nearest one, or lists all."""
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(known))}."
    return ConfigError(f"{where}.{name} is not {noun}; {hint}")


def keep_rule(value: object, where: str) -> Keep:
    """Return which older backups stay, from a value that the trait `keep_backups` has accepted.

    Raises
    ------
    ConfigError
        For a mapping with other keys, or with a count or an age that is refused.
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


def _resolved(trait: TraitType[Any, Any], value: object, earlier: object) -> object:
    """Return the value that a loader deferred: the text of a command line, or a change to the earlier value."""
    if isinstance(value, LazyConfigValue):
        return value.get_value(earlier)
    if isinstance(value, DeferredConfig):
        return value.get_value(trait)
    return value


def _displayed(name: str, value: object) -> str:
    """Return a value for a message: without logins, and of secret settings only the names that a mapping has."""
    if name in _SECRET and isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, value)) or 'nothing'}"
    return "not shown" if name in _SECRET else without_logins(repr(value))


def _expected(trait: TraitType[Any, Any]) -> str:
    """Return the values of a trait as a clause; traitlets' own omits bounds and what a mapping holds."""
    expected = trait.metadata.get("expected")
    if isinstance(expected, str):
        return expected
    if isinstance(trait, Integer):
        return f"a whole number, {trait.min} or more"
    return trait.info()


def _check_variables(env: Mapping[str, str], where: str) -> None:
    """Refuse a variable that no environment can hold: the operating system's own error names neither it nor `where`."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ConfigError(
                f"{where} has {name!r}, which cannot be a variable: names are not empty and hold no '=', and neither "
                "names nor values hold a NUL; correct it."
            )
