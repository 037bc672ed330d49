"""Emits what happens to volumes to the server's event logger; the schemas lie beside this file.

The pool reports events in worker threads, but the event logger must be called on the event loop: a bounded queue lies
between them. Every field is picked by name, so that no environment and no secret gets into an event.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from logging import Logger
from pathlib import Path
from typing import Any

from jupyter_events import EventLogger

from provisioner.core.event import Event, Kind
from provisioner.pool.pool import Pool
from provisioner.server.kernels import VolumeKernel

SCHEMAS = Path(__file__).parent / "schemas"
VOLUME = "https://events.jupyter.org/jupyter_volumes/volume/v1"
HYDRATION = "https://events.jupyter.org/jupyter_volumes/hydration/v1"
CULL = "https://events.jupyter.org/jupyter_volumes/cull/v1"

_LONGEST_TEXT = 2000
_LONGEST_QUEUE = 1000

_VOLUME_DETAILS: Mapping[str, type] = {
    "code": str,
    "message": str,
    "backup": str,
    "bytes": int,
    "size": int,
}
NOT_EMITTED = frozenset({Kind.ASKED})
"""Each start asks for a volume; what clients need is the result."""
_HYDRATIONS = frozenset({Kind.HYDRATION_PROGRESS, Kind.RESTORE_PROGRESS, Kind.HYDRATED})


def register_schemas(logger: EventLogger) -> None:
    """Register the schemas; a client's websocket receives only events of schemas registered before it opens."""
    for schema in sorted(SCHEMAS.glob("*.yaml")):
        logger.register_event_schema(schema)


class VolumeEvents:
    """Emits the events of one pool and of the culler.

    Parameters
    ----------
    pool
        The pool.
    logger
        The server's event logger.
    loop
        The server's event loop.
    log
        The server's log.
    """

    def __init__(
        self, pool: Pool, logger: EventLogger, loop: asyncio.AbstractEventLoop, log: Logger
    ) -> None:
        self._pool = pool
        self._logger = logger
        self._loop = loop
        self._log = log
        self._guard = threading.Lock()
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._unsubscribe = pool.events.subscribe(self._on_event)

    def close(self) -> None:
        """Stop emitting the pool's events."""
        self._unsubscribe()

    # -- called by the culler, on the event loop ---------------------------------------------------------------

    def warning(self, kernel: VolumeKernel, now: datetime, at: datetime) -> None:
        """Announce that a kernel is shut down at `at` unless it is used or kept."""
        self._put_cull("warning", kernel, at, seconds=round((at - now).total_seconds()))

    def kept(self, kernel: VolumeKernel, now: datetime, reason: str) -> None:
        """Announce that a kernel stays although users were warned."""
        self._put_cull("kept", kernel, now, reason=reason)

    def culled(self, kernel: VolumeKernel, now: datetime, idle: timedelta) -> None:
        """Announce that a kernel was shut down for idleness."""
        path = str(self._pool.root.layout.volume(kernel.volume))
        self._put_cull("culled", kernel, now, path=path, seconds=round(idle.total_seconds()))

    def _put_cull(self, action: str, kernel: VolumeKernel, at: datetime, **more: Any) -> None:
        data = {
            "action": action,
            "at": at.isoformat(),
            "kernel_id": kernel.kernel,
            "session": kernel.session,
            "volume": kernel.volume,
            **more,
        }
        self._put(CULL, data)

    # -- called by the pool, in any thread ---------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if event.kind in NOT_EMITTED:
            return
        if event.kind in _HYDRATIONS or _is_failed_hydration(event):
            self._put(HYDRATION, hydration_data(event))
        else:
            self._put(VOLUME, volume_data(event))

    def _put(self, schema: str, data: dict[str, Any]) -> None:
        with self._guard:
            if self._waiting and _replaces(data, self._waiting[-1][1]):
                self._waiting.pop()
            elif len(self._waiting) >= _LONGEST_QUEUE:
                # No harm: lists still show the volume as it is.
                self._waiting.popleft()
            self._waiting.append((schema, data))
            is_first = len(self._waiting) == 1
        if is_first:
            try:
                self._loop.call_soon_threadsafe(self._flush)
            except RuntimeError:
                # The loop is closed: the server has stopped.
                self._waiting.clear()

    def _flush(self) -> None:
        with self._guard:
            ready, self._waiting = self._waiting, deque()
        for schema, data in ready:
            try:
                self._logger.emit(schema_id=schema, data=data)
            except Exception:  # noqa: BLE001 - an event that is refused must not hold up the others
                self._log.exception("The event %s could not be emitted", schema)


def volume_data(event: Event) -> dict[str, Any]:
    """Return an event of the pool in the form of `volume/v1`."""
    data: dict[str, Any] = {
        "action": event.kind.value,
        "at": event.at.isoformat(),
        "session": event.session,
        "volume": event.volume,
    }
    if event.kernel:
        data["kernel_id"] = event.kernel
    for name, kind in _VOLUME_DETAILS.items():
        value = event.details.get(name)
        if isinstance(value, kind):
            data[name] = _short(value)
    return data


def hydration_data(event: Event) -> dict[str, Any]:
    """Return an event of the pool in the form of `hydration/v1`."""
    details = event.details
    data: dict[str, Any] = {
        "action": "progress",
        "at": event.at.isoformat(),
        "session": event.session,
        "volume": event.volume,
        "kernel_id": event.kernel,
        "step": str(details.get("step", "")),
        "message": _short(str(details.get("message", ""))),
        "fraction": details.get("fraction"),
    }
    if event.kind is Kind.RESTORE_PROGRESS:
        data.update(step="restore", message="bringing files back", fraction=_fraction(details))
    elif event.kind is Kind.HYDRATED:
        data.update(action="done", fraction=1.0, seconds=float(details.get("seconds", 0.0)))
    elif event.kind is Kind.FAILED:
        data.update(action="failed", code=str(details.get("code", "")))
    return data


def _replaces(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether a report of progress replaces an earlier one that was not emitted yet."""
    same = ("action", "kernel_id", "volume", "step")
    return new["action"] == "progress" and all(new[name] == old.get(name) for name in same)


def _is_failed_hydration(event: Event) -> bool:
    return event.kind is Kind.FAILED and bool(event.kernel)


def _fraction(details: Mapping[str, Any]) -> float | None:
    done, total = details.get("done"), details.get("total")
    if not isinstance(done, int) or not isinstance(total, int) or total <= 0:
        return None
    return min(done / total, 1.0)


def _short(value: Any) -> Any:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else value
