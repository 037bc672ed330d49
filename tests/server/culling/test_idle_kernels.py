"""Idle kernels of a real server are shut down after a warning; busy kernels and those without a volume stay."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.listening import CULL, listening
from tests.support.serving import Place, Server, eventually, execute, send_code, served

WORK = """
import os, time
while not os.path.exists("go"):
    time.sleep(0.05)
open("done", "w").close()
"""
"""Keeps a kernel busy until the test makes a file."""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that shuts kernels down after four idle seconds, two of them after a warning; with an arbiter."""
    place = Place(tmp_path_factory.mktemp("quick") / "home")
    place.home.joinpath("judge.py").write_text(
        "def spare(session, kernel, idle):\n"
        "    assert idle.total_seconds() > 0 and kernel\n"
        "    if session.endswith('broken.ipynb'):\n"
        "        raise RuntimeError('out of order')\n"
        "    return not session.endswith('spared.ipynb')\n"
    )
    place.configure(
        idle_shutdown="4s",
        cull_warning="2s",
        cull_interval="1s",
        max_idle_shutdown="1h",
        arbiter="judge.spare",
    )
    with served(place, env=place.importing) as server:
        yield server


def test_an_idle_kernel_is_shut_down_after_a_warning_and_its_files_stay(quick: Server) -> None:
    with listening(quick) as listener:
        session = quick.start("idle.ipynb")
        kernel = session["kernel"]["id"]
        quick.run(kernel, "open('kept', 'w').write('x')")
        warning = listener.cull("warning", kernel)
        assert warning["session"] == quick.place.session("idle.ipynb")
        assert 0 <= warning["seconds"] <= 2
        culled = listener.cull("culled", kernel)
        assert Path(culled["path"], "kept").read_text() == "x"
        assert culled["seconds"] >= 4
    eventually(lambda: not _is_running(quick, kernel))
    again = quick.start("idle.ipynb")
    assert "kept" in quick.run(again["kernel"]["id"], "import os; print(os.listdir())")


def test_a_kernel_that_a_user_keeps_lives_on(quick: Server) -> None:
    with listening(quick) as listener:
        kernel = quick.start("keep.ipynb")["kernel"]["id"]
        warning = listener.cull("warning", kernel)
        kept = quick.ask("POST", f"/api/volumes/{warning['volume']}/keep").json()
        assert kept["kernels"] == [kernel]
        assert listener.cull("kept", kernel)["reason"] == "asked"
        assert kept["idle_shutdown_at"] > warning["at"][:19]
        assert _is_running(quick, kernel)
        listener.cull("culled", kernel)
        warnings = [
            e
            for e in listener.heard
            if (e.get("action"), e.get("kernel_id")) == ("warning", kernel)
        ]
        assert len(warnings) == 2


def test_a_busy_kernel_one_with_an_open_notebook_and_one_without_volume_are_left_alone(
    quick: Server,
) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(quick))
        busy = quick.start("busy.ipynb")["kernel"]["id"]
        with quick.listening(f"/api/kernels/{busy}/channels") as channel:
            send_code(channel, WORK)
        watched = quick.start("open.ipynb")["kernel"]["id"]
        open_notebook = stack.enter_context(quick.listening(f"/api/kernels/{watched}/channels"))
        plain = quick.start("plain.ipynb", kernel="python3")["kernel"]["id"]
        # Meanwhile another kernel, started after them, is shut down.
        idle = quick.start("other.ipynb")["kernel"]["id"]
        listener.cull("culled", idle)
        assert {busy, plain, watched} <= {k["id"] for k in quick.get("/api/kernels").json()}
        assert execute(open_notebook, "print('alive')") == "alive\n"
        culled = {e["kernel_id"] for e in listener.heard if e.get("action") == "culled"}
        assert culled == {idle}
        # When its work is done, the busy one is idle like any other.
        volume = quick.volume("busy.ipynb")
        assert volume is not None
        Path(volume["path"], "go").touch()
        path = listener.cull("culled", busy, 60)["path"]
        assert Path(path, "done").exists()
    assert _is_running(quick, plain)


