"""The flags of `jupyter volumes kernelspec add`, derived from the traits of `KernelOptions`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from traitlets import Bool, Enum, TraitType

from provisioner.core.duration import format_duration
from provisioner.core.errors import ConfigError
from provisioner.settings.options import KernelOptions

_DEST = "option "
"""The prefix of the attributes of the parsed arguments that hold options."""

_FILE = "requirements_file"

_REPEATS = "one per flag; repeat it for more"

_LOCAL_REFERENCE = re.compile(
    r"(?P<before>path:)?(?P<path>\.{1,2}(/[^?#]*)?|[^:?#]*\.nix)(?P<after>([?#].*)?)", re.DOTALL
)
"""A path from the current directory, as people type it: `.`, `../flake#shell`, `path:./flake`, `shell.nix`."""

_LOCAL_REQUIREMENT = re.compile(
    r"(?P<before>)(?P<path>\.{1,2}|[^:@;\[\s]*/[^:@;\[]*)(?P<after>(\[.*)?)", re.DOTALL
)
"""A path, as uv accepts it for a requirement: `.`, `libs/ours[plot]`, `/wheels/a.whl`."""


class Kind(NamedTuple):
    """A way to write an option on the command line: its placeholder in the help, and a reader of the text.

    The flag of one that `repeats` may be given several times, for a list. The note is added to the help.
    """

    metavar: str
    read: Callable[[str], Any]
    repeats: bool = False
    note: str = ""


def add_option_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    for option, trait in KernelOptions.class_traits(config=True).items():
        name, dest, text = option.replace("_", "-"), _DEST + option, _help(trait)
        if isinstance(trait, Bool):  # on by default, so the flag turns it off
            parser.add_argument(
                f"--no-{name}", dest=dest, action="store_const", const=False, help=f"do not {text}"
            )
        elif isinstance(trait, Enum):
            text = f"{text} (default: {trait.default()})"
            parser.add_argument(f"--{name}", dest=dest, choices=trait.values, help=text)
        else:
            kind = _KINDS[trait.metadata.get("kind", "text")]
            parser.add_argument(
                f"--{name}",
                dest=dest,
                metavar=trait.metadata.get("metavar", kind.metavar),
                type=kind.read,
                action="append" if kind.repeats else "store",
                help=f"{text} ({kind.note})" if kind.note else text,
            )
    parser.add_argument(
        "--requirements-file",
        dest=_DEST + _FILE,
        metavar="PATH",
        type=os.path.abspath,
        help="the path of a requirements file, in place of --requirements",
    )


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that the command line sets, with their values for kernel.json."""
    given = {
        name.removeprefix(_DEST): value
        for name, value in vars(args).items()
        if name.startswith(_DEST) and value is not None
    }
    if "env" in given:
        given["env"] = dict(given["env"])
    if _FILE in given:
        if "requirements" in given:
            raise ConfigError("--requirements-file contradicts --requirements; keep one of them.")
        given["requirements"] = given.pop(_FILE)
    return given


def _help(trait: TraitType[Any, Any]) -> str:
    """Return the help of a trait as a clause, with its default if that is a duration."""
    text = f"{trait.help[0].lower()}{trait.help[1:]}".removesuffix(".")
    default = trait.default()
    if isinstance(default, timedelta):
        return f"{text} (default: {format_duration(default)})"
    return text


def _variable(pair: str) -> tuple[str, str]:
    name, separator, value = pair.partition("=")
    if not separator or not name:
        raise ConfigError(f"--env {pair!r} sets no variable; write it as NAME=VALUE.")
    return name, value


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


def _command(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"--bootstrap-command {text!r} is not a command line ({error}); correct its quotes."
        ) from None
    if not words:
        raise ConfigError("--bootstrap-command is empty; name a program, or omit the flag.")
    return words


def _local(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """Return a reader that completes a path in the text; a relative one in kernel.json starts at the volume."""

    def read(text: str) -> str:
        found = pattern.fullmatch(text)
        if found is None:
            return text
        return f"{found['before'] or ''}{os.path.abspath(found['path'])}{found['after']}"

    return read


_KINDS: Mapping[str, Kind] = {
    "text": Kind("TEXT", str),
    "path": Kind("PATH", os.path.abspath),
    "paths": Kind("PATH", os.path.abspath, True, _REPEATS),
    "variables": Kind("NAME=VALUE", _variable, True, _REPEATS),
    "json": Kind("JSON", _json_object),
    "command": Kind("COMMAND", _command, note="here as one argument, quoted as for a shell"),
    "nix": Kind("REFERENCE", _local(_LOCAL_REFERENCE)),
    "requirements": Kind("REQUIREMENT", _local(_LOCAL_REQUIREMENT), True, _REPEATS),
}
"""The values of the metadata `kind` of a trait."""
