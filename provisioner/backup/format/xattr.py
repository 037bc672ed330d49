"""Reads and sets the extended attributes that a backup keeps: the user's own, and POSIX access lists.

``security.*`` and ``trusted.*`` are left out: capabilities grant rights as setuid does, and labels belong to the
machine.
"""

from __future__ import annotations

import errno
import os
import sys

from provisioner.backup.format.header import XATTR, pax_record

_KEPT = ("user.", "system.posix_acl_access", "system.posix_acl_default")


def kept(name: str) -> bool:
    """Return whether an attribute of this name is backed up and restored."""
    return name.startswith(_KEPT)


if sys.platform == "linux":

    def pax_records(descriptor: int) -> bytes:
        """Return the attributes of an open file, as records of an extended header."""
        try:
            names = os.listxattr(descriptor)
        except OSError:  # a file system without attributes
            return b""
        return b"".join(_record(descriptor, name) for name in names) if names else b""

    def set_xattr(descriptor: int, name: bytes, value: bytes) -> None:
        """Set one attribute of an open file.

        On a file system without attributes (some network file systems) this does nothing: a restored file without
        attributes is better than no file.
        """
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise

    def _record(descriptor: int, name: str) -> bytes:
        if not kept(name):
            return b""
        try:
            value = os.getxattr(descriptor, name)
        except OSError:  # removed meanwhile
            return b""
        return pax_record(XATTR + os.fsencode(name), value)

else:  # Python supports extended attributes on Linux only

    def pax_records(descriptor: int) -> bytes:
        """Return no records: attributes are kept on Linux only."""
        return b""

    def set_xattr(descriptor: int, name: bytes, value: bytes) -> None:
        """Do nothing: attributes are kept on Linux only."""
