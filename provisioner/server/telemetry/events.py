"""Emits what happens to volumes to the server's event logger; the schemas lie beside this file.

The pool reports events in worker threads, but the event logger must be called on the event loop: a bounded queue lies
between them. Every field is picked by name, so that no environment and no secret gets into an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from datetime import datetime
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

_VOLUME_DETAILS = ("code", "message", "backup", "bytes", "size")
NOT_EMITTED = frozenset({Kind.ASKED})
"""Each start asks for a volume; what clients need is the result."""
_HYDRATIONS = frozenset({Kind.HYDRATION_PROGRESS, Kind.RESTORE_PROGRESS, Kind.HYDRATED})


def register_schemas(logger: EventLogger) -> None:
    """Register the schemas; a client's websocket receives only events of schemas registered before it opens."""
    for schema in sorted(SCHEMAS.glob("*.yaml")):
        logger.register_event_schema(schema)


class VolumeEvents:
    """Emits the events of one pool and of the culler."""

    def __init__(
        self, pool: Pool, logger: EventLogger, loop: asyncio.AbstractEventLoop, log: Logger
    ) -> None:
        self._logger = logger
        self._loop = loop
        self._log = log
        self._guard = threading.Lock()
        # A full queue drops its oldest event; lists show the volume as it is all the same.
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_LONGEST_QUEUE)
        self._unsubscribe = pool.events.subscribe(self._on_event)

    def close(self) -> None:
        """Stop emitting the pool's events."""
        self._unsubscribe()

    def cull(self, action: str, kernel: VolumeKernel, at: datetime, **more: Any) -> None:
        """Emit an event of the culler; the schema describes `action` and what `more` there is."""
        of = {"kernel_id": kernel.kernel, "session": kernel.session, "volume": kernel.volume}
        self._put(CULL, {"action": action, "at": at.isoformat(), **of, **more})

    def _on_event(self, event: Event) -> None:
        """Called by the pool in any thread."""
        if event.kind in NOT_EMITTED:
            return
        if event.kind in _HYDRATIONS or (event.kind is Kind.FAILED and event.kernel):
            self._put(HYDRATION, hydration_data(event))
        else:
            self._put(VOLUME, volume_data(event))

    def _put(self, schema: str, data: dict[str, Any]) -> None:
        with self._guard:
            is_first = not self._waiting
            if self._waiting and _replaces(data, self._waiting[-1][1]):
                self._waiting.pop()
            self._waiting.append((schema, data))
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
                self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        with self._guard:
            ready = list(self._waiting)
            self._waiting.clear()
        for schema, data in ready:
            try:
                self._logger.emit(schema_id=schema, data=data)
            except Exception:  # noqa: BLE001 - an event that is refused must not hold up the others
                self._log.exception("The event %s could not be emitted", schema)


def volume_data(event: Event) -> dict[str, Any]:
    """Return an event of the pool in the form of `volume/v1`."""
    data = _common(event, event.kind.value)
    if not event.kernel:
        del data["kernel_id"]
    for name in _VOLUME_DETAILS:
        value = event.details.get(name)
        if value is not None:
            data[name] = value[:_LONGEST_TEXT] if isinstance(value, str) else value
    return data


def hydration_data(event: Event) -> dict[str, Any]:
    """Return an event of the pool in the form of `hydration/v1`."""
    details = event.details
    data = {
        **_common(event, "progress"),
        "step": str(details.get("step", "")),
        "message": str(details.get("message", ""))[:_LONGEST_TEXT],
        "fraction": details.get("fraction"),
    }
    if event.kind is Kind.RESTORE_PROGRESS:
        fraction = min(details["done"] / (details["total"] or 1), 1.0)
        data.update(step="restore", message="bringing files back", fraction=fraction)
    elif event.kind is Kind.HYDRATED:
        data.update(action="done", fraction=1.0, seconds=float(details.get("seconds", 0.0)))
    elif event.kind is Kind.FAILED:
        data.update(action="failed", code=str(details.get("code", "")))
    return data


def _common(event: Event, action: str) -> dict[str, Any]:
    return {
        "action": action,
        "at": event.at.isoformat(),
        "session": event.session,
        "volume": event.volume,
        "kernel_id": event.kernel,
    }


def _replaces(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether a report of progress replaces an earlier one that was not emitted yet."""
    same = ("action", "kernel_id", "volume", "step")
    return new["action"] == "progress" and all(new[name] == old.get(name) for name in same)
