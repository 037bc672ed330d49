"""Make a root with an installed version of jupyter-volumes, to be kept here and opened by every later version.

Install the version into an environment of its own and run this script with that environment's Python:

    python3 -m venv old && old/bin/pip install jupyter-volumes==VERSION   # or the path of a checkout
    old/bin/python tests/old_roots/make.py tests/old_roots/VERSION

It writes `VERSION.tar.zst` (Jupyter's data and configuration directories with the root in them) and
`VERSION.json` (what each volume must be and hold). It uses the command line and the verbs of `Pool`, which all
versions have; where a version keeps these classes elsewhere, `_POOLS` names the module.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import zstandard

_POOLS = (
    ("provisioner.pool", "provisioner.config"),
    ("provisioner.pool.pool", "provisioner.settings.pool"),
)
"""Where a version may have `Pool` and `VolumePool`."""

HOME = "/home/ada"
BEGIN = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
CONFIG = {
    "VolumePool": {
        "spares": {"hooked": 1},
        "kernelspec_policy": {"gpu-volume": {"prune_after": "never", "keep_backups": 1}},
    }
}
HOOKED = {
    "argv": ["sleep", "600"],
    "display_name": "hooked",
    "language": "none",
    "metadata": {
        "kernel_provisioner": {
            "provisioner_name": "volume-provisioner",
            "config": {"bootstrap_command": ["sh", "-c", "echo prepared >> prepared.txt"]},
        }
    },
}


class Maker:
    """Makes volumes in every state under one root.

    Parameters
    ----------
    jupyter
        The directory that will hold Jupyter's data and configuration, and the root.
    """

    def __init__(self, jupyter: Path) -> None:
        self.root = jupyter / "volumes"
        self.now = BEGIN
        os.environ["JUPYTER_CONFIG_DIR"] = str(jupyter / "config")
        os.environ["JUPYTER_DATA_DIR"] = str(jupyter / "data")
        os.environ["JUPYTER_VOLUMES_ROOT"] = str(self.root)
        # Leases name the machine: not the one that made this.
        socket.gethostname = lambda: "lab7"
        (jupyter / "config").mkdir()
        (jupyter / "config/jupyter_volumes_config.json").write_text(json.dumps(CONFIG))
        spec = jupyter / "data/kernels/hooked/kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(HOOKED))
        self.expected: dict[str, dict[str, Any]] = {}

    def pool(self) -> Any:
        """Return a pool whose clock stands at `now`."""
        for pools, settings in _POOLS:
            with suppress(ImportError, AttributeError):
                pool_class = import_module(pools).Pool
                settings_class = import_module(settings).VolumePool
                chosen = settings_class(root=str(self.root), **CONFIG["VolumePool"])
                return pool_class(chosen, lambda: self.now)
        raise SystemExit("This version keeps its Pool elsewhere; add its modules to _POOLS.")

    def use(self, name: str, kernelspec: str = "python3-volume", text: str = "first") -> Any:
        """Run what stands for a kernel: acquire a volume, write files, release it; return the record."""
        self.now += timedelta(hours=1)
        pool = self.pool()
        acquired = pool.acquire(f"{HOME}/{name}", kernelspec, kernel="kernel-1")
        write_files(acquired.path, text)
        pool.release(acquired)
        record = pool.find(f"{HOME}/{name}")
        pool.close()
        return record

    def expect(self, name: str, state: str, volume: Path | None = None, **more: Any) -> None:
        """Note the state that a volume must have, and the files as they are now."""
        pool = self.pool()
        path = volume or pool.path(pool.find(f"{HOME}/{name}"))
        self.expected[f"{HOME}/{name}"] = {"state": state, "files": files_of(path), **more}
        pool.close()

    def active(self) -> None:
        """Let a process end without a word while it holds a volume."""
        child = os.fork()
        if child == 0:
            pool = self.pool()
            acquired = pool.acquire(f"{HOME}/active.ipynb", "python3-volume", kernel="kernel-1")
            write_files(acquired.path, "first")
            os._exit(0)
        os.waitpid(child, 0)
        # The lock is free, so every version shows the volume as stopped; its record in the table says active.
        self.expect("active.ipynb", "stopped")

    def stopped(self) -> None:
        """Make a volume that was used twice and has no backup."""
        self.use("Übung 1.ipynb")
        self.use("Übung 1.ipynb", text="second")
        self.expect("Übung 1.ipynb", "stopped")

    def pruned(self) -> None:
        """Make a volume with two backups, of which the first has other files, and delete its files from disk."""
        pool = self.pool()
        first = pool.back_up(self.use("pruned.ipynb").id)
        record = self.use("pruned.ipynb", text="second")
        pool.back_up(record.id)
        self.expect("pruned.ipynb", "pruned", pool.path(record), first_backup=first.name)
        pool.prune(record.id)
        part_of(pool, "files").empty_trash()
        pool.close()

    def pinned(self) -> None:
        """Make a pinned volume with a backup."""
        record = self.use("pinned.ipynb")
        pool = self.pool()
        pool.back_up(record.id)
        part_of(pool, "catalog").pin(record.id, True)
        pool.close()
        self.expect("pinned.ipynb", "stopped", pinned=True)

    def renamed(self) -> None:
        """Rename a notebook."""
        record = self.use("draft.ipynb")
        pool = self.pool()
        part_of(pool, "catalog").relabel(record.id, f"{HOME}/notes/final.ipynb")
        pool.close()
        self.expect("notes/final.ipynb", "stopped", former=f"{HOME}/draft.ipynb")

    def partial(self) -> None:
        """Make a volume whose only backup is partial: a file was written to while it was made."""
        record = self.use("changing.ipynb")
        pool = self.pool()
        log, done = pool.path(record) / "changing.log", threading.Event()
        log.write_bytes(bytes(4 << 20))
        writer = threading.Thread(target=write_until, args=(log, done))
        writer.start()
        partial = pool.back_up(record.id).partial
        done.set()
        writer.join()
        pool.close()
        assert partial, "nothing was written during the backup; run this script again"
        log.write_text("at rest\n")
        self.expect("changing.ipynb", "stopped", partial=True)

    def with_policy(self) -> None:
        """Make a volume of the kernelspec that has a policy of its own."""
        self.use("gpu.ipynb", "gpu-volume")
        self.expect("gpu.ipynb", "stopped", kernelspec="gpu-volume")

    def hydrated(self) -> None:
        """Run a kernelspec's bootstrap command in a volume, and make a spare of that kernelspec."""
        self.use("hydrated.ipynb", "hooked")
        command = (sys.executable, "-m", "provisioner.cli")
        subprocess.run([*command, "hydrate", f"{HOME}/hydrated.ipynb"], check=True)
        self.expect("hydrated.ipynb", "stopped", kernelspec="hooked")
        subprocess.run([*command, "warm", "hooked"], check=True)


