"""Real Jupyter servers for tests: a subprocess on loopback, with its own home, config and root of volumes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests
import websocket

import provisioner.server
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool

T = TypeVar("T")
TOKEN = "the-token"
KERNEL = "python3-volume"
ENABLING = Path(provisioner.server.__file__).parent / "jupyter-volumes.json"
KERNELSPEC = Path(provisioner.server.__file__).parents[2] / "kernelspecs" / KERNEL
UNUSED_EXTENSIONS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim")
"""Enabled by what is installed; without them a server starts sooner."""


def eventually(look: Callable[[], T | None], within: float = 20.0, what: str = "") -> T:
    """Return the first truthy result of `look`; fail after so many seconds."""
    deadline = time.monotonic() + within
    pause = 0.005
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s: {what or look}"
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


@dataclass
class Place:
    """The home of one or more servers: a configuration, notebooks, kernelspecs and a root of volumes."""

    home: Path
    settings: dict[str, Any] = field(default_factory=dict)
    extensions: bool = False

    def __post_init__(self) -> None:
        self.notebooks.mkdir(parents=True)
        enabled = self.config / "jupyter_server_config.d"
        enabled.mkdir(parents=True)
        shutil.copy(ENABLING, enabled)
        shutil.copytree(KERNELSPEC, self.home / "data" / "kernels" / KERNEL)
        self.configure(**self.settings)
        disabled = dict.fromkeys([] if self.extensions else UNUSED_EXTENSIONS, False)
        (self.config / "jupyter_server_config.json").write_text(
            json.dumps({"ServerApp": {"jpserver_extensions": disabled}})
        )

    @property
    def notebooks(self) -> Path:
        return self.home / "notebooks"

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def root(self) -> Path:
        return self.home / "volumes"

    @property
    def env(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
        return {
            **inherited,
            "HOME": str(self.home),
            "JUPYTER_CONFIG_DIR": str(self.config),
            "JUPYTER_DATA_DIR": str(self.home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.home / "runtime"),
            "JUPYTER_VOLUMES_ROOT": str(self.root),
            "JUPYTER_NO_CONFIG": "",
            "A_SECRET_TOKEN": "must-stay-out",
        }

    @property
    def importing(self) -> dict[str, str]:
        """The variable that lets servers import modules from the home."""
        inherited = os.environ.get("PYTHONPATH", "")
        return {"PYTHONPATH": os.pathsep.join(filter(None, [str(self.home), inherited]))}

    def configure(self, **settings: Any) -> None:
        """Write the settings of the pool."""
        path = self.config / "jupyter_volumes_config.json"
        path.write_text(json.dumps({"VolumePool": settings}))

    def kernelspec(self, name: str, **config: Any) -> str:
        """Write a kernelspec like the shipped one, with other options; return its name."""
        spec = json.loads((KERNELSPEC / "kernel.json").read_text())
        spec["display_name"] = name
        spec["metadata"]["kernel_provisioner"]["config"] = config
        directory = self.home / "data" / "kernels" / name
        # A fixture of a module is made again where workers share its tests.
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "kernel.json").write_text(json.dumps(spec))
        return name

    def notebook(self, path: str, metadata: Mapping[str, Any] | None = None) -> Path:
        """Write a notebook at an API path."""
        file = self.notebooks / path
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"cells": [], "metadata": dict(metadata or {})}
        file.write_text(json.dumps({**content, "nbformat": 4, "nbformat_minor": 5}))
        return file

    def stopped_volume(self, path: str, **files: str) -> str:
        """Make a notebook at an API path and its stopped volume, without a server or kernel; return the volume's id."""
        self.notebook(path)
        pool = Pool(VolumePool(root=str(self.root)))
        acquired = pool.acquire(self.session(path), KERNEL, kernel="made-by-the-test")
        for name, content in files.items():
            (acquired.path / name).write_text(content)
        pool.release(acquired)
        pool.close()
        return acquired.record.id

    def session(self, path: str) -> str:
        """Return the session that the notebook at an API path has."""
        return os.path.realpath(self.notebooks / path)


