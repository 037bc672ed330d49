"""The parser of `jupyter volumes`, and the one place where errors become a line and an exit code.

A command is a module of this package with two functions, `add_arguments(parser)` and `run(args) -> int`, and a line
in `COMMANDS`. Only the module of the command that was asked for is imported.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from provisioner import __version__
from provisioner.cli.output.streams import fault_of_output, forget_output, make_usable
from provisioner.cli.output.terminal import complain
from provisioner.cli.settings import SETTINGS_HELP, split_settings
from provisioner.core.errors import VolumeError

PROGRAM = "jupyter volumes"

FAILED = 1
"""The exit code of what was refused or failed, with the reason on stderr."""


class Face(Protocol):
    """What the module of a command offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Carry the command out; return the exit code."""
        ...


@dataclass(frozen=True)
class Command:
    """One command.

    Parameters
    ----------
    name
        What people type.
    module
        The module of this package that has it.
    summary
        The line that the help shows.
    runs_another
        Whether what follows `--` is a command line of its own; it is handed over as `args.command_line`.
    """

    name: str
    module: str
    summary: str
    runs_another: bool = False

    def load(self) -> Face:
        """Import the command's module."""
        return cast(Face, import_module(f"provisioner.cli.{self.module}"))


COMMANDS: Sequence[Command] = (
    Command("list", "commands.list", "show all volumes: session, state, holder, size, age"),
    Command("show", "commands.show", "show what is known of one volume"),
    Command("path", "commands.path", "print the directory of a volume"),
    Command(
        "shell", "commands.shell", "run a shell or a command in a volume, under its lease", True
    ),
    Command("run", "commands.run", "execute notebooks, each in the volume of its own path"),
    Command("backup", "commands.backup", "back volumes up now"),
    Command("backups", "commands.backups", "show the backups there are, and what one holds"),
    Command(
        "restore",
        "commands.restore",
        "bring a volume back from a backup, or a copy of it elsewhere",
    ),
    Command(
        "verify", "commands.verify", "read backups whole and compare them with what was written"
    ),
    Command(
        "prune", "commands.prune", "delete a stopped volume's files; its backup can bring them back"
    ),
    Command("pin", "commands.pin", "never prune or evict a volume"),
    Command("unpin", "commands.pin", "let a pinned volume be pruned and evicted again"),
    Command(
        "sweep", "commands.sweep", "carry out the maintenance that is due, once or every so often"
    ),
    Command(
        "hydrate",
        "commands.hydrate",
        "bring the environment of volumes up to date, with live output",
    ),
    Command("warm", "commands.warm", "make hydrated volumes ready for sessions to come"),
    Command(
        "kernelspec", "commands.kernelspec", "add, remove or list kernelspecs that give volumes"
    ),
    Command("doctor", "doctor.doctor", "check settings, root, table, leases and kernelspecs"),
)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Returns
    -------
    0 if all went well, 1 after a failure that one line on stderr names, 2 for a command line that makes no sense,
    and 128 plus the signal's number if a signal ended it (130 at Ctrl-C).
    """
    make_usable()
    if sys.platform == "win32":
        complain(
            "Windows has no locks that a kernel could inherit (flock), so there are no volumes; "
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
        complain(_told(error, arguments))
        return FAILED


def _told(error: OSError, arguments: Sequence[str]) -> str:
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
        return _named(args.command).load().run(args)
    finally:
        # Output that cannot be written any more shows here, not in the interpreter's last breath.
        sys.stdout.flush()


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="See, reach and use the volumes of Jupyter kernels.",
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
    """Part our own arguments from the command line after `--`, of which argparse would take some for ours."""
    runs_another = any(c.name in arguments for c in COMMANDS if c.runs_another)
    if "--" not in arguments or not runs_another:
        return arguments, None
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _named(name: str) -> Command:
    return next(command for command in COMMANDS if command.name == name)
