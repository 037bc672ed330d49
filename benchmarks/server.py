"""Whether a server still answers while it works: `python benchmarks/server.py`.

200 clients ask for `/api/status` at once, again and again: a server that idles; one that starts eight kernels with
volumes while it backs 1 GB up; and one that starts eight kernels without volumes while another process compresses as
much. What counts is the 99th percentile of all answers from the moment the kernels are asked for until the last is up.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clients import Clients, connected
from measure import RESULTS, interleave, ratio, report, require_warm_bytecode
from starting import Starting

REQUESTS = 200
KERNELS = 8
BYTES = 1_000_000_000
ROUNDS = 5
IDLE_BURSTS = 15
PAUSE = 0.05
"""Seconds between two bursts."""

TOKEN = "benchmark"
PATIENCE = 120.0

COMPRESS = """
import sys, zstandard
with open("/dev/null", "wb") as sink:
    for path in sys.argv[1:]:
        with open(path, "rb") as source:
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
        print("\n".join(server.notes[-2 * args.rounds :]) + "\n")
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
        self.notes: list[str] = []
        self._port = port
        self._round = 0
        self._large: list[Path] = []

    def fill(self) -> None:
        """Make a volume with 1 GB of tables."""
        session = self.start("big.ipynb", "python3-volume")
        self.wait_for(lambda: self.volume()["kernels"])
        table = _table()
        for number in range(BYTES // len(table) + 1):
            self._large.append(Path(self.volume()["path"]) / f"table-{number}.csv")
            # Each begins elsewhere, so that they compress no better than the first.
            self._large[-1].write_bytes(table[number * 1000 :] + table[: number * 1000])
        self.end([session["id"]])

    def idle(self) -> float:
        """Ask a server that does nothing else."""
        time.sleep(1)
        with self._clients() as clients:
            return _percentile(_bursts(clients, iter(range(IDLE_BURSTS)).__next__))

    def loaded(self) -> float:
        """Ask while eight kernels with volumes start and the large volume is backed up."""
        again = self.start("big.ipynb", "python3-volume")
        self.wait_for(lambda: self.volume()["kernels"])
        self.end([again["id"]])
        self.wait_for(lambda: self.volume()["state"] == "stopped")
        job = self.ask("POST", f"/api/volumes/{self.volume()['id']}/backup")

        def follow() -> Any:
            return self.ask("GET", f"/api/volumes/jobs/{job['id']}")

        self.wait_for(lambda: follow()["done_bytes"])
        took = self._while_starting("python3-volume", lambda: follow()["state"] == "running")
        self.wait_for(lambda: follow()["state"] == "done")
        return took

    def peer(self) -> float:
        """Ask while eight kernels without volumes start and another process compresses as much."""
        compress = subprocess.Popen([sys.executable, "-c", COMPRESS, *self._large])
        took = self._while_starting("python3", lambda: compress.poll() is None)
        compress.kill()
        compress.wait()
        return took

    def _while_starting(self, kernel: str, is_loaded: Callable[[], bool]) -> float:
        """Ask from the moment that eight kernels are asked for until the last is up."""
        self._round += 1
        sessions: list[dict[str, Any]] = []
        starting = Starting(self.home / "data" / "runtime", KERNELS)

        def start(number: int) -> None:
            sessions.append(self.start(f"{kernel}-{self._round}-{number}.ipynb", kernel))
            starting.add(sessions[-1]["kernel"]["id"])

        with self._clients() as clients:
            began = time.monotonic()
            posts = [threading.Thread(target=start, args=(n,)) for n in range(KERNELS)]
            for post in posts:
                post.start()

            def go_on() -> None:
                if time.monotonic() - began > PATIENCE:
                    raise SystemExit("Not all kernels came up; see the server's log.")
                if not starting.missing:
                    raise StopIteration

            answers = _bursts(clients, go_on)
            took = time.monotonic() - began
        if not is_loaded():
            raise SystemExit("The compression was over before all kernels were up; use more bytes.")
        for post in posts:
            post.join()
        self.end([session["id"] for session in sessions])
        self.notes.append(
            f"{len(answers)} answers in {took:.1f} s in which {KERNELS} kernels of {kernel} came up; "
            "the compression went on"
        )
        return _percentile(answers)

    def _clients(self) -> contextlib.AbstractContextManager[Clients]:
        return connected(self._port, TOKEN, "/api/status", REQUESTS)

    def start(self, path: str, kernel: str) -> dict[str, Any]:
        """Begin a session and return it; its kernel starts meanwhile."""
        body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
        session: dict[str, Any] = self.ask("POST", "/api/sessions", body)
        return session

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
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, 60)) as client:
            headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
            content = json.dumps(body or {}) if method == "POST" else None
            client.request(method, path, content, headers)
            answer = client.getresponse()
            text = answer.read()
            if answer.status >= 400:
                raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")
            return json.loads(text) if text else None


def _bursts(clients: Clients, go_on: Callable[[], object]) -> list[float]:
    """Let the clients ask again and again, until `go_on` raises StopIteration; return all answers' times."""
    answers: list[float] = []
    while True:
        answers += clients.burst()
        try:
            go_on()
        except StopIteration:
            return answers
        time.sleep(PAUSE)


def _percentile(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100 - 1]


def _table() -> bytes:
    """Return about 10 MB of rows with numbers and words, which compress to two fifths."""
    draw = random.Random(0)
    words = ("alpha", "beta", "gamma", "delta")
    rows = (
        f"{number},{draw.random():.6f},{draw.randrange(1000)},{draw.choice(words)}\n"
        for number in range(400_000)
    )
    return "".join(rows).encode()


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
        "JUPYTER_RUNTIME_DIR": home / "data" / "runtime",
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
        server.wait_for(lambda: _is_up(port))
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
