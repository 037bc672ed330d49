"""Which kernels of this server have volumes: told by the pool, kernel ids to volume ids."""

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
class Occupant:
    """A kernel of this server and the volume it has.

    Parameters
    ----------
    kernel
        Its id.
    volume
        The volume's id.
    session
        The volume's session.
    is_served
        Whether the server's own manager started it; other extensions, such as Voilà, start kernels of their own.
    """

    kernel: str
    volume: str
    session: str
    is_served: bool


class VolumeKernels:
    """The kernels that acquired a volume of the pool and have not released it; also while they are still pending.

    Parameters
    ----------
    pool
        The pool, whose events tell.
    is_known
        Whether the server knows a kernel, as running or as starting.
    """

    def __init__(self, pool: Pool, is_known: Callable[[str], bool]) -> None:
        self._pool = pool
        self._is_known = is_known
        self.on_new: Callable[[], None] = lambda: None
        """Called, in any thread, when there is one more."""
        self._occupants: dict[str, Occupant] = {}
        self._asking: set[str] = set()
        self._unsubscribe = pool.events.subscribe(self._on_event)

    def close(self) -> None:
        """Listen no more."""
        self._unsubscribe()

    def all(self) -> list[Occupant]:
        """Return all kernels with volumes."""
        # A copy first: other threads start and end kernels meanwhile.
        for occupant in list(self._occupants.values()):
            if not self._is_known(occupant.kernel):
                self._occupants.pop(occupant.kernel, None)
                if occupant.is_served:
                    self._give_back(occupant)
        return list(self._occupants.values())

    def find(self, kernel: str) -> Occupant | None:
        """Return a kernel if it has a volume."""
        return self._occupants.get(kernel)

    def is_ours(self, kernel: str) -> bool:
        """Whether a kernel has a volume or waits for one."""
        return kernel in self._occupants or kernel in self._asking

    def of_volume(self, volume: str) -> list[str]:
        """Return the ids of this server's kernels in a volume; two for a moment when a notebook changes its kernel."""
        return [occupant.kernel for occupant in self.all() if occupant.volume == volume]

    def _give_back(self, gone: Occupant) -> None:
        """Give the volume of a kernel back that the server has dropped, in the background.

        One that dies at every start is dropped without a word to its provisioner (jupyter_server 2.21), which then
        gives the volume back when it is garbage: on a quiet server in hours.
        """

        def work(cancel: threading.Event) -> None:
            record = self._pool.storage.registry.volumes.get(gone.volume)
            if record is not None:
                self._pool.release(Acquired(record, self._pool.path(record), -1, gone.kernel))

        # No thread to be had now: then it is given back when the kernel's provisioner is garbage.
        with contextlib.suppress(RuntimeError):
            Work(work)

    def _on_event(self, event: Event) -> None:
        """Called in the thread in which it happens; single dictionary operations need no lock."""
        if event.kind is Kind.ASKED:
            self._asking.add(event.kernel)
        elif event.kind in {Kind.ACQUIRED, Kind.REFUSED}:
            self._asking.discard(event.kernel)
        if event.kind is Kind.ACQUIRED:
            self._occupants[event.kernel] = Occupant(
                event.kernel, event.volume, event.session, self._is_known(event.kernel)
            )
            self.on_new()
        elif event.kind is Kind.RELEASED:
            self._occupants.pop(event.kernel, None)
