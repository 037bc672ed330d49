"""A client of the server's events websocket."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import websocket

from tests.support.serving import Server

CULL = "https://events.jupyter.org/jupyter_volumes/cull/v1"


class Listener:
    """Receives the events of a server and keeps them."""

    def __init__(self, channel: websocket.WebSocket) -> None:
        self._channel = channel
        self.heard: list[dict[str, Any]] = []

    def hear(self, fits: Callable[[dict[str, Any]], bool], within: float = 30.0) -> dict[str, Any]:
        """Return the first event that fits, earlier ones included."""
        deadline = time.monotonic() + within
        for known in self.heard:
            if fits(known):
                return known
        while time.monotonic() < deadline:
            self._channel.settimeout(max(0.1, deadline - time.monotonic()))
            event: dict[str, Any] = json.loads(self._channel.recv())
            self.heard.append(event)
            if fits(event):
                return event
        raise AssertionError(f"not heard within {within} s; heard {self.heard}")

    def cull(self, action: str, kernel: str, within: float = 30.0) -> dict[str, Any]:
        """Return the culler's event about a kernel."""

        def fits(event: dict[str, Any]) -> bool:
            found = (event["schema_id"], event.get("action"), event.get("kernel_id"))
            return found == (CULL, action, kernel)

        return self.hear(fits, within)


@contextlib.contextmanager
def listening(server: Server) -> Iterator[Listener]:
    """Listen for as long as the block lasts."""
    with server.listening("/api/events/subscribe") as channel:
        yield Listener(channel)