def test_a_kernel_with_queued_cells_is_not_idle(quick: Server) -> None:
    session = quick.start("queued.ipynb")
    kernel = session["kernel"]["id"]
    with quick.listening(f"/api/kernels/{kernel}/channels") as channel:
        pid = int(execute(channel, "import os; print(os.getpid())"))
        # The kernel has published nothing about a cell that waits in its queue.
        os.kill(pid, signal.SIGSTOP)
        send_code(channel, "open('ran', 'w').close()")
    try:
        eventually(lambda: "does not answer" in quick.log, 60, "the kernel was asked")
        assert _is_running(quick, kernel)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "ran" in quick.run(kernel, "import os; print(os.listdir())")


def test_a_notebook_may_set_a_limit_of_its_own_up_to_the_administrators(quick: Server) -> None:
    quick.place.notebook("slow.ipynb", {"volume": {"idle_shutdown": "30m"}})
    quick.place.notebook("never.ipynb", {"volume": {"idle_shutdown": "never"}})
    quick.place.notebook("zero.ipynb", {"volume": {"idle_shutdown": 0}})
    limits = {"slow.ipynb": timedelta(minutes=30), "never.ipynb": timedelta(hours=1)}
    for path, limit in limits.items():
        quick.start(path)
        volume = eventually(lambda path=path: _with_expiry(quick, path))  # type: ignore[misc]  # mypy sees no default
        since = _moment(volume["idle_shutdown_at"]) - _moment(volume["acquired"])
        assert limit <= since < limit + timedelta(minutes=1)
    quick.start("zero.ipynb")
    eventually(lambda: "is ignored" in quick.log, what="the wrong limit is logged")


def test_a_notebook_keeps_its_limit_when_its_folder_is_renamed_while_it_is_closed(
    quick: Server,
) -> None:
    quick.place.notebook("before/slow.ipynb", {"volume": {"idle_shutdown": "30m"}})
    kernel = quick.start("before/slow.ipynb")["kernel"]["id"]
    quick.ask("PATCH", "/api/contents/before", {"path": "after"})
    eventually(lambda: quick.volume("after/slow.ipynb"), what="the volume follows")
    # Only a check after the move finds the limit of this one.
    quick.start("later.ipynb")
    eventually(lambda: _with_expiry(quick, "later.ipynb"))
    volume = _with_expiry(quick, "after/slow.ipynb")
    assert volume is not None
    since = _moment(volume["idle_shutdown_at"]) - _moment(volume["acquired"])
    assert since >= timedelta(minutes=30)
    assert _is_running(quick, kernel)


def test_the_arbiter_may_spare_a_kernel(quick: Server) -> None:
    with listening(quick) as listener:
        spared = quick.start("spared.ipynb")["kernel"]["id"]
        broken = quick.start("broken.ipynb")["kernel"]["id"]
        judged = quick.start("judged.ipynb")["kernel"]["id"]
        listener.cull("culled", judged)
        eventually(lambda: "out of order" in quick.log)
        assert _is_running(quick, spared)
        assert _is_running(quick, broken)
        announced = {e["kernel_id"] for e in listener.heard if e["schema_id"] == CULL}
        assert not announced & {spared, broken}


def test_a_server_whose_arbiter_hangs_still_stops(place: Place) -> None:
    place.home.joinpath("judge.py").write_text(
        "import time\n"
        "def hang(session, kernel, idle):\n"
        "    open('asked', 'w').close()\n"
        "    time.sleep(40_000)\n"
    )
    place.configure(idle_shutdown="3s", cull_warning="1s", cull_interval="1s", arbiter="judge.hang")
    server = Server(place, env=place.importing)
    try:
        server.start("a.ipynb")
        eventually(place.home.joinpath("asked").exists, 60, "the arbiter is asked")
        assert server.volume("a.ipynb") is not None
    finally:
        server.stop()


