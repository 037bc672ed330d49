"""Small disks that can be filled: tmpfs mounts."""

from __future__ import annotations

import subprocess
from pathlib import Path


class SmallDisk:
    """A small file system of `size` bytes, mounted at `path`; the test needs the right to mount."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size
        self._ballast = path / ".ballast"

    def __enter__(self) -> SmallDisk:
        self.mount()
        return self

    def __exit__(self, *error: object) -> None:
        self.unmount()

    def mount(self) -> None:
        """Create the file system and mount it."""
        self.path.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)], check=True)

    def unmount(self) -> None:
        """Unmount it; everything on it is lost."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def fill(self) -> None:
        """Write until no byte is free."""
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass

    def drain(self) -> None:
        """Free the space that `fill` used."""
        self._ballast.unlink(missing_ok=True)