class Server:
    """One running Jupyter server."""

    def __init__(self, place: Place, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.place = place
        (self.port,) = free_ports(1)
        self.log_path = place.home / f"server-{self.port}.log"
        command = [
            sys.executable,
            "-m",
            "jupyter_server",
            "--no-browser",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.root_dir={place.notebooks}",
            "--ServerApp.allow_root=True",
            "--ServerApp.log_level=DEBUG",
            *arguments,
        ]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=place.home,
                env={**place.env, **(env or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        base = "--ServerApp.base_url="
        path = [a.removeprefix(base).rstrip("/") for a in arguments if a.startswith(base)]
        self.url = f"http://127.0.0.1:{self.port}" + "".join(path)
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Authorization"] = f"token {TOKEN}"
        eventually(self._is_up, 30, f"the server is up; see {self.log_path}")

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log
        with contextlib.suppress(requests.ConnectionError):
            return self.get("/api/status").ok
        return False

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    # -- requests --------------------------------------------------------------------------------------------

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.http.get(self.url + path, timeout=30, **more)

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        return self.http.request(method, self.url + path, json=body, timeout=60, **more)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of volumes, with their labels in their names."""
        lines = self.get("/metrics").text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("jupyter_volumes"))
        return {name: float(value) for name, value in values.items()}

    def volumes(self) -> list[dict[str, Any]]:
        response = self.get("/api/volumes")
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["volumes"]
        return found

    def volume(self, path: str, *states: str) -> dict[str, Any] | None:
        """Return the volume of the notebook at an API path, if it is in one of the states (none given: in any)."""
        name = self.place.session(path)
        found = (v for v in self.volumes() if v["session"] == name)
        return next((v for v in found if not states or v["state"] in states), None)

    def wait_for_volume(self, path: str, *states: str) -> dict[str, Any]:
        """Wait until the notebook at an API path has a volume in one of the states."""
        return eventually(lambda: self.volume(path, *states), what=f"{path} is {states}")

    def job(self, response: requests.Response, within: float = 30.0) -> dict[str, Any]:
        """Wait for the end of the job that a request started; return the job."""
        assert response.status_code == 202, response.text
        path = f"/api/volumes/jobs/{response.json()['id']}"

        def ended() -> dict[str, Any] | None:
            job: dict[str, Any] = self.get(path).json()
            return None if job["state"] == "running" else job

        return eventually(ended, within, "the job ends")

    # -- kernels ---------------------------------------------------------------------------------------------

    def start(self, path: str, *, kind: str = "notebook", kernel: str = KERNEL) -> dict[str, Any]:
        """Start a session as JupyterLab does, and wait until its kernel runs."""
        begun = self.begin(path, kind=kind, kernel=kernel)
        assert begun.status_code == 201, begun.text
        session: dict[str, Any] = begun.json()
        self.wait_for_kernel(session["kernel"]["id"])
        return session

    def begin(
        self, path: str, *, kind: str = "notebook", kernel: str = KERNEL
    ) -> requests.Response:
        """Request a session, and do not wait for its kernel."""
        folder, _, name = path.rpartition("/")
        drive, colon, name = name.rpartition(":")
        where = f"{folder}/" if folder else f"{drive}{colon}"
        body = {
            "path": f"{where}{uuid.uuid4()}",
            "name": name,
            "type": kind,
            "kernel": {"name": kernel},
        }
        return self.ask("POST", "/api/sessions", body)

    def end(self, session: Mapping[str, Any]) -> None:
        """End a session and its kernel."""
        assert self.ask("DELETE", f"/api/sessions/{session['id']}").status_code == 204

    def wait_for_kernel(self, kernel_id: str, within: float = 40.0) -> None:
        self.run(kernel_id, "pass", within)

    def run(self, kernel_id: str, code: str, within: float = 30.0) -> str:
        """Run code in a kernel and return what it printed."""
        with self.listening(f"/api/kernels/{kernel_id}/channels", within) as channel:
            return execute(channel, code, within)

    @contextlib.contextmanager
    def listening(self, path: str, within: float = 30.0) -> Iterator[websocket.WebSocket]:
        """Open a websocket of the server."""
        channel = websocket.create_connection(
            f"{self.url.replace('http', 'ws', 1)}{path}",
            timeout=within,
            header=[f"Authorization: token {TOKEN}"],
            http_no_proxy=["127.0.0.1"],
        )
        try:
            yield channel
        finally:
            channel.close()

    # -- the end ---------------------------------------------------------------------------------------------

    def stop(self, within: float = 20.0) -> float:
        """Stop the server; return how many seconds it took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server still ran after {within} s\n{self.log}") from None
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill the server; its kernels end when they notice."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def served(place: Place, *arguments: str, **more: Any) -> Iterator[Server]:
    """Run a server for as long as the block lasts."""
    server = Server(place, *arguments, **more)
    try:
        yield server
    finally:
        server.stop()


def execute(channel: websocket.WebSocket, code: str, within: float = 30.0) -> str:
    """Run code over a kernel's websocket and return what it printed."""
    message_id = send_code(channel, code)
    deadline = time.monotonic() + within
    printed = ""
    while time.monotonic() < deadline:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != message_id:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
        elif message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return printed
    raise AssertionError(f"{code!r} did not end within {within} s")


def send_code(channel: websocket.WebSocket, code: str) -> str:
    """Send code to run, and do not wait; return the message's id."""
    message_id = uuid.uuid4().hex
    header = {
        "msg_id": message_id,
        "msg_type": "execute_request",
        "username": "test",
        "session": uuid.uuid4().hex,
        "date": "2024-01-01T00:00:00Z",
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    channel.send(json.dumps({**message, "channel": "shell", "buffers": []}))
    return message_id


def free_ports(count: int) -> list[int]:
    """Return so many different ports that are free now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
