"""Extended attributes that a backup keeps: the user's own, and POSIX access lists.

``security.*`` and ``trusted.*`` are left out: capabilities are setuid by another name, and labels
belong to the machine.
"""

from __future__ import annotations

import errno
import os
import sys

from provisioner.backup.format.header import XATTR, pax_record

_KEPT = ("user.", "system.posix_acl_access", "system.posix_acl_default")


def kept(name: str) -> bool:
    """Whether an attribute of this name is backed up and restored."""
    return name.startswith(_KEPT)


if sys.platform == "linux":

    def pax_records(descriptor: int) -> bytes:
        """Records, for an extended header, of the attributes of an open file."""
        try:
            names = os.listxattr(descriptor)
        except OSError:  # a file system without attributes
            return b""
        return b"".join(_record(descriptor, name) for name in names) if names else b""

    def set_xattr(descriptor: int, name: bytes, value: bytes) -> None:
        """Set one attribute of an open file, where its file system has attributes.

        Where it has none (some network file systems), a file without them is better than no file.
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

else:  # Python offers extended attributes on Linux only

    def pax_records(descriptor: int) -> bytes:
        """Nothing: attributes are kept on Linux only."""
        return b""

    def set_xattr(descriptor: int, name: bytes, value: bytes) -> None:
        """Nothing: attributes are kept on Linux only."""
