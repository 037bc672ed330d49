"""Small disks that can be filled: tmpfs mounts."""

from __future__ import annotations

import subprocess
from pathlib import Path


class SmallDisk:
    """A file system of a few bytes, mounted at `path`; needs the right to mount."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size
        self._ballast = path / ".ballast"

    def mount(self) -> None:
        """Make and mount it."""
        self.path.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)], check=True)

    def unmount(self) -> None:
        """Take it away, with all that lies on it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass

    def drain(self) -> None:
        """Free what `fill` took."""
        self._ballast.unlink(missing_ok=True)
