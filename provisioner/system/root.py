"""Makes the root, or refuses a directory that cannot be one, with the reason and the cure."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from itertools import takewhile
from pathlib import Path

from provisioner.core.errors import RootUnusable
from provisioner.settings.pool import VolumePool
from provisioner.system.layout import Layout

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
    """Make a root unless it exists, check that it can hold volumes, and return its layout.

    Raises `RootUnusable` with the reason and the cure.
    """
    layout = Layout(root)
    try:
        _make(root)
        if (fault := _fault(root)) is not None:
            raise RootUnusable(f"The root {root} {fault}.")
        network = network_file_system(root)
        if network is not None and not allow_network:
            raise RootUnusable(
                f"The root {root} lies on a network file system ({network}), where two hosts would lose records; "
                "set VolumePool.root to a local disk, or VolumePool.allow_network_root if only this host uses it."
            )
        for directory in layout.directories:
            directory.mkdir(mode=0o700, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _unusable(root, error) from error
    return layout


def missing_parent(root: Path) -> Path | None:
    """Return the directory that the user must make before `root` can be made; None if nothing is missing.

    One missing directory above a root is made. Two missing ones suggest a typing error. All directories above the
    default root are made, as any Jupyter program makes its data directory.
    """
    if root.parent.exists() or root.parent.parent.exists() or _is_default(root):
        return None
    return root.parent


def _is_default(root: Path) -> bool:
    return root == VolumePool().root_path


def _make(root: Path) -> None:
    if root.exists() or root.is_symlink():
        return
    if (missing := missing_parent(root)) is not None:
        raise RootUnusable(
            f"The root {root} cannot be made: {missing} does not exist; "
            "make it first, or correct VolumePool.root."
        )
    # The directories above the default root belong to this user alone (XDG); others may use those above another root.
    mode = 0o700 if _is_default(root) else 0o777
    above = list(takewhile(lambda parent: not parent.exists(), root.parents))
    for directory in reversed(above):
        directory.mkdir(mode=mode, exist_ok=True)
    root.mkdir(mode=0o700, exist_ok=True)


def _unusable(root: Path, error: OSError | ValueError) -> RootUnusable:
    reason, cure = (
        str(error),
        "make it a writable directory of yours, or set VolumePool.root to one",
    )
    if isinstance(error, OSError):
        if error.filename is not None:
            reason = f"{error.strerror}: {error.filename}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            cure = "free some space there, or set VolumePool.root to a directory on another disk"
    return RootUnusable(f"The root {str(root)!r} cannot be used ({reason}); {cure}.")


def _fault(root: Path) -> str | None:
    """Return why a root is refused, and what to do; None if it is this user's alone and can be written."""
    status = root.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return (
            f"is a symbolic link to {os.path.realpath(root)}; "
            "set VolumePool.root to that directory itself, so that all processes agree on one path"
        )
    if not stat.S_ISDIR(status.st_mode):
        return "is not a directory; correct VolumePool.root, or move away what lies there"
    if status.st_uid != os.geteuid():
        return (
            f"belongs to user {status.st_uid}, not to you ({os.geteuid()}); "
            "set VolumePool.root to a directory of yours"
        )
    if mode & 0o077 and not holds_only_volumes(root):
        return (
            f"is open to others (mode {mode:04o}) and holds other things than volumes; "
            f"set VolumePool.root to a directory of its own, such as {root / 'volumes'}"
        )
    if mode & 0o077:
        return f"is open to others (mode {mode:04o}); close it with `chmod 700 {root}`"
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return "cannot be written; make it writable or set VolumePool.root to another directory"
    return None


def holds_only_volumes(root: Path) -> bool:
    """Whether closing a directory to other users takes nothing but volumes from them: it is empty, or a root."""
    layout = Layout(root)
    return not any(root.iterdir()) or all(path.is_dir() for path in layout.directories)


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that `path` lies on; None on a local or an unknown one."""
    kind = file_system(path)
    return kind if kind in _NETWORK_FILE_SYSTEMS else None


def file_system(path: Path) -> str | None:
    """Return the type of the file system that `path` lies on (`ext4`, `nfs4`, …); None if it cannot be found out."""
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
    with (
        contextlib.suppress(OSError, ValueError, IndexError),
        open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as table,
    ):
        for line in table:
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index("-") + 1]
    return None
