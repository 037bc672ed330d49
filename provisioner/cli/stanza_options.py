"""The flags of `jupyter volumes kernelspec add` that become options of kernel.json's stanza; one line for each."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class Option:
    """One option of the stanza and the flag that gives it.

    Parameters
    ----------
    flag
        What people type.
    name
        The option in kernel.json.
    help
        The line that the help shows.
    argument
        Further parameters of `add_argument`.
    read
        Makes kernel.json's value from the command line's; raises `ConfigError`.
    """

    flag: str
    name: str
    help: str
    argument: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Any], Any] = lambda value: value


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    for option in OPTIONS:
        parser.add_argument(option.flag, dest=option.name, help=option.help, **option.argument)


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that a command line gives; the others are left to their defaults.

    Raises
    ------
    ConfigError
        For a value that cannot be read.
    """
    values = ((option, getattr(args, option.name)) for option in OPTIONS)
    return {option.name: option.read(value) for option, value in values if value is not None}


def _variables(pairs: Sequence[str]) -> dict[str, str]:
    variables = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise ConfigError(f"--env {pair!r} is no variable; write it as NAME=VALUE.")
        variables[name] = value
    return variables


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"--launcher-config {text!r} is not JSON ({error}); correct it, in single quotes."
        ) from None
    if not isinstance(value, dict):
        raise ConfigError(
            f'--launcher-config {text!r} is no JSON object; write one such as {{"key": 1}}.'
        )
    return value


OPTIONS: Sequence[Option] = (
    Option(
        "--workdir",
        "workdir",
        "the kernel's working directory: its volume (the default) or the notebook's own directory",
        {"choices": ("volume", "notebook")},
    ),
    Option(
        "--env",
        "env",
        "a variable for the kernel's environment; may be repeated",
        {"action": "append", "metavar": "NAME=VALUE"},
        _variables,
    ),
    Option(
        "--launcher",
        "launcher",
        "the provisioner that really starts the kernel (default: that of the kernelspec copied)",
        {"metavar": "PROVISIONER"},
    ),
    Option(
        "--launcher-config",
        "launcher_config",
        "the launcher's own options, as a JSON object",
        {"metavar": "JSON"},
        _json_object,
    ),
    Option(
        "--no-overlay",
        "overlay",
        "give a Python kernel no environment of its own",
        {"action": "store_const", "const": False},
    ),
)
