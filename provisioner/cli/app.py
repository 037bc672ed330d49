"""The parser of `jupyter volumes`, and the code that turns errors into a line and an exit code.

A command is a module of this package with two functions, `add_arguments(parser)` and `run(args) -> int`, and a line
in `COMMANDS`. Only the module of the requested command is imported.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from traitlets.config import Config
from traitlets.config.loader import KVArgParseConfigLoader

from provisioner import __version__
from provisioner.cli.output.terminal import complain
from provisioner.core.errors import VolumeError

PROGRAM = "jupyter volumes"

_SETTING = "--VolumePool."

_SETTINGS_HELP = (
    "Any setting can be given for one command as --VolumePool.NAME=VALUE, "
    "for example --VolumePool.root=/scratch/volumes."
)


class Command(NamedTuple):
    """One command: its name, its line in the help, and its module if that is not the one in `commands/` of its name.

    If it `runs_another`, the arguments after `--` are another command line; `run` gets them as `args.command_line`.
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

    It is 0 for success, 1 for a failure that one line on stderr describes, 2 for a wrong command line, and 130 after
    Ctrl-C, or after SIGTERM in a long command.
    """
    _make_streams_usable()
    if sys.platform == "win32":
        complain(
            "Windows has no locks that a kernel can inherit (flock), so volumes are not supported; "
            "use Linux, macOS or WSL."
        )
        return 1
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except VolumeError as error:
        complain(str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _forget_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        complain(_message(error, arguments))
    return 1


def _make_streams_usable() -> None:
    """Open the streams that are closed, and let printing fail only where nothing can be written."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # Closed by `>&-`: a file of ours would get the number, and our children would use it as their stream.
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        # A terminal without Unicode shall show the number of an emoji, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Discard further output: the interpreter must not flush to a closed pipe (`… list | head`) or a full disk."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _message(error: OSError, arguments: Sequence[str]) -> str:
    try:
        sys.stdout.flush()
    except OSError as fault:
        _forget_output()
        return f"The output cannot be written ({fault.strerror}); send it elsewhere."
    try:
        os.getcwd()
    except FileNotFoundError:
        return "The current directory does not exist any more; change to one that does."
    where = f"{error.filename}: " if error.filename else ""
    advice = "" if "doctor" in arguments else "; check it with `jupyter volumes doctor`"
    return f"{where}{error.strerror or error}{advice}."


def _dispatch(arguments: list[str]) -> int:
    named = [command for command in COMMANDS if command.name in arguments]
    another: list[str] | None = None
    if "--" in arguments and any(command.runs_another for command in named):
        # argparse would take a part of the other command line as ours.
        index = arguments.index("--")
        arguments, another = arguments[:index], arguments[index + 1 :]
    parser = _parser(named)
    try:
        own, config = _split_settings(arguments, parser.error)
        args = parser.parse_args(own, argparse.Namespace(config=config, command_line=another))
        command = next(command for command in COMMANDS if command.name == args.command)
        code: int = command.load().run(args)
        return code
    finally:
        # An output that cannot be written fails here, and not when the interpreter exits.
        sys.stdout.flush()


def _split_settings(
    arguments: Sequence[str], usage_error: Callable[[str], NoReturn]
) -> tuple[list[str], Config | None]:
    """Separate the settings of a command line (None if there are none) from its other arguments, up to `--`."""
    rest: list[str] = []
    given: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif not argument.startswith(_SETTING):
            rest.append(argument)
        elif not re.fullmatch(r"\w+(=.*)?", argument.removeprefix(_SETTING), re.DOTALL):
            usage_error(f"{argument} is not a setting; write {_SETTING}NAME=VALUE")
        elif "=" in argument:
            given.append(argument)
        elif (value := next(remaining, None)) is not None:
            given.append(f"{argument}={value}")
        else:
            usage_error(f"{argument} needs a value: {argument}=VALUE")
    return rest, KVArgParseConfigLoader(argv=given).load_config() if given else None


def _parser(named: Sequence[Command]) -> argparse.ArgumentParser:
    """Return the parser; only the named commands, of which one is the requested one, declare their arguments."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="List, use and maintain the volumes of Jupyter kernels.",
        epilog=_SETTINGS_HELP,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jupyter-volumes {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=_SETTINGS_HELP,
            allow_abbrev=False,
        )
        if command in named:
            command.load().add_arguments(own)
    return parser
