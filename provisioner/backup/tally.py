"""Counts what a walk through a tree meets, for the manifest."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from provisioner.backup.format.manifest import NOTED_PATHS, About, Manifest, Noted, printable


@dataclass
class Note:
    """Counts the paths that something happened to, and keeps the first of them."""

    count: int = 0
    paths: list[str] = field(default_factory=list)

    def add(self, path: bytes) -> None:
        """Count a path; keep it if it is among the first `NOTED_PATHS`."""
        self.count += 1
        if len(self.paths) < NOTED_PATHS:
            self.paths.append(printable(path))

    def noted(self) -> Noted:
        """Return the count as a record."""
        return Noted(self.count, tuple(self.paths))


@dataclass
class Tally:
    """The counts so far; :class:`Manifest` explains each."""

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
        """Return the counts as a manifest."""
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        values: dict[str, Any] = {
            name: count.noted() if isinstance(count, Note) else count
            for name, count in counts.items()
        }
        return Manifest(about=about, creator=creator, **values)
