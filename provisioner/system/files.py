"""Files replaced in one step: at any instant there is the old one or the whole new one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from provisioner.system.removal import remove

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_file(
    path: Path,
    content: bytes,
    mode: int = 0o600,
    *,
    durable: bool = False,
    many_writers: bool = False,
) -> None:
    """Write a file aside and rename it into place; a `durable` one survives a power failure once this has returned.

    For `many_writers` see `replacing`. Raises `OSError` if the file cannot be written; the old one is there then.
    """
    with (
        replacing(path, many_writers=many_writers) as aside,
        open(os.open(aside, _CREATE, 0o600), "wb") as file,
    ):
        file.write(content)
        os.fchmod(file.fileno(), mode)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        sync_directory(path.parent)


@contextlib.contextmanager
def replacing(path: Path, *, many_writers: bool = False) -> Iterator[Path]:
    """Yield a free name beside `path`; what the block puts there takes the place of `path` at its end.

    If the block raises, nothing is left beside `path`. With `many_writers`, another writer may be at work on the same
    path. Where the caller excludes that, the name aside is always the same, so that killed writers do not leave one
    file each: the next writer removes what they left.
    """
    aside = path.with_name(f".{secrets.token_hex(8) if many_writers else path.name}.new")
    remove(aside)  # a kernel can put anything there
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