def part_of(pool: Any, name: str) -> Any:
    """Return the part of a pool that has a verb, or the pool where a version has all verbs there."""
    return getattr(pool, name, pool)


def write_until(log: Path, done: threading.Event) -> None:
    """Change a file again and again."""
    with log.open("r+b") as file:
        while not done.is_set():
            os.utime(file.fileno())


def write_files(volume: Path, text: str) -> None:
    """Write one of each kind of file that a notebook may leave."""
    (volume / "results.csv").write_text(f"x,y\n1,{text}\n")
    (volume / "données — 数据.txt").write_text("non-ASCII in name and content: ü\n")
    deep = volume / "data/2026/march"
    deep.mkdir(parents=True, exist_ok=True)
    (deep / "measured.bin").write_bytes(bytes(range(256)) * 8)
    (volume / "empty directory").mkdir(exist_ok=True)
    for link, target in (("latest", "data/2026"), ("dangling", "nowhere")):
        if not (volume / link).is_symlink():
            (volume / link).symlink_to(target)
    script = volume / "run.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    if not (volume / "read-only.txt").exists():
        (volume / "read-only.txt").write_text("kept as it was\n")
        (volume / "read-only.txt").chmod(0o444)


def files_of(volume: Path) -> dict[str, list[Any]]:
    """Return what a user sees of each entry: kind, permissions, time of change, content (digest or target)."""
    seen: dict[str, list[Any]] = {}
    for path in sorted(volume.rglob("*")):
        name = path.relative_to(volume)
        if name.parts[0] == ".volume":
            continue
        status = path.lstat()
        if path.is_symlink():
            seen[str(name)] = ["link", os.readlink(path)]
        elif path.is_dir():
            seen[str(name)] = ["directory", f"{status.st_mode & 0o7777:04o}"]
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            mode = f"{status.st_mode & 0o7777:04o}"
            seen[str(name)] = ["file", mode, status.st_mtime_ns // 1_000_000_000, digest]
    return seen


def pack(jupyter: Path, archive: Path) -> None:
    """Write all that lies in a directory to a compressed tar, without names of people or machines."""

    def cleaned(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        # The space kept back for a full disk is zeros, and every version makes it anew.
        if member.name == "./volumes/reserve":
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(jupyter, ".", filter=cleaned)
    archive.write_bytes(zstandard.ZstdCompressor(level=19).compress(stream.getvalue()))


def main() -> None:
    """Make the root that the command line asks for."""
    stem = Path(sys.argv[1])
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as scratch:
        jupyter = Path(scratch, "jupyter")
        jupyter.mkdir()
        maker = Maker(jupyter)
        maker.stopped()
        maker.pruned()
        maker.pinned()
        maker.renamed()
        maker.partial()
        maker.with_policy()
        maker.hydrated()
        maker.active()
        pack(jupyter, stem.with_name(f"{stem.name}.tar.zst"))
    about = {"volumes": maker.expected, "last_used": maker.now.isoformat()}
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    stem.with_name(f"{stem.name}.json").write_text(text)


if __name__ == "__main__":
    main()
