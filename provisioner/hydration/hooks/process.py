"""Runs one hook: a program of somebody else, without our variables, of which no process is left afterwards."""

from __future__ import annotations

import contextlib
import marshal
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event

from provisioner.core.errors import Cancelled, HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks import supervise
from provisioner.hydration.hooks.output import Output
from provisioner.hydration.step import Place

GRACE = timedelta(milliseconds=400)
"""Time between TERM and KILL; a cancelled hydration ends in less than a second."""

# Seconds: `GRACE`, and five for processes that SIGKILL does not end at once.
_SUPERVISOR_LIMIT = 10.0
_POLL = 0.05  # seconds between two looks at `cancel`
_CHUNK = 1 << 12  # bytes; bounds the lines that are reported before the next look at `cancel`
_held: ContextVar[tuple[int, ...]] = ContextVar("held", default=())


@dataclass(frozen=True)
class Ended:
    """How a hook ended."""

    code: int
    """Its exit code, or the negative number of the signal that ended it."""
    tail: str
    """The last lines it printed."""
    captured: bytes = b""
    """All of its standard output, if the caller asked for it."""

    @property
    def how(self) -> str:
        """The end in words, for a message."""
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-self.code).name}"
        return f"was ended by signal {-self.code}"


@contextlib.contextmanager
def holding(*descriptors: int) -> Iterator[None]:
    """Pass locks on to the hooks run within: they stay locked until the last process of a hook has ended.

    An OS lock ends with its last descriptor. If only the caller had it, a killed caller would free the lock while
    its hook is still being ended, and the next caller would work beside that hook.
    """
    token = _held.set((*_held.get(), *descriptors))
    try:
        yield
    finally:
        _held.reset(token)


@dataclass(frozen=True)
class StepHooks:
    """Runs the hooks of one step in one volume: output goes to the volume's log and, line by line, to `progress`."""

    step: str
    place: Place
    progress: StepProgress
    cancel: Event

    def report(self, message: str, fraction: float | None = None) -> None:
        """Report what the step is doing."""
        self.progress(self.step, message, fraction)

    def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: Path | None = None,
        timeout: timedelta | None = None,
        capture: bool = False,
    ) -> Ended:
        """Run a program to its end, and end every process it started.

        It runs in a session of its own with an empty standard input. Whatever happens (its own end, `cancel`, the
        timeout, an exception in `progress`, a SIGKILL to this process), a supervisor ends what is left of it: TERM,
        `GRACE`, KILL; on Linux also processes that have moved to another session.

        Parameters
        ----------
        argv, env
            The command line, and the whole environment. A program's name is looked up on the PATH of `env`, a relative
            path starts at `cwd`.
        cwd
            The directory to run in; the volume's by default.
        timeout
            Ends the hook when it takes longer; None for never.
        capture
            Return standard output whole instead of reporting and logging it.

        Raises
        ------
        HydrationFailed
            It could not be started, or took too long.
        Cancelled
            `cancel` was set. No process of the hook is left then.
        """
        cwd, name = cwd or self.place.volume, argv[0]
        search = env.get("PATH", os.defpath)
        program = str(cwd / name) if "/" in name else shutil.which(name, path=search)
        if program is None:
            raise HydrationFailed(
                f"{name!r} was not found on the hook's PATH: install it or write its full path"
            )
        with contextlib.closing(Output(self.place.log, self.report)) as output:
            output.announce(f"$ {shlex.join(argv)}")
            hook = _Hook([program, *argv[1:]], cwd, env, capture=capture)
            with contextlib.closing(hook):
                hook.follow(output, self.cancel, timeout)
        if errno := hook.said.get(b"errno"):
            raise HydrationFailed(
                f"{name!r} could not be executed ({os.strerror(errno)}): "
                "name a program that can be run on this machine"
            )
        code = hook.said.get(b"ended", -signal.SIGKILL)
        return Ended(code, output.tail, bytes(hook.captured))


class _Hook:
    """A supervisor and the hook under it, as the caller sees them."""

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, capture: bool
    ) -> None:
        self.said: dict[bytes, int] = {}
        self.captured = bytearray()
        variables = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        request = (os.fsencode(cwd), [os.fsencode(word) for word in argv], variables)
        status, theirs = os.pipe()
        held = _held.get()
        try:
            self._supervisor = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", supervise.__file__),
                    *(str(theirs), str(GRACE.total_seconds()), str(os.getpid()), *map(str, held)),
                ],
                cwd="/",
                env={k: v for k, v in os.environ.items() if k.startswith(("LD_", "DYLD_"))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if capture else subprocess.STDOUT,
                pass_fds=(theirs, *held),
                start_new_session=True,
            )
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(theirs)
        self._status = os.fdopen(status, "rb", buffering=0)
        assert self._supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `follow` notices a dead supervisor
            self._supervisor.stdin.write(marshal.dumps(request))
            self._supervisor.stdin.flush()

    def follow(self, output: Output, cancel: Event, timeout: timedelta | None) -> None:
        """Pass on what the hook prints until none of its processes is left."""
        limit = None if timeout is None else time.monotonic() + timeout.total_seconds()
        # Standard output is reported and logged; if it is captured, standard error is instead.
        reported, captured = self._supervisor.stdout, None
        if self._supervisor.stderr is not None:
            reported, captured = self._supervisor.stderr, self._supervisor.stdout
        with selectors.DefaultSelector() as selector:
            for stream in (reported, captured, self._status):
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ)
            watching = True
            while watching or selector.select(0):
                for key, _ in selector.select(_POLL):
                    data = os.read(key.fd, _CHUNK)
                    if not data:
                        selector.unregister(key.fileobj)
                        # Stop at the supervisor's end: if it was killed, a process that we no longer
                        # control might hold the output pipes open for ever.
                        watching = watching and key.fileobj is not self._status
                    elif key.fileobj is reported:
                        output.feed(data)
                    elif key.fileobj is captured:
                        self.captured += data
                    else:
                        lines = (line.split() for line in data.splitlines())
                        self.said.update((word, int(number)) for word, number in lines)
                if cancel.is_set():
                    raise Cancelled("hydration was cancelled; start the kernel again to resume it")
                if limit is not None and time.monotonic() > limit:
                    raise HydrationFailed(
                        f"the command took longer than {timeout}: make it faster or allow more time",
                        output.tail,
                    )

    def close(self) -> None:
        """Close the lifeline, and return when the supervisor has ended every process."""
        assert self._supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._supervisor.stdin.close()
        try:
            orderly = self._supervisor.wait(_SUPERVISOR_LIMIT) == 0
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            orderly = self._supervisor.wait() == 0
        if not orderly and b"started" in self.said:
            # The supervisor was killed, and its hook with it. Of the rest we only know the process group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.said[b"started"], signal.SIGKILL)
        for stream in (self._supervisor.stdout, self._supervisor.stderr, self._status):
            if stream is not None:
                stream.close()
