"""Keeps spare volumes ready in the background; replaces a spare some seconds after a kernel has claimed it."""

from __future__ import annotations

import threading
from datetime import timedelta
from logging import Logger

from provisioner.core.errors import VolumeError
from provisioner.core.event import Event, Kind
from provisioner.maintenance.spares import warm
from provisioner.pool.pool import Pool
from provisioner.server.background.threads import Background

_AFTER = timedelta(seconds=5)
"""How long after a kernel start spares are made: until then the kernel has the machine to itself."""

_INTERVAL = timedelta(minutes=5)
"""How often missing and outdated spares are looked for without a kernel start."""


class Warming(Background):
    """Keeps as many spares ready as `VolumePool.spares` says. The next sweep deletes a spare left unfinished.

    The first spares are made some seconds after the server's own start.
    """

    def __init__(self, pool: Pool, log: Logger, after: timedelta = _AFTER) -> None:
        super().__init__("volumes-spares")
        self._pool = pool
        self._log = log
        self._after = after.total_seconds()
        self._warned: dict[str, str] = {}
        self._wake = threading.Event()
        self._wake.set()
        self._unsubscribe = pool.events.subscribe(self._on_event)

    def stop(self, within: float) -> bool:
        """Stop following the pool's events, and end the thread."""
        self._unsubscribe()
        self._cancel.set()  # first: the thread checks it when it wakes up
        self._wake.set()
        return super().stop(within)

    def _on_event(self, event: Event) -> None:
        if event.kind is Kind.ACQUIRED and event.details.get("new"):
            self._wake.set()

    def _run(self) -> None:
        while not self._cancel.is_set():
            self._wake.wait(_INTERVAL.total_seconds())
            self._wake.clear()
            if self._cancel.wait(self._after):
                return
            for kernelspec, wanted in self._pool.settings.spares.items():
                # In lower case, as kernels have it.
                self._warm(kernelspec.lower(), wanted)

    def _warm(self, kernelspec: str, wanted: int) -> None:
        def report(step: str, message: str, fraction: float | None = None) -> None:
            self._log.debug("Making a spare for %r: %s: %s", kernelspec, step, message)

        try:
            made = warm(self._pool, kernelspec, wanted, progress=report, cancel=self._cancel)
        except (VolumeError, OSError) as error:
            reason = str(error)
            # Once: it is tried again every few minutes.
            if not self._cancel.is_set() and self._warned.get(kernelspec) != reason:
                self._warned[kernelspec] = reason
                self._log.warning("No spare for %r could be made: %s", kernelspec, reason)
        except Exception:  # noqa: BLE001 - a kernelspec that fails must not end the spares of the others
            self._log.exception("No spare for %r could be made", kernelspec)
        else:
            self._warned.pop(kernelspec, None)
            if made:
                self._log.info("Made %d spare volumes for %r", made, kernelspec)
