"""The errors of this package. Each message is one line that a person can act on.

Every message says what failed, why, and what to do next. The classes and their codes let the faces (kernel, server,
command line) distinguish refusals from failures without parsing the text.
"""

from __future__ import annotations


class VolumeError(Exception):
    """The base of all refusals and failures of this package. Its message is one line for the user."""

    code = "volume-error"

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split("\n")))


class ConfigError(VolumeError):
    """A setting has an unknown name, a wrong type or a value that makes no sense."""

    code = "bad-setting"


class BadSession(VolumeError):
    """A session name that cannot be used."""

    code = "bad-session"


class PoolDisabled(VolumeError):
    """The administrator has switched volumes off."""

    code = "disabled"


class PoolFull(VolumeError):
    """The pool has reached its capacity, and no volume may be evicted."""

    code = "pool-full"


class RootUnusable(VolumeError):
    """The root directory cannot hold volumes."""

    code = "root-unusable"


class RegistryUnusable(VolumeError):
    """The table of volumes cannot be read or written."""

    code = "registry-unusable"


class VolumeHeld(VolumeError):
    """Another process holds the lease of the volume."""

    code = "held"


class VolumeNotFound(VolumeError):
    """No volume has that session name."""

    code = "not-found"


class LauncherUnusable(VolumeError):
    """The launcher named in kernel.json does not exist or cannot be used."""

    code = "bad-launcher"


class HydrationFailed(VolumeError):
    """A step could not bring the volume's environment to what the kernelspec declares.

    The `tail` is the last lines of the step's real output, shown below the message.
    """

    code = "hydration-failed"

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail

    def __str__(self) -> str:
        head = super().__str__()
        return f"{head}\n{self.tail}" if self.tail else head


class Cancelled(VolumeError):
    """The user or the program that requested the work cancelled it."""

    code = "cancelled"


class BackupFailed(VolumeError):
    """A backup could not be made; nothing was left under its final name."""

    code = "backup-failed"


class BackupDamaged(VolumeError):
    """The content of a backup is not what was written, or is nothing that a backup of this package contains."""

    code = "backup-damaged"


class BackupMissing(VolumeError):
    """No backup has that name."""

    code = "backup-missing"


class RestoreFailed(VolumeError):
    """A backup is undamaged but could not be restored (no space, no permission)."""

    code = "restore-failed"


class DiskFull(VolumeError):
    """The file system has too little free space for what was asked."""

    code = "disk-full"


class NotBackedUp(VolumeError):
    """Deleting was refused because no verified backup of the current generation exists."""

    code = "not-backed-up"
