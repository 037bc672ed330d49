"""Whether a stopped volume's files are still those of its backup.

Generations count what is done under the lease. But other programs can write to a directory too: a terminal, a
file manager, a process that a kernel left behind. So a backup begins with a fingerprint, a digest of the metadata of
everything in the volume, and the fingerprint is compared before files are deleted for good. No clock is involved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.core.errors import BackupFailed
from provisioner.system.files import replace_file
from provisioner.system.layout import STATE_DIRECTORY, state_directory
from provisioner.system.removal import remove

if TYPE_CHECKING:
    from provisioner.backup.tree import Directory

_NAME = "sealed"
_MAX_BYTES = 1 << 20


def take(volume: Path, exclude: Iterable[str]) -> None:
    """Store the fingerprint of a volume; where it cannot be written, as on a full disk, there is none.

    Reads the metadata of each file and no content: a fifth of a second for 100,000 files. Changes to what the globs
    `exclude` match do not count: the backup leaves that out.
    """
    path = state_directory(volume) / _NAME
    globs = list(exclude)
    try:
        content = json.dumps({"exclude": globs, "digest": _digest(volume, globs)})
        remove(path)  # whatever it is: an old fingerprint must not stand for these files
        replace_file(path, content.encode())
    except (OSError, BackupFailed):
        with contextlib.suppress(OSError):
            path.unlink()


def has_changed(volume: Path) -> bool:
    """Whether anything in the volume differs from its fingerprint; False without a fingerprint or without the volume.

    A volume without its state directory, which every volume has, counts as changed.
    """
    # The second look is for a volume that was renamed meanwhile: another process is deleting it.
    return os.path.isdir(volume) and _differs(volume) and os.path.isdir(volume)


def _differs(volume: Path) -> bool:
    if not os.path.isdir(state_directory(volume)):
        return True
    content = _read(state_directory(volume) / _NAME)
    if content is None:
        return False
    try:
        return _digest(volume, content["exclude"]) != str(content["digest"])
    except (KeyError, TypeError, BackupFailed):
        return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        # Not blocking: another program may have put a pipe there.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        content = json.loads(os.read(fd, _MAX_BYTES))
    except (OSError, ValueError):
        return {}
    finally:
        os.close(fd)
    return content if isinstance(content, dict) else {}


def _digest(volume: Path, exclude: Iterable[str]) -> str:
    # Imported here: a start takes no fingerprint, and does not load the archive's code.
    from provisioner.backup.format.exclusion import Exclusions
    from provisioner.backup.format.manifest import Tally
    from provisioner.backup.tree import walk

    digest, tally = hashlib.sha256(), Tally()
    for directory in walk(volume, Exclusions(exclude), tally):
        digest.update(b"%d %s\0" % (directory.status.st_mode, directory.path))
        # What lies in the state directory itself is written without the lease too; the environment lies further below.
        if directory.path != STATE_DIRECTORY.encode() and directory.descriptor is not None:
            digest.update(b"".join(_looks(directory, directory.descriptor)))
    return digest.hexdigest()


def _looks(directory: Directory, descriptor: int) -> Iterable[bytes]:
    for name in (*directory.files, *directory.others):
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            yield b"gone %s\0" % name
            continue
        # Nobody can set the change time. But of a file with several names it also tells when another name was given
        # or taken, as with each environment that is linked from the same cache.
        changed = status.st_ctime_ns if status.st_nlink == 1 else status.st_mtime_ns
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield b"%d %d %d %d %s\0" % (
                status.st_mode, status.st_ino, status.st_size, changed, name,
            )  # fmt: skip
