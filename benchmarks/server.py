"""Whether a server still answers while it works: `python benchmarks/server.py`.

200 requests for `/api/status` at once, to a server that idles, to one that starts eight kernels with volumes and
backs up 1 GB, and to one that starts eight kernels without volumes while another process compresses 1 GB. What counts
is the 99th percentile of the answers' times.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import RESULTS, interleave, ratio, report, require_warm_bytecode
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

REQUESTS = 200
KERNELS = 8
BYTES = 1_000_000_000
ROUNDS = 5
TOKEN = "benchmark"
PATIENCE = 120.0

COMPRESS = """
import sys, zstandard
with open(sys.argv[1], "rb") as source, open("/dev/null", "wb") as sink:
    zstandard.ZstdCompressor(level=3).copy_stream(source, sink)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULTS / "server.json")
    args = parser.parse_args()
    require_warm_bytecode()
    with tempfile.TemporaryDirectory(prefix="server-") as home, running(Path(home)) as server:
        server.fill()
        seconds = interleave(
            args.rounds,
            {"idle": server.idle, "with volumes": server.loaded, "without": server.peer},
        )
    bound = 3.0
    results = [
        ratio(
            "p99 of /api/status, at work / idle", seconds, of="with volumes", to="idle", bound=bound
        ),
        ratio("  the same, without volumes / idle", seconds, of="without", to="idle", bound=None),
        ratio("  with / without volumes", seconds, of="with volumes", to="without", bound=None),
    ]
    return report("A server at work", results, args.json)


class Server:
    """A running server, and what is asked of it."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"

    def fill(self) -> None:
        """Make a volume with 1 GB, and a file as large beside it."""
        session = self.start("big.ipynb", "python3-volume")
        self.wait_for(lambda: self.volume()["kernels"])
        block = os.urandom(1_000_000)
        with open(self.home / "large", "wb") as file:
            file.writelines(block for _ in range(BYTES // len(block)))
        shutil.copy(self.home / "large", Path(self.volume()["path"]) / "large")
        self.end([session])

    def idle(self) -> float:
        """Ask a server that does nothing else."""
        time.sleep(1)
        return asyncio.run(self.percentile())

    def loaded(self) -> float:
        """Ask while eight kernels with volumes start and the large volume is backed up."""
        again = self.start("big.ipynb", "python3-volume")
        self.wait_for(lambda: self.volume()["kernels"])
        self.end([again])
        self.wait_for(lambda: self.volume()["state"] == "stopped")
        job = self.ask("POST", f"/api/volumes/{self.volume()['id']}/backup")
        sessions = [self.start(f"v{n}.ipynb", "python3-volume") for n in range(KERNELS)]
        took = asyncio.run(self.percentile())
        assert self.ask("GET", f"/api/volumes/jobs/{job['id']}")["state"] == "running"
        self.wait_for(lambda: self.ask("GET", f"/api/volumes/jobs/{job['id']}")["state"] == "done")
        self.end(sessions)
        return took

    def peer(self) -> float:
        """Ask while eight kernels without volumes start and another process compresses as much."""
        compress = subprocess.Popen([sys.executable, "-c", COMPRESS, str(self.home / "large")])
        sessions = [self.start(f"p{n}.ipynb", "python3") for n in range(KERNELS)]
        took = asyncio.run(self.percentile())
        compress.wait()
        self.end(sessions)
        return took

    async def percentile(self) -> float:
        """Return the 99th percentile of the times of 200 requests sent at once."""
        client = AsyncHTTPClient(force_instance=True, max_clients=REQUESTS)
        began = time.perf_counter()

        async def ask() -> float:
            await client.fetch(self._request("GET", "/api/status"))
            return time.perf_counter() - began

        try:
            times = sorted(await asyncio.gather(*(ask() for _ in range(REQUESTS))))
        finally:
            client.close()
        return times[REQUESTS * 99 // 100 - 1]

    def start(self, path: str, kernel: str) -> str:
        """Begin a session and return its id; its kernel starts meanwhile."""
        body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
        return str(self.ask("POST", "/api/sessions", body)["id"])

    def end(self, sessions: list[str]) -> None:
        """Shut the kernels of sessions down, and wait until they are gone."""
        for session in sessions:
            self.ask("DELETE", f"/api/sessions/{session}")
        self.wait_for(lambda: not self.ask("GET", "/api/kernels"))

    def volume(self) -> dict[str, Any]:
        """Return the large volume."""
        listed = self.ask("GET", "/api/volumes")["volumes"]
        return next((v for v in listed if v["name"] == "big.ipynb"), {"kernels": []})

    def wait_for(self, look: Callable[[], Any]) -> None:
        """Wait until `look` finds something."""
        deadline = time.monotonic() + PATIENCE
        while not look():
            if time.monotonic() > deadline:
                raise SystemExit("The server did not come to rest; see its log.")
            time.sleep(0.1)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the server for something else, and wait for the answer."""

        async def fetch() -> Any:
            answer = await AsyncHTTPClient().fetch(self._request(method, path, body))
            return json.loads(answer.body) if answer.body else None

        return asyncio.run(fetch())

    def _request(self, method: str, path: str, body: Any = None) -> HTTPRequest:
        return HTTPRequest(
            self.url + path,
            method=method,
            headers={"Authorization": f"token {TOKEN}", "X-Request-Id": uuid.uuid4().hex},
            body=json.dumps(body or {}) if method == "POST" else None,
            request_timeout=60,
            connect_timeout=60,
        )


@contextlib.contextmanager
def running(home: Path) -> Iterator[Server]:
    """Run a server in a home of its own."""
    (home / "config" / "jupyter_server_config.d").mkdir(parents=True)
    (home / "notebooks").mkdir()
    package = Path(__file__).parents[1]
    enabling = package / "provisioner" / "server" / "jupyter-volumes.json"
    shutil.copy(enabling, home / "config" / "jupyter_server_config.d")
    shutil.copytree(package / "kernelspecs", home / "data" / "kernels")
    settings = {"VolumePool": {"sweep_interval": "never", "keep_backups": 1}}
    (home / "config" / "jupyter_volumes_config.json").write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {
        "HOME": home,
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_VOLUMES_ROOT": home / "volumes",
    }
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
    arguments = [f"--port={port}", f"--IdentityProvider.token={TOKEN}"]
    arguments += [f"--ServerApp.root_dir={home / 'notebooks'}", "--ServerApp.ip=127.0.0.1"]
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            env={**os.environ, **{name: str(path) for name, path in own.items()}},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
        )
    try:
        server = Server(home, port)
        server.wait_for(lambda: _is_up(server))
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _is_up(server: Server) -> bool:
    try:
        return bool(server.ask("GET", "/api/status"))
    except (OSError, HTTPError):
        return False


if __name__ == "__main__":
    sys.exit(main())
