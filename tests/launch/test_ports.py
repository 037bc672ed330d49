"""Nobody else gets a kernel's ports between their choice and the moment when the kernel listens there."""

from __future__ import annotations

import contextlib
import socket

import pytest
from jupyter_client.connect import port_names
from jupyter_client.manager import KernelManager

from provisioner.core.errors import VolumeError
from provisioner.launch.ports import HeldPorts
from provisioner.pool.pool import Pool
from tests.support.children import Child
from tests.support.kernels import (
    MUTE,
    REAL,
    ask,
    client_of,
    environment,
    install,
    kernel,
    process_of,
)

IP = "127.0.0.1"


def taken(ports: list[int]) -> list[int]:
    """Return those ports that another process could not get now."""
    found = []
    for port in ports:
        with socket.socket() as other:
            try:
                other.bind((IP, port))
            except OSError:
                found.append(port)
    return found


def ports_of(manager: KernelManager) -> list[int]:
    """Return the ports of a kernel that was started."""
    return [getattr(manager, name) for name in port_names]


@pytest.fixture
def connection() -> dict[str, object]:
    """The connection of a kernel with five free ports."""
    with contextlib.ExitStack() as free:
        sockets = [free.enter_context(socket.socket()) for _ in port_names]
        for one in sockets:
            one.bind((IP, 0))
        ports = [one.getsockname()[1] for one in sockets]
    return {"transport": "tcp", "ip": IP, **dict(zip(port_names, ports, strict=True))}


@pytest.fixture
def ports(connection: dict[str, object]) -> HeldPorts:
    """The held ports of that kernel."""
    ports = HeldPorts()
    ports.hold(connection)
    return ports


def test_ports_are_held_until_they_are_let_go(
    connection: dict[str, object], ports: HeldPorts
) -> None:
    numbers = [int(str(connection[name])) for name in port_names]
    assert taken(numbers) == numbers
    other = HeldPorts()
    other.hold(connection)
    assert other._held == [], "two processes never hold the same port"
    ports.let_go()
    assert not taken(numbers)
    ports.let_go()


def test_a_forked_child_does_not_keep_its_parents_ports(
    connection: dict[str, object], ports: HeldPorts
) -> None:
    with Child(lambda: "up", stays=True) as child:
        assert child.said() == "up"
        ports.let_go()
        assert not taken([int(str(connection[name])) for name in port_names])


def test_ports_are_let_go_with_the_object_that_holds_them(connection: dict[str, object]) -> None:
    ports = HeldPorts()
    ports.hold(connection)
    del ports
    assert not taken([int(str(connection[name])) for name in port_names])


def test_a_connection_without_ports_holds_none(connection: dict[str, object]) -> None:
    ports = HeldPorts()
    ports.hold({**connection, "transport": "ipc"})
    assert ports._held == []


def test_only_a_python_kernel_is_known_to_bind_ports_that_are_held(ports: HeldPorts) -> None:
    ports.before_launch("Python")
    assert len(ports._held) == len(port_names)
    ports.before_launch("julia")
    assert ports._held == []


def test_a_python_kernel_starts_on_its_held_ports_and_they_stay_its_own_until_it_is_started_again(
    here: Pool,
) -> None:
    with kernel(REAL) as manager:
        with client_of(manager) as client:
            assert ask(client, "1 + 1") == 2
        process = process_of(manager)
        process.kill()
        process.wait()
        numbers = ports_of(manager)
        assert taken(numbers) == numbers
        manager.restart_kernel(now=True)
        with client_of(manager) as client:
            assert ask(client, "1 + 1") == 2
        assert ports_of(manager) == numbers


def test_when_a_kernel_is_shut_down_its_ports_are_free(here: Pool) -> None:
    install("silent", MUTE, "python")
    with kernel("silent") as manager:
        numbers = ports_of(manager)
        assert taken(numbers) == numbers
    assert not taken(numbers)


def test_the_ports_of_another_languages_kernel_are_free_for_it(here: Pool) -> None:
    with kernel() as manager:
        assert not taken(ports_of(manager))


def test_a_start_that_fails_has_chosen_no_ports_or_lets_them_go(here: Pool) -> None:
    install("failing", MUTE, "python", bootstrap_command=["false"])
    manager = KernelManager(kernel_name="failing")
    with pytest.raises(VolumeError):
        manager.start_kernel(env=environment("a"))
    assert not any(ports_of(manager))
    install("broken", ["/no/such/program"], "python")
    manager = KernelManager(kernel_name="broken")
    with pytest.raises(FileNotFoundError):
        manager.start_kernel(env=environment("a"))
    assert all(ports_of(manager))
    assert not taken(ports_of(manager))
