"""The running count from which a manifest is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from provisioner.backup.format.manifest import NOTED_PATHS, About, Manifest, Noted, printable


@dataclass
class Note:
    """Paths that something happened to, as they turn up."""

    count: int = 0
    paths: list[str] = field(default_factory=list)

    def add(self, path: bytes) -> None:
        """Count a path, and keep it if it is one of the first."""
        self.count += 1
        if len(self.paths) < NOTED_PATHS:
            self.paths.append(printable(path))

    def noted(self) -> Noted:
        """Return the count as a record."""
        return Noted(self.count, tuple(self.paths))


@dataclass
class Tally:
    """What has been met in the tree so far; see :class:`Manifest` for the words."""

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    hardlinks: int = 0
    bytes: int = 0
    skipped: Note = field(default_factory=Note)
    excluded: Note = field(default_factory=Note)
    unreadable: Note = field(default_factory=Note)
    vanished: Note = field(default_factory=Note)
    changed: Note = field(default_factory=Note)

    def manifest(self, about: About, creator: str) -> Manifest:
        """Freeze the count."""
        return Manifest(
            about=about,
            files=self.files,
            directories=self.directories,
            symlinks=self.symlinks,
            hardlinks=self.hardlinks,
            bytes=self.bytes,
            skipped=self.skipped.noted(),
            excluded=self.excluded.noted(),
            unreadable=self.unreadable.noted(),
            vanished=self.vanished.noted(),
            changed=self.changed.noted(),
            creator=creator,
        )
