"""Reads and sets the extended attributes that a backup keeps: the user's own, and POSIX access lists.

``security.*`` and ``trusted.*`` are left out: capabilities grant rights as setuid does, and labels belong to the
machine.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys

from provisioner.backup.format.header import XATTR, pax_record

_KEPT = ("user.", "system.posix_acl_access", "system.posix_acl_default")


def kept(name: str) -> bool:
    """Return whether an attribute of this name is backed up and restored."""
    return name.startswith(_KEPT)


def pax_records(descriptor: int) -> bytes:
    """Return the attributes of an open file, as records of an extended header; none but on Linux."""
    records = b""
    if sys.platform == "linux":
        try:
            names = os.listxattr(descriptor)
        except OSError:  # a file system without attributes
            return b""
        for name in names:
            if kept(name):
                with contextlib.suppress(OSError):  # removed meanwhile
                    records += pax_record(XATTR + os.fsencode(name), os.getxattr(descriptor, name))
    return records


def set_xattr(descriptor: int, name: bytes, value: bytes) -> None:
    """Set one attribute of an open file, on Linux.

    On a file system without attributes (some network file systems) this does nothing: a restored file without
    attributes is better than no file.
    """
    if sys.platform == "linux":
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
