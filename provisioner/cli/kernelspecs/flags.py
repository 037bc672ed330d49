"""The flags of `jupyter volumes kernelspec add` that become options of kernel.json's stanza; one line for each."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provisioner.core.errors import ConfigError

_LOCAL_REFERENCE = re.compile(
    r"(?P<scheme>path:)?(?P<path>\.{1,2}(/[^?#]*)?|[^:?#]*\.nix)(?P<rest>([?#].*)?)", re.DOTALL
)
"""A path from the current directory, as people type it: `.`, `../flake#shell`, `path:./flake`, `shell.nix`."""

_LOCAL_REQUIREMENT = re.compile(
    r"(?P<path>\.{1,2}|[^:@;\[\s]*/[^:@;\[]*)(?P<extras>(\[.*)?)", re.DOTALL
)
"""A path, as uv takes for a requirement: `.`, `libs/ours[plot]`, `/wheels/a.whl`."""


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

    @property
    def destination(self) -> str:
        """Where argparse puts the value; of its own, for two flags may give one option."""
        return f"option {self.flag}"


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    for option in OPTIONS:
        parser.add_argument(
            option.flag, dest=option.destination, help=option.help, **option.argument
        )


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that a command line gives; the others are left to their defaults.

    Raises
    ------
    ConfigError
        For a value that cannot be read.
    """
    given: dict[str, Any] = {}
    for option in OPTIONS:
        value = getattr(args, option.destination)
        if value is None:
            continue
        if option.name in given:
            raise ConfigError(
                f"{option.flag} contradicts another flag for {option.name}; keep one."
            )
        given[option.name] = option.read(value)
    return given


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


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"--bootstrap-command {text!r} is no command line ({error}); correct its quotes."
        ) from None
    if not words:
        raise ConfigError("--bootstrap-command is empty; name a program, or leave it out.")
    return words


def _reference(text: str) -> str:
    """Return a Nix reference that means the same from any directory; one in kernel.json starts at the volume."""
    local = _LOCAL_REFERENCE.fullmatch(text)
    if local is None:
        return text
    return f"{local['scheme'] or ''}{os.path.abspath(local['path'])}{local['rest']}"


def _requirements(texts: Sequence[str]) -> list[str]:
    """Return requirements that mean the same from any directory."""
    return [_requirement(text) for text in texts]


def _requirement(text: str) -> str:
    local = _LOCAL_REQUIREMENT.fullmatch(text)
    return f"{os.path.abspath(local['path'])}{local['extras']}" if local else text


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
    Option(
        "--bootstrap-command",
        "bootstrap_command",
        "run once in each volume, and again when it changes; one argument, quoted as for a shell",
        {"metavar": "COMMAND"},
        _words,
    ),
    Option(
        "--bootstrap-timeout",
        "bootstrap_timeout",
        'how long that may take, such as "30m" (default: 1h)',
        {"metavar": "TIME"},
    ),
    Option(
        "--requirements",
        "requirements",
        "a Python requirement that uv installs into each volume; may be repeated",
        {"action": "append", "metavar": "REQUIREMENT"},
        _requirements,
    ),
    Option(
        "--requirements-file",
        "requirements",
        "the path of a file with Python requirements",
        {"metavar": "PATH"},
        os.path.abspath,
    ),
    Option(
        "--requires-python",
        "requires_python",
        'what the Python of those must satisfy, such as ">=3.11"',
        {"metavar": "VERSIONS"},
    ),
    Option(
        "--pyproject",
        "pyproject",
        "a directory with pyproject.toml and uv.lock, synced by uv",
        {"metavar": "DIR"},
        os.path.abspath,
    ),
    Option(
        "--nix-profile",
        "nix_profile",
        "a flake reference, a shell.nix, a store path or a profile directory",
        {"metavar": "REFERENCE"},
        _reference,
    ),
    Option(
        "--nix-watch",
        "nix_watch",
        "a further file whose change makes the Nix environment be made again; may be repeated",
        {"action": "append", "metavar": "PATH"},
        lambda paths: [os.path.abspath(path) for path in paths],
    ),
    Option(
        "--stale",
        "stale",
        "what to do where an environment cannot be renewed: fail (the default), or warn",
        {"choices": ("fail", "warn")},
    ),
)
