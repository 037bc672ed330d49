"""The parser of `jupyter volumes`, and the code that turns errors into a line and an exit code.

A command is a module of this package with two functions, `add_arguments(parser)` and `run(args) -> int`, and a line
in `COMMANDS`. Only the module of the requested command is imported.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from provisioner import __version__
from provisioner.cli.output.streams import fault_of_output, forget_output, make_usable
from provisioner.cli.output.terminal import complain
from provisioner.cli.settings import SETTINGS_HELP, split_settings
from provisioner.core.errors import VolumeError

PROGRAM = "jupyter volumes"

FAILED = 1
"""The exit code of a refusal or a failure, with the reason on stderr."""


class Command(NamedTuple):
    """One command.

    Parameters
    ----------
    name
        The name that people type.
    summary
        Its line in the help.
    module
        Its module in this package; None for the one in `commands/` with its name.
    runs_another
        Whether the arguments after `--` are another command line; `run` gets them as `args.command_line`.
    """

    name: str
    summary: str
    module: str | None = None
    runs_another: bool = False

    def load(self) -> Any:
        """Import and return the command's module."""
        return import_module(f"provisioner.cli.{self.module or f'commands.{self.name}'}")


COMMANDS: Sequence[Command] = (
    Command("list", "list all volumes: session, state, age, size, holder"),
    Command("show", "describe one volume"),
    Command("path", "print the directory of a volume"),
    Command("shell", "run a shell or a command in a volume, under its lease", runs_another=True),
    Command("run", "execute notebooks, each in the volume of its own path"),
    Command("backup", "back volumes up now"),
    Command("backups", "list the backups, or describe one of them"),
    Command("restore", "bring a volume back from a backup, or extract a copy elsewhere"),
    Command("verify", "read backups completely and compare them with their checksums"),
    Command("prune", "delete a stopped volume's files; a backup can bring them back"),
    Command("pin", "never prune or evict a volume"),
    Command("unpin", "let a pinned volume be pruned and evicted again", "commands.pin"),
    Command("sweep", "carry out the maintenance that is due, once or at intervals"),
    Command("hydrate", "bring the environments of volumes up to date, with live output"),
    Command("warm", "make hydrated volumes ready for new sessions"),
    Command("kernelspec", "add, remove or list kernelspecs that give volumes"),
    Command("doctor", "check settings, root, table, leases and kernelspecs", "doctor.doctor"),
)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Returns
    -------
    0 for success, 1 for a failure that one line on stderr describes, 2 for a wrong command line, and 130
    after Ctrl-C, or after SIGTERM in a long command.
    """
    make_usable()
    if sys.platform == "win32":
        complain(
            "Windows has no locks that a kernel can inherit (flock), so volumes are not supported; "
            "use Linux, macOS or WSL."
        )
        return FAILED
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except VolumeError as error:
        complain(str(error))
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        forget_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        complain(_message(error, arguments))
        return FAILED


def _message(error: OSError, arguments: Sequence[str]) -> str:
    if (fault := fault_of_output()) is not None:
        forget_output()
        return f"The output cannot be written ({fault.strerror}); send it elsewhere."
    if isinstance(error, FileNotFoundError) and not _has_working_directory():
        return "The current directory does not exist any more; change to one that does."
    where = f"{error.filename}: " if error.filename else ""
    advice = "" if "doctor" in arguments else "; check it with `jupyter volumes doctor`"
    return f"{where}{error.strerror or error}{advice}."


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _dispatch(arguments: list[str]) -> int:
    own, another = _split_command_line(arguments)
    parser = _parser(own)
    try:
        own, config = split_settings(own, parser.error)
        args = parser.parse_args(own, argparse.Namespace(config=config, command_line=another))
        command = next(command for command in COMMANDS if command.name == args.command)
        code: int = command.load().run(args)
        return code
    finally:
        # An output that cannot be written fails here, and not when the interpreter exits.
        sys.stdout.flush()


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="List, use and maintain the volumes of Jupyter kernels.",
        epilog=SETTINGS_HELP,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jupyter-volumes {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=SETTINGS_HELP,
            allow_abbrev=False,
        )
        if command.name in arguments:
            command.load().add_arguments(own)
    return parser


def _split_command_line(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """Split our arguments from the command line after `--`, which argparse would partly take as ours."""
    runs_another = any(c.name in arguments for c in COMMANDS if c.runs_another)
    if "--" not in arguments or not runs_another:
        return arguments, None
    index = arguments.index("--")
    return arguments[:index], arguments[index + 1 :]
