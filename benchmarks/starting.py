"""Kernels that a server is starting: asked from outside whether they are up."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import zmq
from jupyter_client.session import Session

_LOOK_MILLISECONDS = 20


class Starting:
    """Kernels that somebody began to start, watched until each has answered.

    Parameters
    ----------
    runtime
        The directory in which their connection files appear.
    count
        How many there are.
    """

    def __init__(self, runtime: Path, count: int) -> None:
        self._runtime = runtime
        self._missing = count
        self._waiting: list[str] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def add(self, kernel: str) -> None:
        """Watch a kernel, too."""
        self._waiting.append(kernel)

    @property
    def missing(self) -> int:
        """How many are not up yet."""
        return self._missing

    def _watch(self) -> None:
        """Ask each kernel what it is as soon as it is known where it will listen; its answer shows that it is up."""
        with zmq.Context() as context:
            poller = zmq.Poller()
            while self._missing:
                for kernel in list(self._waiting):
                    connection = self._connection(kernel)
                    if connection is not None:
                        self._waiting.remove(kernel)
                        poller.register(_asked(context, connection), zmq.POLLIN)
                for answered, _ in poller.poll(_LOOK_MILLISECONDS):
                    poller.unregister(answered)
                    answered.close(linger=0)
                    self._missing -= 1
                if not poller.sockets:
                    time.sleep(_LOOK_MILLISECONDS / 1000)

    def _connection(self, kernel: str) -> dict[str, str] | None:
        try:
            found: dict[str, str] = json.loads(
                (self._runtime / f"kernel-{kernel}.json").read_text()
            )
        except (OSError, ValueError):
            return None
        return found


def _asked(
    context: zmq.Context[zmq.Socket[bytes]], connection: dict[str, str]
) -> zmq.Socket[bytes]:
    shell = context.socket(zmq.DEALER)
    shell.connect(f"tcp://{connection['ip']}:{connection['shell_port']}")
    session = Session(key=connection["key"].encode())
    shell.send_multipart(session.serialize(session.msg("kernel_info_request", {})))
    return shell
