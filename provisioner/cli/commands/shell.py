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

from provisioner.cli.interruption import Handler, handling, interruptible
from provisioner.cli.output.progress import step_lines
from provisioner.cli.output.terminal import complain
from provisioner.cli.selection import add_session_argument, find_volume, open_pool, session_name
from provisioner.core.errors import Cancelled, VolumeError, VolumeNotFound
from provisioner.hydration.environment import environment_of
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.system.lease import Purpose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `shell`."""
    add_session_argument(parser)
    parser.usage = "%(prog)s [-h] [--create] [--kernelspec NAME] [--bare] SESSION [-- CMD ...]"
    parser.add_argument(
        "--create", action="store_true", help="make a volume if the session has none"
    )
    parser.add_argument(
        "--kernelspec",
        metavar="NAME",
        default="python3-volume",
        help="the kernelspec of a volume made by --create (default: %(default)s)",
    )
    parser.add_argument(
        "--bare",
        action="store_true",
        help="do not hydrate the environment that the kernelspec declares: the way in when that fails",
    )


def run(args: argparse.Namespace) -> int:
    """Run the shell under the volume's lease; return its exit code."""
    pool = open_pool(args)
    command = args.command_line or _shell(pool)
    acquired = _acquire(pool, args, command[0])
    process: int | None = None
    try:
        env = _environment(pool, acquired, bare=args.bare)
        try:
            child = _start(command, acquired, env)
        except OSError as error:
            return _not_started(command[0], error)
        process = child.pid
        pool.kernel_is_up(acquired, process)
        code = _wait(child)
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
    environment, launch = environment_of(pool.settings, acquired.record, acquired.path, os.environ)
    if bare:
        return environment.launch(launch).env

    with interruptible() as cancel:
        try:
            prepared = environment.hydrate(
                launch,
                lease=acquired.lease_fd,
                progress=step_lines(sys.stderr),
                cancel=cancel,
                clock=pool.clock,
            )
        except VolumeError as error:
            if not isinstance(error, Cancelled):
                complain("The environment could not be made (see below); --bare does without it.")
            raise
    return prepared.launch.env


def _shell(pool: Pool) -> Sequence[str]:
    return (
        pool.settings.shell or os.environ.get("SHELL") or "/bin/sh",
        *pool.settings.shell_args,
    )


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


def _not_started(program: str, error: OSError) -> int:
    """Complain that the command did not start; return the exit code that shells return for that."""
    if isinstance(error, FileNotFoundError):
        complain(f"{program!r} was not found; give its path or install it in the volume.")
        return 127
    complain(f"{program!r} cannot be executed ({error.strerror}); check its permissions.")
    return 126


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child; the terminal sends it the interrupt and quit keys, and we pass on a request to end."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    handlers: dict[signal.Signals, Handler] = {
        signal.SIGTERM: pass_on,
        signal.SIGHUP: pass_on,
        signal.SIGINT: signal.SIG_IGN,
        signal.SIGQUIT: signal.SIG_IGN,
    }
    with handling(handlers):
        return child.wait()
