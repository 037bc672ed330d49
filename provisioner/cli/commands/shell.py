"""`jupyter volumes shell`: runs a shell or a command in a volume, under its lease."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from provisioner.cli.arguments import add_session_argument, add_switch
from provisioner.cli.commands.hydrate import hydrate
from provisioner.cli.interruption import handling, interruptible
from provisioner.cli.output.terminal import complain
from provisioner.cli.selection import find_volume, open_pool, session_name
from provisioner.core.errors import Cancelled, ConfigError, VolumeError, VolumeNotFound
from provisioner.hydration.environment import environment_of
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.system.lease import Purpose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `shell`."""
    add_session_argument(parser)
    parser.usage = "%(prog)s [-h] [--create] [--kernelspec NAME] [--bare] SESSION [-- CMD ...]"
    add_switch(parser, "--create", "make a volume if the session has none")
    parser.add_argument(
        "--kernelspec",
        metavar="NAME",
        default="python3-volume",
        help="the kernelspec of a volume made by --create (default: %(default)s)",
    )
    add_switch(
        parser,
        "--bare",
        "do not hydrate the environment that the kernelspec declares: the way in when that fails",
    )


def run(args: argparse.Namespace) -> int:
    """Run the shell under the volume's lease; return its exit code."""
    pool = open_pool(args)
    shell = pool.settings.shell or os.environ.get("SHELL") or "/bin/sh"
    command = args.command_line or [shell, *pool.settings.shell_args]
    acquired = _acquire(pool, args, command[0])
    process: int | None = None
    try:
        env = _environment(pool, acquired, bare=args.bare)
        try:
            child = _start(command, acquired, env)
        except FileNotFoundError:
            complain(f"{command[0]!r} was not found; give its path or install it in the volume.")
            return 127  # as shells return it, and likewise 126
        except OSError as error:
            reason = error.strerror
            complain(f"{command[0]!r} cannot be executed ({reason}); check its permissions.")
            return 126
        process = child.pid
        with handling(_handlers(child)):
            pool.kernel_is_up(acquired, process)
            code = child.wait()
        return code if code >= 0 else 128 - code
    finally:
        pool.release(acquired, process)


def _acquire(pool: Pool, args: argparse.Namespace, program: str) -> Acquired:
    """Acquire the volume; its lease names the program to other processes."""
    try:
        record = find_volume(pool, args.session)
        session, kernelspec = record.session, record.kernelspec
    except VolumeNotFound:
        if not args.create:
            raise
        session = session_name(args.session)
        kernelspec = volume_kernelspec(args.kernelspec, "--kernelspec ").name
    return pool.acquire(session, kernelspec, kernel=program, purpose=Purpose.SHELL)


def _environment(pool: Pool, acquired: Acquired, *, bare: bool) -> Mapping[str, str]:
    """Return the environment that a kernel of this volume gets, hydrated unless `bare`."""
    if bare:
        environment, launch = environment_of(
            pool.settings, acquired.record, acquired.path, os.environ
        )
        return environment.launch(launch).env
    with interruptible() as cancel:
        try:
            return hydrate(pool, acquired, cancel, sys.stderr).launch.env
        except VolumeError as error:
            if not isinstance(error, (Cancelled, ConfigError)):
                complain("The environment could not be made (see below); --bare does without it.")
            raise


def _start(
    argv: Sequence[str], acquired: Acquired, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the child, which inherits the lease."""
    return subprocess.Popen(
        argv,
        # The volume's own commands come first, so its PATH is searched and not ours.
        executable=shutil.which(argv[0], path=env.get("PATH")) or argv[0],
        cwd=acquired.path,
        env={**env, "PWD": str(acquired.path)},
        pass_fds=(acquired.lease_fd,),
    )


def _handlers(child: subprocess.Popen[bytes]) -> Mapping[signal.Signals, Any]:
    """Return handlers that pass on a request to end; the terminal sends the interrupt and quit keys to the child."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    return {
        signal.SIGTERM: pass_on,
        signal.SIGHUP: pass_on,
        signal.SIGINT: signal.SIG_IGN,
        signal.SIGQUIT: signal.SIG_IGN,
    }
