"""A tiny parent for one hook: it sees to it that nothing of the hook outlives the one who asked for it.

Run by path in an interpreter of its own (`python -I -S supervise.py STATUS GRACE PARENT HELD…`), with the
standard library only. Its standard input is first a request (see `read_request`), then a lifeline: a byte
on it means "cancel", its end means that the caller is gone, be it by SIGKILL. Lines on the descriptor
STATUS tell `started PID`, `errno N` where the command could not be executed, and `ended CODE`.

PR_SET_PDEATHSIG alone would not do: it follows the *thread* that forked, and kernels are started from
worker threads that end. Here the only thread there is does the forking, so for the hook itself it holds.
The descriptors HELD are kept open until the last process is gone: locks that the caller took stay taken.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if (
    TYPE_CHECKING
):  # `typing` and `collections.abc` would double the time this program needs to start
    from collections.abc import Iterator

_LINUX: bool = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_HURRY = 5.0  # seconds to repeat SIGKILL for; what is left then hangs inside the operating system
_LOOK = 0.5  # seconds between two looks at who our parent is
_TICK = 0.02  # seconds between two looks at who is still there


def read_request(stream: int) -> tuple[bytes, list[bytes], dict[bytes, bytes]]:
    """Read the working directory, the command line and the environment of the hook.

    The form is `LENGTH newline`, then LENGTH bytes of fields that end in NUL: directory, number of
    arguments, the arguments, and a `NAME=value` for each variable. It travels by pipe, not as our own
    command line and environment, so that no other user sees it and no LD_LIBRARY_PATH harms us.
    """
    head = b""
    while not head.endswith(b"\n"):
        byte = os.read(stream, 1)
        if not byte:
            raise SystemExit(1)
        head += byte
    missing, parts = int(head), []
    while missing:
        part = os.read(stream, min(missing, 1 << 16))
        if not part:
            raise SystemExit(1)
        parts.append(part)
        missing -= len(part)
    directory, count, *rest = b"".join(parts).split(b"\0")[:-1]
    argv, variables = rest[: int(count)], rest[int(count) :]
    return directory, argv, dict(variable.split(b"=", 1) for variable in variables)


def main(arguments: list[str]) -> None:
    """Run the hook that standard input asks for, and outlive all of its processes."""
    status, grace, parent = int(arguments[0]), float(arguments[1]), int(arguments[2])
    for descriptor in [status, *map(int, arguments[3:])]:
        os.set_inheritable(descriptor, False)
    request = read_request(0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake = _wake_on_signals()
    hook = _start(*request, status)
    _tell(status, b"started %d\n" % hook)
    code = _wait(hook, parent, wake)
    if code is None or _anyone(hook):
        code = _end(hook, code, grace)
    _tell(status, b"ended %d\n" % code)


def _tell(status: int, line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # the caller is gone, and that is in hand
        os.write(status, line)


def _prctl(option: int, value: int) -> None:
    if not _LINUX:
        return
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable when a child ends or somebody asks us to stop."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def _start(directory: bytes, argv: list[bytes], env: dict[bytes, bytes], status: int) -> int:
    supervisor = os.getpid()
    _prctl(0, 0)  # loads ctypes before the fork
    child = os.fork()
    if child:
        return child
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for name in (
            "SIGPIPE",
            "SIGXFSZ",
        ):  # CPython ignores them, and what is ignored is inherited
            signal.signal(getattr(signal, name), signal.SIG_DFL)
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
    """Wait for the hook's own end: its exit code, or None when it is to be ended."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == hook:
                    return os.waitstatus_to_exitcode(ended[1])
        readable, _, _ = select.select([0, wake], [], [], _LOOK)
        if 0 in readable or os.getppid() != parent:
            return None
        if wake in readable and set(os.read(wake, 512)) - {signal.SIGCHLD}:
            return None


def _anyone(hook: int) -> bool:
    """Whether any process of the hook is left: children that were orphaned are ours by now."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        if _LINUX:
            return False
    else:
        return True
    return _signal_group(hook, 0)


def _end(hook: int, code: int | None, grace: float) -> int:
    """End every process: TERM, time to tidy up, KILL. Killing Nix first would orphan its builder."""
    _signal_group(hook, signal.SIGTERM)
    for process in _descendants():
        if _group(process) != hook:
            _signal(process, signal.SIGTERM)
    begin, killing = time.monotonic(), False
    while time.monotonic() - begin < grace + _HURRY:
        code = _reap(hook, code)
        tree = set(_descendants())
        if not tree and not _signal_group(hook, 0):
            break
        if killing or time.monotonic() - begin >= grace:
            killing = True
            _signal_group(hook, signal.SIGKILL)
            for process in tree:
                _signal(process, signal.SIGKILL)
        time.sleep(_TICK)
    return -signal.SIGKILL if code is None else code


def _reap(hook: int, code: int | None) -> int | None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == hook:
                code = os.waitstatus_to_exitcode(ended[1])
    return code


def _group(process: int) -> int | None:
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return None


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _descendants() -> Iterator[int]:
    """Yield the processes below this one. A session of one's own (`setsid`) is no way out on Linux."""
    children: dict[int, list[int]] = {}
    for process, parent in _processes():
        children.setdefault(parent, []).append(process)
    waiting = list(children.get(os.getpid(), []))
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children.get(process, [])


def _processes() -> Iterator[tuple[int, int]]:
    """Yield the id of each process with its parent's, without those that have ended."""
    if not _LINUX:
        with os.popen("exec /bin/ps -A -o pid=,ppid=") as listing:  # noqa: S605 - a constant
            for line in listing:
                process, parent = line.split()
                yield int(process), int(parent)
        return
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command's name stands in parentheses and may hold any byte, ")" too.
                    fields = file.read().rpartition(b")")[2].split()
                if fields[0] not in {b"Z", b"X"}:
                    yield int(name), int(fields[1])


if __name__ == "__main__":
    main(sys.argv[1:])
