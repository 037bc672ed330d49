"""`jupyter volumes shell`: a shell or a command in a volume, which nobody else can use meanwhile."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from provisioner.cli.output.terminal import complain
from provisioner.cli.output.transfer import interruptible
from provisioner.cli.selection import add_session_argument, find_volume, open_pool, session_name
from provisioner.core.errors import Cancelled, VolumeError, VolumeNotFound
from provisioner.hydration.environment import environment_of
from provisioner.hydration.kernelspec import volume_kernelspec
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.system.lease import Purpose

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `shell`."""
    add_session_argument(parser)
    parser.usage = "%(prog)s [-h] [--create] [--kernelspec NAME] [--bare] SESSION [-- CMD ...]"
    parser.add_argument(
        "--create", action="store_true", help="make the volume if the session has none"
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
        help="without the environment that the kernelspec declares: the way in when that fails",
    )


def run(args: argparse.Namespace) -> int:
    """Run the shell under the volume's lease; return its exit code."""
    pool = open_pool(args)
    command = args.command_line or _shell(pool)
    acquired = _acquire(pool, args, command[0])
    process: int | None = None
    try:
        env = _environment(pool, acquired, bare=args.bare)
        child = _start(command, acquired, env)
        process = child.pid
        pool.kernel_is_up(acquired, process)
        code = _wait(child)
        return code if code >= 0 else 128 - code
    except _NotStarted as error:
        complain(str(error))
        return error.exit_code
    finally:
        pool.release(acquired, process)


class _NotStarted(Exception):
    """The command does not exist or cannot be executed; its exit code is the one that shells have for that."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _acquire(pool: Pool, args: argparse.Namespace, program: str) -> Acquired:
    """Lease the volume for a shell, which others are told by the name of its program."""
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
    """Return the environment that a kernel of this volume has, hydrated if it has to be."""
    environment, launch = environment_of(pool.settings, acquired.record, acquired.path, os.environ)
    if bare:
        return environment.launch(launch).env

    def tell(step: str, message: str, fraction: float | None = None) -> None:
        print(f"{step}: {message}", file=sys.stderr)

    try:
        with interruptible() as cancel:
            prepared = environment.hydrate(
                launch, lease=acquired.lease_fd, progress=tell, cancel=cancel, clock=pool.clock
            )
    except Cancelled as error:
        raise KeyboardInterrupt from error
    except VolumeError:
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
    """Start the child with the lease in its hands."""
    try:
        return subprocess.Popen(
            argv,
            # The volume's own commands come first, so the search goes along its PATH and not along ours.
            executable=shutil.which(argv[0], path=env.get("PATH")) or argv[0],
            cwd=acquired.path,
            env={**env, "PWD": str(acquired.path)},
            pass_fds=(acquired.lease_fd,),
        )
    except FileNotFoundError:
        raise _NotStarted(
            f"{argv[0]!r} was not found; give its path or install it in the volume.", 127
        ) from None
    except OSError as error:
        raise _NotStarted(
            f"{argv[0]!r} cannot be executed ({error.strerror}); check its permissions.", 126
        ) from None


def _wait(child: subprocess.Popen[bytes]) -> int:
    with _signals_are_for(child):
        return child.wait()


@contextmanager
def _signals_are_for(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave the terminal's interrupt and quit keys to the child, which gets them too; pass on a request to end."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    def leave(number: int, frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    before |= {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
