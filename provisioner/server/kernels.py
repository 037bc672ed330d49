"""The kernels of this server that have volumes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from provisioner.core.event import Event, Kind
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool
from provisioner.system.work import Work


@dataclass(frozen=True)
class VolumeKernel:
    """A kernel of this server and the volume it has, by their ids."""

    kernel: str
    volume: str
    session: str
    is_served: bool
    """Whether the server's own kernel manager started it; extensions such as Voilà have managers of their own."""


class VolumeKernels:
    """The kernels that have acquired a volume of the pool and not released it, pending ones included.

    `is_known` says whether the server's kernel manager runs or starts a kernel.
    """

    def __init__(self, pool: Pool, is_known: Callable[[str], bool]) -> None:
        self._pool = pool
        self._is_known = is_known
        self.on_new: Callable[[], None] = lambda: None
        """Called in any thread when a kernel has acquired a volume."""
        self._kernels: dict[str, VolumeKernel] = {}
        self._acquiring: set[str] = set()
        self._unsubscribe = pool.events.subscribe(self._on_event)

    def close(self) -> None:
        """Stop following the pool's events."""
        self._unsubscribe()

    def all(self) -> list[VolumeKernel]:
        """Return all kernels with volumes; release the volumes of those that the server has dropped."""
        # A copy first: other threads start and end kernels meanwhile.
        for kernel in list(self._kernels.values()):
            if not self._is_known(kernel.kernel):
                self._kernels.pop(kernel.kernel, None)
                if kernel.is_served:
                    self._release(kernel)
        return list(self._kernels.values())

    def find(self, kernel_id: str) -> VolumeKernel | None:
        """Return a kernel if it has a volume."""
        return self._kernels.get(kernel_id)

    def is_ours(self, kernel_id: str) -> bool:
        """Whether a kernel has a volume or waits for one."""
        return kernel_id in self._kernels or kernel_id in self._acquiring

    def _release(self, dropped: VolumeKernel) -> None:
        """Release the volume of a kernel that the server has dropped, in the background.

        The server does not tell the kernel's provisioner (`upstream.is_known`), which then releases the volume only
        when it is garbage-collected: on a quiet server after hours.
        """

        def work(cancel: threading.Event) -> None:
            record = self._pool.catalog.get(dropped.volume)
            if record is not None:
                self._pool.release(Acquired(record, self._pool.path(record), -1, dropped.kernel))

        # Without a free thread the garbage collection remains.
        with contextlib.suppress(RuntimeError):
            Work(work)

    def _on_event(self, event: Event) -> None:
        """Called in the thread of the event; single operations on a dictionary or set need no lock."""
        if event.kind is Kind.ASKED:
            self._acquiring.add(event.kernel)
        elif event.kind in {Kind.ACQUIRED, Kind.REFUSED}:
            self._acquiring.discard(event.kernel)
        if event.kind is Kind.ACQUIRED:
            self._kernels[event.kernel] = VolumeKernel(
                event.kernel, event.volume, event.session, self._is_known(event.kernel)
            )
            self.on_new()
        elif event.kind is Kind.RELEASED:
            self._kernels.pop(event.kernel, None)