@pytest.mark.parametrize("pending", [True, False])
def test_a_server_stops_while_it_shuts_an_idle_kernel_down(place: Place, pending: bool) -> None:
    place.configure(idle_shutdown="3s", cull_warning="1s", cull_interval="1s")
    # The kernel never ends by itself; the server kills it after this time instead of after five seconds.
    wait = "--KernelManager.shutdown_wait_time=1"
    server = Server(place, f"--AsyncMappingKernelManager.use_pending_kernels={pending}", wait)
    try:
        kernel = server.start("slow.ipynb")["kernel"]["id"]
        server.run(kernel, "import atexit, time; atexit.register(time.sleep, 40_000)")
        eventually(lambda: f"Shutting down kernel {kernel}" in server.log, 60)
    finally:
        server.stop()
    assert server.process.returncode == 0


def test_a_launcher_that_hangs_does_not_delay_the_shutdown_of_other_kernels(place: Place) -> None:
    _install_hanging_launcher(place)
    hangs = place.kernelspec("hangs", launcher="hanging-launcher")
    place.configure(idle_shutdown="3s", cull_warning="1s", cull_interval="1s")
    # With pending kernels jupyter_server itself does not wait for the end of a shutdown.
    waiting = "--AsyncMappingKernelManager.use_pending_kernels=False"
    server = Server(place, waiting, env=place.importing)
    try:
        with listening(server) as listener:
            stuck = server.start("stuck.ipynb", kernel=hangs)["kernel"]["id"]
            eventually(place.home.joinpath("hangs").exists, 60, "its shutdown hangs")
            other = server.start("other.ipynb")["kernel"]["id"]
            listener.cull("culled", other, 60)
            assert [e["kernel_id"] for e in listener.heard if e.get("action") == "culled"] == [
                other
            ]
            warned = [e["kernel_id"] for e in listener.heard if e.get("action") == "warning"]
            assert warned.count(stuck) == 1
    finally:
        server.kill()  # its own shutdown waits for the launcher too


def _install_hanging_launcher(place: Place) -> None:
    """Install a launcher whose cleanup never ends."""
    place.home.joinpath("hanging.py").write_text(
        "import asyncio, os\n"
        "from jupyter_client.provisioning import LocalProvisioner\n"
        "class Hanging(LocalProvisioner):\n"
        "    async def cleanup(self, restart=False):\n"
        f"        open({str(place.home / 'hangs')!r}, 'w').close()\n"
        "        await asyncio.sleep(40_000)\n"
    )
    described = place.home / "hanging-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[jupyter_client.kernel_provisioners]\nhanging-launcher = hanging:Hanging\n"
    )


def test_a_hydrating_kernel_is_not_idle_and_the_two_cullers_do_not_disturb_each_other(
    place: Place,
) -> None:
    slow = place.kernelspec("slow", bootstrap_command=["sleep", "6"])
    place.configure(idle_shutdown="3s", cull_warning="1s", cull_interval="1s")
    theirs = (
        "--MappingKernelManager.cull_idle_timeout=4",
        "--MappingKernelManager.cull_interval=1",
    )
    with served(place, *theirs) as server, listening(server) as listener:
        kernel = server.begin("a.ipynb", kernel=slow).json()["kernel"]["id"]
        listener.hear(lambda e: e.get("step") == "bootstrap" and e.get("kernel_id") == kernel)
        server.wait_for_kernel(kernel)
        eventually(lambda: not _is_running(server, kernel), what="one of the two culls it")
        assert "Traceback" not in server.log


def _is_running(server: Server, kernel: str) -> bool:
    return server.get(f"/api/kernels/{kernel}").status_code == 200


def _with_expiry(server: Server, path: str) -> dict[str, Any] | None:
    volume = server.volume(path)
    return volume if volume is not None and volume["idle_shutdown_at"] else None


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value.replace("Z", "+00:00"))
