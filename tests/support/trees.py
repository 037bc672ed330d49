"""Trees to back up, and a comparable description of a tree."""

from __future__ import annotations

import os
import socket
import stat
import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

from provisioner.backup.archive import verify
from provisioner.backup.destinations.destination import Destination
from provisioner.backup.extractor import extract
from provisioner.backup.format.manifest import About, Manifest
from provisioner.backup.operation import restore_backup, write_backup
from provisioner.backup.writer import Written, write_archive

MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
ABOUT = About("vol-1", "notebooks/über.ipynb", "python3-volume", 7, MOMENT)


@dataclass(frozen=True)
class Seen:
    """Everything about one file that must survive a round trip."""

    mode: int
    size: int
    mtime_ns: int
    target: str | None
    content: bytes | None
    holes: tuple[tuple[int, int], ...]
    xattrs: tuple[tuple[str, bytes], ...]
    names: frozenset[bytes]


def see(top: Path, *, exactly: bool = True) -> dict[bytes, Seen]:
    """Look at every entry below a directory, and the directory itself (as ``b"."``).

    With ``exactly=False``, extended attributes are ignored: plain ``tar`` does not restore them by default.
    """
    root = os.fsencode(top)
    paths = [root]
    for folder, folders, files in os.walk(root):
        paths += [os.path.join(folder, name) for name in folders + files]
    names: dict[int, set[bytes]] = {}
    for path in paths:
        names.setdefault(os.lstat(path).st_ino, set()).add(os.path.relpath(path, root))
    return {
        os.path.relpath(path, root): _see(path, names[os.lstat(path).st_ino], exactly)
        for path in paths
        if not _is_special(os.lstat(path).st_mode)
    }


def _see(path: bytes, names: set[bytes], exactly: bool) -> Seen:
    status = os.lstat(path)
    is_file = stat.S_ISREG(status.st_mode)
    is_link = stat.S_ISLNK(status.st_mode)
    return Seen(
        mode=status.st_mode,
        size=status.st_size if is_file else 0,
        mtime_ns=status.st_mtime_ns,
        target=os.readlink(os.fsdecode(path)) if is_link else None,
        content=Path(os.fsdecode(path)).read_bytes() if is_file else None,
        holes=_data(path) if is_file else (),
        xattrs=()
        if is_link or not exactly
        else tuple(sorted((n, os.getxattr(path, n)) for n in os.listxattr(path))),
        names=frozenset(names),
    )


def _data(path: bytes) -> tuple[tuple[int, int], ...]:
    found = []
    file = os.open(path, os.O_RDONLY)
    try:
        end, size = 0, os.fstat(file).st_size
        while end < size:
            try:
                start = os.lseek(file, end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file, start, os.SEEK_HOLE)
            found.append((start, end))
    finally:
        os.close(file)
    return tuple(found)


def _is_special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def plant_everything(top: Path) -> None:
    """Make a tree with all that matters in a Linux file system."""
    top.mkdir()
    (top / "plain.txt").write_text("hello")
    (top / "empty").write_bytes(b"")
    (top / "executable").write_bytes(b"#!/bin/sh\n")
    (top / "executable").chmod(0o755)
    (top / "secret").write_bytes(b"s")
    (top / "secret").chmod(0o400)
    (top / "block").write_bytes(b"b" * 512)
    (top / "large").write_bytes(os.urandom(300_001))
    (top / "piece").write_bytes(os.urandom(128 << 10))
    (top / "empty directory").mkdir()
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "c" / "deep").write_bytes(b"deep")
    (top / "a-b").mkdir()
    (top / "a-b" / "file").write_bytes(b"sorted between a and a/b by some")
    (top / ".volume-backup.json").write_text("a file of the user's with this name")
    _plant_names(top)
    _plant_links(top)
    _plant_sparse(top)
    _plant_times(top)
    os.setxattr(top / "plain.txt", "user.colour", b"blue\0green\n")
    os.setxattr(top / "a", "user.on.directory", b"x" * 600)
    os.mkfifo(top / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(top)
    listener.bind("socket")
    os.chdir(here)
    listener.close()
    (top / "a" / "b").chmod(0o555)
    os.utime(top / "a" / "b", ns=(1, 1_600_000_000_000_000_001))
    os.utime(top, ns=(1, 1_600_000_000_123_456_789))
    top.chmod(0o750)


def _plant_names(top: Path) -> None:
    root = os.fsencode(top)
    for name in (b"n" * 255, b"\xff\xfe not utf-8", b"new\nline", b"back\\slash", "ünï".encode()):
        with open(root + b"/" + name, "wb") as file:
            file.write(name)
    for length in (99, 100, 101):
        (top / ("l" * length)).write_bytes(b"length")
        (top / ("d" * length)).mkdir()
    folder = root + b"/" + b"\xfe" * 200
    os.mkdir(folder)
    with open(folder + b"/" + b"\xfd" * 200, "wb") as file:
        file.write(b"long and not utf-8")
    deep = top / "/".join(["directory-of-a-deep-tree"] * 80)
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"bottom")


def _plant_links(top: Path) -> None:
    (top / "relative").symlink_to("plain.txt")
    (top / "dangling").symlink_to("nowhere")
    (top / "absolute").symlink_to("/usr/bin/env")
    (top / "to directory").symlink_to("a", target_is_directory=True)
    (top / "long target").symlink_to("t" * 300)
    os.utime(top / "dangling", ns=(5, 1_500_000_000_000_000_005), follow_symlinks=False)
    os.link(top / "plain.txt", top / "hard")
    os.link(top / "plain.txt", top / "a" / "hard too")
    os.link(top / "dangling", top / "hard dangling", follow_symlinks=False)
    os.link(top / ("n" * 255), top / "hard to a long name")


def _plant_sparse(top: Path) -> None:
    with (top / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"m" * 5000)
        file.truncate(4 << 20)
    with (top / "all hole").open("wb") as file:
        file.truncate(3 << 20)
    with (top / "starts with data").open("wb") as file:
        file.write(b"d" * 4096)
        file.seek(2 << 20)
        file.write(b"end")


def _plant_times(top: Path) -> None:
    for name, moment in {
        "whole second": 1_700_000_000_000_000_000,
        "nanosecond": 1_700_000_000_000_000_001,
        "epoch": 0,
        "early": 999_999_999_999_999_999,
        "before the epoch": -1_500_000_000,
        "beyond 64 bits": 10_413_792_000_000_000_007,
    }.items():
        (top / name).write_bytes(b"t")
        os.utime(top / name, ns=(moment, moment))


def archive_of(top: Path, **others: Any) -> tuple[bytes, Written]:
    """Back a tree up into memory."""
    stream = BytesIO()
    written = write_archive(top, stream, ABOUT, cancel=threading.Event(), **others)
    return stream.getvalue(), written


def verified(archive: bytes) -> Manifest:
    """Verify an archive in memory."""
    return verify(BytesIO(archive), cancel=threading.Event())


def extracted(archive: bytes, into: Path, **others: Any) -> Manifest:
    """Restore an archive in memory."""
    return extract(BytesIO(archive), into, cancel=threading.Event(), **others)


def back_up(top: Path, place: Destination, **others: Any) -> Written:
    """Back a tree up."""
    return write_backup(top, place, ABOUT, **{"cancel": threading.Event(), **others})


def bring_back(place: Destination, into: Path, **others: Any) -> Manifest:
    """Restore what `back_up` made."""
    return restore_backup(place, ABOUT.name, into, **{"cancel": threading.Event(), **others})
