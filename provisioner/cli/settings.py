"""Settings on the command line: `--VolumePool.root=…`, as for the applications of Jupyter."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from traitlets.config import Config
from traitlets.config.loader import KVArgParseConfigLoader

from provisioner.settings.pool import VolumePool, load_settings

_PREFIX = "--VolumePool."

_NAME = re.compile(re.escape(_PREFIX) + r"\w+")

SETTINGS_HELP = (
    "Any setting can be given for one command as --VolumePool.NAME=VALUE, "
    "for example --VolumePool.root=/scratch/volumes."
)


def split_settings(
    arguments: Sequence[str], usage_error: Callable[[str], NoReturn]
) -> tuple[list[str], Config | None]:
    """Separate the settings of a command line from its other arguments; after `--` there are no settings.

    Returns
    -------
    The other arguments, and the settings (None if there are none).
    """
    rest: list[str] = []
    given: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif not argument.startswith(_PREFIX):
            rest.append(argument)
        elif not _NAME.fullmatch(argument.partition("=")[0]):
            usage_error(f"{argument} is not a setting; write {_PREFIX}NAME=VALUE")
        elif "=" in argument:
            given.append(argument)
        elif (value := next(remaining, None)) is not None:
            given.append(f"{argument}={value}")
        else:
            usage_error(f"{argument} needs a value: {argument}=VALUE")
    return rest, KVArgParseConfigLoader(argv=given).load_config() if given else None


def settings_of(args: argparse.Namespace) -> VolumePool:
    """Read the settings of this process, with those of the command line on top.

    Raises
    ------
    ConfigError
        For an unknown name or a value that is refused.
    """
    return load_settings(args.config)
