"""The TCP ports of one kernel, kept from everybody else from their choice until the kernel listens there itself.

jupyter_client finds five free ports, lets go of them, and has the kernel take them when its Python is up: half a second
later, and where an environment is built first, minutes. Any other process may get one meanwhile; the kernel then never
answers, and with ipykernel 7.4 does not even die (https://github.com/jupyter/jupyter_client/issues/487). So each
port is bound here for as long. A socket that is bound and does not listen takes no connections.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import weakref

from jupyter_client.connect import ConnectionFileMixin, LocalPortCache, port_names
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from provisioner.system import forks

_ATTEMPTS = 100


class Ports:
    """One kernel's ports; let go at the latest when this object is.

    Parameters
    ----------
    ip
        The address on which the kernel will listen.

    Raises
    ------
    OSError
        If there are no ports, or no descriptors, left.
    """

    def __init__(self, ip: str) -> None:
        self._ip = ip
        self._kept: list[int] = []
        self._dropped = weakref.finalize(self, _close, self._kept)
        forks.register(self)
        self.numbers = {name: self._keep_one(ip) for name in port_names}
        """The ports, under the names that a connection file has for them."""

    def launching(self, language: str) -> None:
        """Called right before the kernel's process is started: let go of ports that it could not take otherwise.

        Two sockets that allow addresses to be reused may be bound to one of Linux' (socket(7), SO_REUSEADDR), as long
        as neither listens. ZeroMQ's do; of a Python kernel it is known that it has these, so its ports are kept on,
        also for its restarts.
        """
        if sys.platform != "linux" or language.lower() != "python":
            self.let_go()

    def let_go(self) -> None:
        """Let go of all ports; no harm if it has been done."""
        _close(self._kept)

    def keep_again(self) -> None:
        """Called when the kernel is to start again: keep what was let go of, as far as nobody has it by now."""
        if self._kept:
            return
        for port in self.numbers.values():
            with contextlib.suppress(OSError), socket.socket() as bound:
                # The connections of the kernel that has ended linger.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((self._ip, port))
                self._kept.append(bound.detach())

    def after_fork_in_child(self) -> None:
        """Let go of the parent's ports, which remain the parent's."""
        self.let_go()

    def _keep_one(self, ip: str) -> int:
        for _ in range(_ATTEMPTS):
            port = LocalPortCache.instance().find_available_port(ip)
            with contextlib.suppress(OSError), socket.socket() as bound:
                bound.bind((ip, port))
                # Only now: before, another process that keeps ports could bind the very same one at this moment.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._kept.append(bound.detach())
                return port
            # Somebody was faster; it is nobody's in this process.
            LocalPortCache.instance().return_port(port)
        raise OSError("no port could be kept")


def keep_ports(manager: object, launcher: KernelProvisionerBase) -> Ports | None:
    """Choose and keep the ports of a kernel that is to start, in the place of its launcher.

    Returns
    -------
    Ports or None
        None where there is nothing to choose: at a restart, with another transport than TCP, on another machine, or
        where the user has chosen.
    """
    if not isinstance(manager, ConnectionFileMixin) or not isinstance(launcher, LocalProvisioner):
        return None
    if type(launcher).pre_launch is not LocalProvisioner.pre_launch:
        return None  # it may choose them in its own way, in a range that a firewall lets through
    if launcher.ports_cached or not getattr(manager, "cache_ports", False):
        return None
    try:
        ports = Ports(manager.ip)
    except OSError:  # the launcher tells what is wrong, if it fares no better
        return None
    for name, number in ports.numbers.items():
        setattr(manager, name, number)
    launcher.ports_cached = True
    # From there its cleanup returns them, also if it fails before it has more to connect to.
    launcher.connection_info = manager.get_connection_info()
    return ports


def _close(descriptors: list[int]) -> None:
    with contextlib.suppress(IndexError):  # none are left
        while True:
            os.close(descriptors.pop())
