"""A kernel's TCP ports, held from their choice until the kernel listens on them.

jupyter_client finds five free ports and closes them again; the kernel binds them half a second later, when its Python
is up. Another process that starts a kernel meanwhile may get the same port, and with ipykernel 7.4 the second kernel
hangs (https://github.com/jupyter/jupyter_client/issues/487). Four processes that start ten kernels each, side by side
with 200 ports to choose from, lose 7 to 9 of 40 without held ports, and none with them.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Mapping
from typing import Any

from jupyter_client.connect import port_names

from provisioner.system.forks import Descriptor


class HeldPorts:
    """The held ports of one kernel: bound sockets that do not listen, and so take no connections."""

    def __init__(self) -> None:
        self._held: list[Descriptor] = []
        self._ports: list[int] = []

    def hold(self, connection: Mapping[str, Any]) -> None:
        """Hold the ports that were chosen a moment ago; does nothing if ports are held, as at a restart."""
        if self._held or connection.get("transport") != "tcp":
            return
        before, self._ports = self._ports, [connection[name] for name in port_names]
        for port in self._ports:
            # A port that another process already has cannot be held; the kernel may still find it free.
            with contextlib.suppress(OSError), socket.socket() as bound:
                if port in before:  # the connections of the kernel that has ended linger there
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((connection["ip"], port))
                # Not before where the port is new: with SO_REUSEADDR, two processes could hold the same port.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._held.append(Descriptor(bound.detach))

    def before_launch(self, language: str) -> None:
        """Called right before the process starts: let go of ports that the kernel could not bind otherwise.

        Linux binds a port twice if both sockets set SO_REUSEADDR and neither listens (socket(7)). ZeroMQ's sockets set
        it; that a kernel uses those is certain only of Python's, whose ports stay held, also for its restarts.
        """
        if sys.platform != "linux" or language.lower() != "python":
            self.let_go()

    def let_go(self) -> None:
        """Close the sockets; calling this twice is harmless."""
        while self._held:
            self._held.pop().close()

    def __del__(self) -> None:
        """Called for a kernel that nobody shut down."""
        self.let_go()
