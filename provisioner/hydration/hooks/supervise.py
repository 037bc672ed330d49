"""A tiny parent process for one hook: it ensures that no process of the hook outlives the caller.

It is run by path in an interpreter of its own (`python -I -S supervise.py STATUS GRACE PARENT HELD…`), with the
standard library only. Its standard input is first a request: the hook's directory, command line and environment, by
`marshal`. Other users cannot read it there, as they could a command line, and its LD_LIBRARY_PATH does not affect this
process. After that, standard input is a lifeline: it ends when the hook is cancelled or the caller has ended, even by
SIGKILL. Lines go to the descriptor STATUS: `started PID`, `errno N` if the command could not be executed, `ended CODE`.

PR_SET_PDEATHSIG alone is not enough: it follows the *thread* that forked, and kernels are started from worker
threads that end. This process has only one thread, so for the hook itself the signal is reliable.
The descriptors HELD stay open until the last process has ended: locks that the caller took stay locked.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import sys
import time

# Importing `typing` and `collections.abc` would double the start time of this program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINUX: bool = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_KILLING = 5.0  # seconds of repeated SIGKILL; a process that is left then hangs in the system
_LOOK = 0.5  # seconds between two looks at our parent's process id
_TICK = 0.02  # seconds between two looks at the processes that are left


def main(arguments: list[str]) -> None:
    """Run the hook that standard input requests, and end after the last of its processes."""
    status, grace, parent = int(arguments[0]), float(arguments[1]), int(arguments[2])
    for descriptor in [status, *map(int, arguments[3:])]:
        os.set_inheritable(descriptor, False)
    directory, argv, env = marshal.load(sys.stdin.buffer)  # noqa: S302 - the caller is ours
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake = _wake_on_signals()
    hook = _start(directory, argv, env, status)
    _report(status, b"started %d\n" % hook)
    code = _wait(hook, parent, wake)
    if code is None or _is_any_left(hook):
        code = _end(hook, code, grace)
    _report(status, b"ended %d\n" % code)


def _report(status: int, line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # the caller has ended; `_wait` handles that
        os.write(status, line)


def _prctl(option: int, value: int) -> None:
    if not _LINUX:
        return
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable when a child ends or a signal asks us to stop."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _HANDLED:
        signal.signal(number, lambda *_: None)
    return reader


def _start(directory: bytes, argv: list[bytes], env: dict[bytes, bytes], status: int) -> int:
    supervisor = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        signal.set_wakeup_fd(-1)
        # CPython ignores the last two, and a child inherits that.
        for number in (*_HANDLED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(directory)
        os.execve(argv[0], argv, env)  # noqa: S606 - the caller resolved it
    except OSError as error:
        os.write(status, b"errno %d\n" % (error.errno or 0))
    finally:
        os._exit(127)


def _wait(hook: int, parent: int, wake: int) -> int | None:
    """Wait for the hook to end and return its exit code; None if it has to be ended."""
    while True:
        code = _reap(hook, None)
        if code is not None:
            return code
        readable, _, _ = select.select([0, wake], [], [], _LOOK)
        if 0 in readable or os.getppid() != parent:
            return None
        if wake in readable and set(os.read(wake, 512)) - {signal.SIGCHLD}:
            return None


def _is_any_left(hook: int) -> bool:
    """Whether any process of the hook is left; on Linux, orphaned ones have become our children."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        return True
    return _signal_group(hook, 0)


def _end(hook: int, code: int | None, grace: float) -> int:
    """End every process: TERM, a grace period, KILL. Killing Nix at once would orphan its builder."""
    _signal_all(hook, signal.SIGTERM, _descendants())
    begin = time.monotonic()
    while time.monotonic() - begin < grace + _KILLING:
        code = _reap(hook, code)
        left = set(_descendants())
        if not left and not _signal_group(hook, 0):
            break
        if time.monotonic() - begin >= grace:
            _signal_all(hook, signal.SIGKILL, left)
        time.sleep(_TICK)
    return -signal.SIGKILL if code is None else code


def _reap(hook: int, code: int | None) -> int | None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == hook:
                code = os.waitstatus_to_exitcode(ended[1])
    return code


def _signal_all(hook: int, number: int, processes: Iterable[int]) -> None:
    """Signal the hook's process group, and each of the processes that has left it."""
    _signal_group(hook, number)
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process) != hook:
                os.kill(process, number)


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _descendants() -> Iterator[int]:
    """Yield the processes below this one; on Linux also those that started a session of their own (`setsid`)."""
    children: dict[int, list[int]] = {}
    for process, parent in _processes():
        children.setdefault(parent, []).append(process)
    waiting = list(children.get(os.getpid(), []))
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children.get(process, [])


def _processes() -> Iterator[tuple[int, int]]:
    """Yield the ids of each running process and its parent."""
    if not _LINUX:
        with os.popen("exec /bin/ps -A -o pid=,ppid=") as output:  # noqa: S605 - a constant
            for line in output:
                process, parent = line.split()
                yield int(process), int(parent)
        return
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command's name is in parentheses and may contain any byte, even ")".
                    fields = file.read().rpartition(b")")[2].split()
                if fields[0] not in {b"Z", b"X"}:
                    yield int(name), int(fields[1])


if __name__ == "__main__":
    main(sys.argv[1:])
