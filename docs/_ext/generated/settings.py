"""The settings of a traitlets class: name, type, default and help."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from traitlets import Bool, Dict, Enum, Integer, List, TraitType, Unicode, Union
from traitlets.config import Configurable

from provisioner.core.duration import format_duration
from provisioner.settings.options import KernelOptions
from provisioner.settings.pool import VolumePool
from provisioner.settings.values import Duration

CLASSES: dict[str, type[Configurable]] = {"VolumePool": VolumePool, "KernelOptions": KernelOptions}


def settings(section: str, *names: str) -> str:
    """Return the named settings of a class, or all: of `VolumePool` as in Python, of a kernelspec as in JSON."""
    traits = CLASSES[section].class_traits(config=True)
    in_json = CLASSES[section] is KernelOptions
    prefix = "" if in_json else f"{section}."
    write = json.dumps if in_json else repr
    return "\n".join(_setting(prefix + name, traits[name], write) for name in names or traits)


def _setting(name: str, trait: TraitType[Any, Any], write: Callable[[object], str]) -> str:
    lines = [f":::{{confval}} {name}", f":type: {_type(trait)}"]
    if (default := _default(trait, write)) is not None:
        lines.append(f":default: {default}")
    return "\n".join([*lines, "", trait.help, ":::", ""])


def _default(trait: TraitType[Any, Any], write: Callable[[object], str]) -> str | None:
    """Return a default as people write it; None for an empty text, whose meaning the help explains."""
    value = trait.default()
    if isinstance(trait, Duration):
        return f'`"{format_duration(value)}"`' if isinstance(value, timedelta) else '`"never"`'
    if value == "":
        return None
    return "none" if value is None else f"`{write(value)}`"


def _type(trait: TraitType[Any, Any]) -> str:
    match trait:
        case Duration():
            return "duration"
        case Bool():
            return "true or false"
        case Integer():
            return f"whole number, {trait.min} or more"
        case Enum():
            return " or ".join(f'`"{value}"`' for value in trait.values or ())
        case Union():
            return " or ".join(map(_type, trait.trait_types))
        case List():
            return "list of texts"
        case Dict():
            return "mapping"
        case Unicode():
            return "text"
    return trait.info()
