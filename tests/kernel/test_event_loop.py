"""Starting, restarting and ending a kernel never blocks the event loop: all disk access is in threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

import provisioner
from provisioner.pool.pool import Pool
from provisioner.registry.database import Database
from tests.support.kernels import environment, require_free

PACKAGE = str(Path(provisioner.__file__).parent)
BLOCKING = {
    "fcntl.flock",
    "open",
    "os.listdir",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.scandir",
    "shutil.rmtree",
    "sqlite3.connect",
    "subprocess.Popen",
    "time.sleep",
}
"""Audit events of calls that may block on a disk, on another process or by sleeping."""

_watched: dict[int, list[str]] = {}


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in BLOCKING or threading.get_ident() not in _watched:
        return
    if event == "open" and str(arguments[0]).startswith("/proc/"):
        return  # no disk
    if _is_ours(sys._getframe(1)):
        _watched[threading.get_ident()].append(f"{event} {arguments}")


def _is_ours(frame: FrameType | None) -> bool:
    """Whether this package made the call, directly or through the standard library, and not a launcher."""
    while frame is not None and "site-packages" not in frame.f_code.co_filename:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


sys.addaudithook(_note)  # there is no way to take one away


@pytest.fixture
def on_the_loop(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that may block and were made in the event loop's thread, which is the test's own."""
    found: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        real = getattr(Database, name)

        def use(self: Database, *arguments: Any) -> Any:
            if threading.get_ident() in _watched:
                found.append(f"Database.{name}")
            return real(self, *arguments)

        return use

    for name in ("read", "write"):
        monkeypatch.setattr(Database, name, noted(name))
    return found


def test_a_kernel_starts_restarts_and_ends_without_disk_access_on_the_event_loop(
    here: Pool, on_the_loop: list[str]
) -> None:
    async def live() -> None:
        manager = AsyncKernelManager(kernel_name="mute")
        await manager.start_kernel(env=environment("a"))
        await manager.restart_kernel(now=True)
        await manager.shutdown_kernel(now=True)

    _watched[threading.get_ident()] = on_the_loop
    try:
        asyncio.run(asyncio.wait_for(live(), 60))
    finally:
        del _watched[threading.get_ident()]
    assert on_the_loop == []
    require_free(here)


def test_disk_access_on_the_event_loop_would_be_noticed(here: Pool, on_the_loop: list[str]) -> None:
    _watched[threading.get_ident()] = on_the_loop
    try:
        here.volumes()
        here.release(here.acquire("a", "mute", kernel="k"))
    finally:
        del _watched[threading.get_ident()]
    assert "Database.read" in on_the_loop
    assert "Database.write" in on_the_loop
    assert any(seen.startswith("fcntl.flock") for seen in on_the_loop)
