"""Is this directory fit to hold volumes? Made where it is missing, refused with the reason where it is not fit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import RootUnusable
from .volume import Layout

_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.blobfuse2", "fuse.ceph", "fuse.gcsfuse",
        "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "orangefs", "panfs", "pvfs2", "smb3", "smbfs",
        "webdav", "wekafs",
    }
)  # fmt: skip


_MOUNTS = "/proc/self/mountinfo"


def prepare(root: Path, *, allow_network: bool) -> Layout:
    """Return the layout of a root that can be used; makes the root if only it is missing.

    Raises
    ------
    RootUnusable
        With what is wrong and the cure.
    """
    layout = Layout(root)
    try:
        _make(root)
        _require_own(root)
        network = network_file_system(root)
        if network is not None and not allow_network:
            raise RootUnusable(
                f"The root {root} lies on a network file system ({network}), where two hosts would lose records; "
                "set VolumePool.root to a local disk, or VolumePool.allow_network_root if only this host uses it."
            )
        for directory in layout.directories:
            directory.mkdir(mode=0o700, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.strerror}: {error.filename}"
        raise RootUnusable(
            f"The root {str(root)!r} cannot be used ({reason}); "
            "make it a writable directory of yours, or set VolumePool.root to one."
        ) from error
    return layout


def _make(root: Path) -> None:
    if not root.exists() and not root.is_symlink():
        # The Jupyter data directory may not exist yet; any other missing parent is more likely a typing error.
        if not root.parent.exists() and not root.parent.parent.exists():
            raise RootUnusable(
                f"The root {root} cannot be made: {root.parent} does not exist; "
                "make it first, or correct VolumePool.root."
            )
        root.parent.mkdir(exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)


def _require_own(root: Path) -> None:
    status = root.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise RootUnusable(
            f"The root {root} is a symbolic link to {os.path.realpath(root)}; "
            "set VolumePool.root to that directory itself, so that all processes agree on one path."
        )
    if not stat.S_ISDIR(status.st_mode):
        raise RootUnusable(
            f"The root {root} is not a directory; remove it or correct VolumePool.root."
        )
    if status.st_uid != os.geteuid():
        raise RootUnusable(
            f"The root {root} belongs to user {status.st_uid}, not to you ({os.geteuid()}); "
            "set VolumePool.root to a directory of yours."
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise RootUnusable(
            f"The root {root} is open to others (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"close it with `chmod 700 {root}`."
        )
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise RootUnusable(
            f"The root {root} cannot be written; make it writable or set VolumePool.root to another directory."
        )


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that `path` lies on; None on a local or an unknown one."""
    kind = file_system(path)
    return kind if kind in _NETWORK_FILE_SYSTEMS else None


def file_system(path: Path) -> str | None:
    """Return the type of the file system that `path` lies on (`ext4`, `nfs4`, …); None where it cannot be told."""
    if Path(_MOUNTS).exists():
        return _linux_file_system(path)
    import psutil

    real = os.path.realpath(path)
    mounts = [
        (len(part.mountpoint), part.fstype)
        for part in psutil.disk_partitions(all=True)
        if os.path.commonpath([real, part.mountpoint]) == part.mountpoint
    ]
    return max(mounts)[1] if mounts else None


def _linux_file_system(path: Path) -> str | None:
    """Look the path's device up in the kernel's table of mounts (proc_pid_mountinfo(5))."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        return None
    return None
