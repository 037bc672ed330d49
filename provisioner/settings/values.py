"""Checks the values of settings and options: converts each to what its trait holds, or refuses it in one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from traitlets import Bool, Dict, Integer, TraitError, TraitType, Union
from traitlets.config import Configurable
from traitlets.config.loader import DeferredConfig, LazyConfigValue

from provisioner.core.duration import EXPECTED, parse_duration
from provisioner.core.errors import ConfigError
from provisioner.core.logins import without_logins
from provisioner.core.policy import Keep

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

    def from_string(self, s: str) -> Any:
        """Leave the text of a command line to `validate`; traitlets itself takes "None" for None."""
        return s


class KeepRule(Union):
    """Which older backups are kept: a count, an age, or a mapping of both; `keep_rule` makes the rule of it."""

    def __init__(self, **options: Any) -> None:
        super().__init__([Integer(min=1), Duration(), Dict()], **options)

    def info(self) -> str:
        """Return the values as a clause for messages."""
        return 'a count of 1 or more, a duration such as "90d", or {"count": 3, "age": "90d"} of these two'

    def validate(self, obj: Any, value: Any) -> Any:
        """Return the value if it makes a rule."""
        accepted = super().validate(obj, value)
        try:
            keep_rule(accepted)
        except ValueError:
            self.error(obj, value)
        return accepted


def checked(
    owner: type[Configurable],
    given: Mapping[str, Any],
    where: str,
    earlier: Mapping[str, Any],
    noun: str = "a setting",
) -> dict[str, Any]:
    """Return the values of `given` as the traits of `owner` hold them.

    For messages, `where` names the source of the values, and `noun` is what a name in `given` is. The `earlier` values
    are those from weaker sources, which `c.VolumePool.NAME.append(…)` extends. Raises `ConfigError` for the first
    unknown name, or value that its trait refuses.
    """
    traits = owner.class_traits(config=True)
    holder = owner()
    accepted: dict[str, Any] = {}
    for name, value in given.items():
        if name not in traits:
            raise unknown_name(name, where, traits, noun)
        trait = traits[name]
        try:
            # A loader defers the text of a command line, and a change to the earlier value.
            if isinstance(value, LazyConfigValue):
                value = value.get_value(earlier[name] if name in earlier else trait.default())
            elif isinstance(value, DeferredConfig):
                value = value.get_value(trait)
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


def keep_rule(value: object) -> Keep:
    """Return which older backups stay, from a count, an age, or a mapping with either or both (`ValueError` if not)."""
    count, age = 1 if value else None, value
    if isinstance(value, int):
        count, age = value, None
    elif isinstance(value, Mapping):
        count, age = value.get("count", 1), value.get("age")
        named = bool(value) and set(value) <= {"count", "age"}
        if not named or isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError("the count must be 1 or more, and no other key is known")
    return Keep(count, parse_duration(age))


def _displayed(name: str, value: object) -> str:
    """Return a value for a message: without logins, and of secret settings only the names that a mapping has."""
    if name in _SECRET and isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, value)) or 'nothing'}"
    return "not shown" if name in _SECRET else without_logins(repr(value))


def _expected(trait: TraitType[Any, Any]) -> str:
    """Return the values of a trait as a clause; traitlets' own omits bounds and what a mapping holds."""
    own = f"a whole number, {trait.min} or more" if isinstance(trait, Integer) else trait.info()
    return str(trait.metadata.get("expected", own))


def _check_variables(env: Mapping[str, str], where: str) -> None:
    """Refuse a variable that no environment can hold: the operating system's own error names neither it nor `where`."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ConfigError(
                f"{where} has {name!r}, which cannot be a variable: names are not empty and hold no '=', and neither "
                "names nor values hold a NUL; correct it."
            )
