"""The start of a kernel: its blocking work runs in threads, and ends when nobody wants the kernel any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from provisioner.kernel.upstream import (
    forget_failed_start,
    mark_active,
    require_wanted,
    settle_cancelled_start,
)
from provisioner.system.work import Work

T = TypeVar("T")


class Start:
    """The starts of one kernel, one after the other: a restart is one more.

    `manager` is the kernel's manager; None where a provisioner is used without one.
    """

    def __init__(self, manager: Any, kernel_id: str) -> None:
        self._manager = manager
        self._kernel_id = kernel_id
        self._ready: Any = None
        self._is_shut_down = False
        self._last: Work[Any] | None = None

    def begin(self) -> None:
        """Note that a start begins; `ready` is the manager's future for this very start."""
        self._ready = getattr(self._manager, "ready", None)
        self._is_shut_down = False

    def shut_down(self) -> None:
        """Note that the kernel was shut down; a restart that is under way then ends."""
        self._is_shut_down = True

    async def run(self, do: Callable[[threading.Event], T]) -> T:
        """Run blocking work in a thread and return its result.

        It begins when earlier work of this kernel is over, and ends soon after its event is set.

        Raises
        ------
        asyncio.CancelledError
            The start was cancelled (the thread may still be at work then), or the kernel was closed meanwhile.
        """
        work = Work(do, after=self._last)
        self._last = work
        try:
            await work.over(self.require_wanted)
        except BaseException:
            work.cancel()
            raise
        # Before the result: an error of the work must not reach the `ready` of a closed kernel.
        self.require_wanted()
        return work.result()

    def require_wanted(self) -> None:
        """Raise CancelledError if the kernel was closed or shut down; keep a culler from ending it otherwise."""
        mark_active(self._manager)
        require_wanted(self._manager, shut_down=self._is_shut_down)

    async def finish(self, do: Callable[[], object]) -> None:
        """Run the last piece of work: `do` gives back what the start has taken.

        It runs in a thread, after the work that a cancelled start has left behind. If waiting for it is cancelled, it
        goes on.
        """
        work = self._last = Work(lambda _: do(), after=self._last)
        await work.over()
        work.result()

    def failed(self, error: BaseException) -> None:
        """Report a failed or cancelled start to the manager, as far as jupyter_client does not."""
        forget_failed_start(self._manager, self._kernel_id)
        settle_cancelled_start(self._ready, error)
