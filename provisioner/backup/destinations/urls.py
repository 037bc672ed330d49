"""Finds the destination for a directory or a URL."""

from __future__ import annotations

from pathlib import Path

from provisioner.backup.destinations.destination import Destination
from provisioner.backup.destinations.directory import DirectoryDestination


def destination_for(location: str | Path) -> Destination:
    """Return the destination for a directory or an ``fsspec`` URL; it need not exist yet.

    Raises
    ------
    ConfigError
        If the URL's scheme is unknown or needs a package that is not installed.
    """
    text = str(location)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "file":
        return DirectoryDestination(Path(rest if separator else text).expanduser())
    from provisioner.backup.destinations.remote import RemoteDestination

    return RemoteDestination(text)
