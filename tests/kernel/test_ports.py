"""A kernel's ports are its own from the moment they are chosen: nobody gets one before it listens there."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.connect import LocalPortCache, port_names
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from provisioner.core.errors import VolumeError
from provisioner.kernel.ports import Ports, keep_ports
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
    """Return those ports that nobody else could get now."""
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


def test_ports_are_kept_until_they_are_let_go() -> None:
    ports = Ports(IP)
    numbers = list(ports.numbers.values())
    assert len(set(numbers)) == len(numbers) == 5
    assert taken(numbers) == numbers
    ports.let_go()
    assert not taken(numbers)
    ports.let_go()


def test_a_connection_of_somebody_else_never_comes_from_a_kept_port() -> None:
    ports = Ports(IP)
    number = ports.numbers["shell_port"]
    with socket.create_server((IP, 0)) as server, socket.socket() as client:
        with pytest.raises(OSError, match="in use"):
            client.bind((IP, number))
        client.connect(server.getsockname())
        assert client.getsockname()[1] not in ports.numbers.values()
    ports.let_go()


def test_nobody_gets_a_kernels_port_while_its_environment_is_built(
    here: Pool, tmp_path: Path
) -> None:
    """The bootstrap command itself, another process, tries to get them."""
    del here
    connection, told = tmp_path / "connection.json", tmp_path / "free"
    look = (
        "import json, pathlib, socket\n"
        "free = []\n"
        f"for name, port in json.loads(pathlib.Path({str(connection)!r}).read_text()).items():\n"
        "    if name.endswith('_port'):\n"
        "        try: socket.socket().bind(('127.0.0.1', port))\n"
        "        except OSError: continue\n"
        "        free.append(name)\n"
        f"pathlib.Path({str(told)!r}).write_text(repr(free))\n"
    )
    install("looked-at", MUTE, bootstrap_command=[sys.executable, "-c", look])
    manager = KernelManager(kernel_name="looked-at", connection_file=str(connection))
    manager.start_kernel(env=environment("a"))
    manager.shutdown_kernel(now=True)
    assert told.read_text() == "[]"


def test_a_python_kernel_starts_on_its_kept_ports_and_they_stay_its_own_until_it_is_started_again(
    here: Pool,
) -> None:
    del here
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
    del here
    install("silent", MUTE, "python")
    with kernel("silent") as manager:
        numbers = ports_of(manager)
        assert taken(numbers) == numbers
    assert not taken(numbers)


def test_another_kernel_gets_free_ports(here: Pool) -> None:
    del here
    with kernel() as manager:
        assert not taken(ports_of(manager))


def test_a_start_that_fails_lets_its_ports_go(here: Pool) -> None:
    del here
    install("failing", MUTE, bootstrap_command=["false"])
    manager = KernelManager(kernel_name="failing")
    with pytest.raises(VolumeError):
        manager.start_kernel(env=environment("a"))
    assert all(ports_of(manager))
    assert not taken(ports_of(manager))


def test_a_kernel_that_is_started_again_after_a_failure_has_its_ports_to_itself(
    here: Pool, tmp_path: Path
) -> None:
    del here
    install("soon", MUTE, "python", bootstrap_command=["test", "-e", str(tmp_path / "there")])
    manager = KernelManager(kernel_name="soon")
    with pytest.raises(VolumeError):
        manager.start_kernel(env=environment("a"))
    numbers = ports_of(manager)
    assert not taken(numbers)
    (tmp_path / "there").touch()
    manager.restart_kernel()
    try:
        assert ports_of(manager) == numbers == taken(numbers)
    finally:
        manager.shutdown_kernel(now=True)
    assert not taken(numbers)


def test_a_kernel_that_its_launcher_refuses_can_be_shut_down(here: Pool) -> None:
    """jupyter_client tells local addresses by their numbers, and refuses this one."""
    del here
    manager = KernelManager(kernel_name="mute", ip="localhost")
    with pytest.raises(RuntimeError, match="local interface"):
        manager.start_kernel(env=environment("a"))
    numbers = ports_of(manager)
    assert set(numbers) <= LocalPortCache.instance().currently_used_ports
    manager.shutdown_kernel(now=True)
    assert not set(numbers) & LocalPortCache.instance().currently_used_ports


def test_a_launcher_that_chooses_ports_in_its_own_way_does() -> None:
    class WithinRange(LocalProvisioner):
        async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
            return await super().pre_launch(**kwargs)

    manager = KernelManager()
    assert keep_ports(manager, WithinRange(parent=manager)) is None


def test_two_processes_never_keep_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one was faster, by a moment."""
    find = LocalPortCache.instance().find_available_port
    others: list[socket.socket] = []

    def taken_at_once(ip: str) -> int:
        port = find(ip)
        if not others:
            others.append(socket.socket())
            others[0].bind((ip, port))
            others[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return port

    monkeypatch.setattr(LocalPortCache.instance(), "find_available_port", taken_at_once)
    ports = Ports(IP)
    assert others[0].getsockname()[1] not in ports.numbers.values()
    ports.let_go()
    others[0].close()


def test_ports_that_the_user_has_chosen_are_left_alone(here: Pool) -> None:
    del here
    manager = KernelManager(kernel_name="mute", cache_ports=False, shell_port=4711)
    manager.start_kernel(env=environment("a"))
    try:
        assert manager.shell_port == 4711
    finally:
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("options", [{"transport": "ipc"}, {"cache_ports": False}])
def test_without_ports_to_choose_none_are_kept(options: dict[str, Any]) -> None:
    manager = AsyncKernelManager(**options)
    assert keep_ports(manager, LocalProvisioner(parent=manager)) is None
    assert keep_ports(None, LocalProvisioner()) is None


def test_a_forked_child_does_not_keep_its_parents_ports() -> None:
    ports = Ports(IP)
    with Child(lambda: "up", stays=True) as child:
        assert child.said() == "up"
        ports.let_go()
        assert not taken(list(ports.numbers.values()))


def test_ports_are_let_go_with_the_object_that_keeps_them() -> None:
    ports = Ports(IP)
    numbers = list(ports.numbers.values())
    del ports
    assert not taken(numbers)


def test_where_no_descriptors_are_left_the_launcher_chooses() -> None:
    script = (
        "import os, resource\n"
        "from jupyter_client.manager import KernelManager\n"
        "from jupyter_client.provisioning.local_provisioner import LocalProvisioner\n"
        "from provisioner.kernel.ports import keep_ports\n"
        "manager = KernelManager(); manager.ip\n"
        "launcher = LocalProvisioner(parent=manager)\n"
        "used = max(map(int, os.listdir('/dev/fd')))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, used + 3))\n"
        "assert keep_ports(manager, launcher) is None\n"
        "assert not launcher.ports_cached and not manager.shell_port\n"
        "[os.close(os.dup(0)) for _ in range(3)]\n"
        "print('chosen later')\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert said == "chosen later\n"
