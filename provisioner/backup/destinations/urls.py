"""Which destination a directory or a URL names."""

from __future__ import annotations

from pathlib import Path

from provisioner.backup.destinations.destination import Destination
from provisioner.backup.destinations.directory import DirectoryDestination


def destination_for(place: str | Path) -> Destination:
    """Find the destination for a directory or an ``fsspec`` URL; neither needs to exist yet.

    Raises
    ------
    ConfigError
        If the URL's scheme is unknown or needs a package that is not installed.
    """
    text = str(place)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "file":
        return DirectoryDestination(Path(rest if separator else text).expanduser())
    from provisioner.backup.destinations.remote import RemoteDestination

    return RemoteDestination(text)
