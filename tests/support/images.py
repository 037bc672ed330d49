"""File systems in image files, for tests of formats that this machine's disks do not have."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import do_without, require

_MIB = 1 << 20
_FORMATS = {
    "xfs": (("mkfs.xfs", "-q", "-m", "reflink=1"), 320 * _MIB, "xfsprogs"),
    "btrfs": (("mkfs.btrfs", "-q"), 128 * _MIB, "btrfs-progs"),
}


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """Create a file system, mount it, and yield its path; it is removed at the end.

    The test needs the right to mount and a loop device.
    """
    (program, *options), size, package = _FORMATS[kind]
    made = require(program, f"install the package {package}")
    image, disk = folder / f"{kind}.image", folder / kind
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([made, *options, str(image)], check=True, capture_output=True)
    disk.mkdir()
    mount = ["mount", "-o", "loop", "-t", kind, str(image), str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        do_without(
            f"this test mounts {kind} from a file: run it where that is allowed ({done.stderr.strip()})"
        )
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        image.unlink()
