"""The manifest of a backup: whose files it holds, of which generation, how many, and which are missing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from provisioner.backup.format.name import BackupName
from provisioner.core.errors import BackupDamaged

FORMAT = 1
MEMBER = b".volume-backup.json"
"""Path of the manifest inside the archive: its last member."""

# How many paths a list names; further ones are only counted.
_NOTED_PATHS = 50
_NOTED_LENGTH = 1024


@dataclass(frozen=True)
class About:
    """The volume that a backup belongs to; no value comes from its files.

    Parameters
    ----------
    volume, session, kernelspec
        Id of the volume, its session, and the name of its kernelspec.
    generation
        Generation of the files, 0 or more.
    created
        When the backup started; with a time zone.
    """

    volume: str
    session: str
    kernelspec: str
    generation: int
    created: datetime

    @property
    def name(self) -> BackupName:
        """The file name of the backup."""
        return BackupName(self.volume, self.created, self.generation)


def printable(path: bytes) -> str:
    """Return a path as text; bytes that are not UTF-8 and control characters are escaped."""
    text = path.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _NOTED_LENGTH else text[: _NOTED_LENGTH - 1] + "…"


@dataclass
class Noted:
    """How many files something happened to, and the first of their paths, made printable."""

    count: int = 0
    paths: tuple[str, ...] = ()

    def add(self, path: bytes) -> None:
        """Count a path; keep it if it is among the first."""
        self.count += 1
        if self.count <= _NOTED_PATHS:
            self.paths += (printable(path),)


@dataclass
class Tally:
    """What a walk through a tree met.

    Parameters
    ----------
    files, directories, symlinks, hardlinks
        Members of each kind; a file's second and further names count as hard links.
    bytes
        Sum of the files' sizes, including holes.
    skipped
        Sockets, fifos and devices: they hold no data and are never backed up.
    excluded
        Left out by exclude globs, or because ``CACHEDIR.TAG`` marks a cache.
    unreadable, vanished, changed
        Files that could not be read, disappeared before they were read, or changed while they were read.
    """

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    hardlinks: int = 0
    bytes: int = 0
    skipped: Noted = field(default_factory=Noted)
    excluded: Noted = field(default_factory=Noted)
    unreadable: Noted = field(default_factory=Noted)
    vanished: Noted = field(default_factory=Noted)
    changed: Noted = field(default_factory=Noted)


@dataclass(kw_only=True)
class Manifest(Tally):
    """The record in every backup: the tally, whose volume it is, and the program and version that wrote it."""

    about: About
    creator: str

    @property
    def partial(self) -> bool:
        """Whether a file is missing from the backup or may differ from the file on disk."""
        return bool(self.unreadable.count or self.vanished.count or self.changed.count)

    @property
    def entries(self) -> int:
        """How many members the archive has, without the manifest."""
        return self.files + self.directories + self.symlinks + self.hardlinks

    def to_json(self) -> str:
        """Return the manifest as a JSON object in ASCII."""
        record = asdict(self)
        about = record.pop("about")
        about["created"] = self.about.created.astimezone(timezone.utc).isoformat()
        return json.dumps({"format": FORMAT, **about, **record, "partial": self.partial})

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Manifest:
        """Check each field of what :meth:`to_json` wrote, decoded; it may be hostile.

        Raises
        ------
        BackupDamaged
            If the format is newer than this version's.
        ValueError, TypeError, KeyError
            If a field is missing, unknown, of a wrong type, or contradicts another.
        """
        if not isinstance(record, dict) or not isinstance(record.get("format"), int):
            raise ValueError("no format")
        if record["format"] != FORMAT:
            raise BackupDamaged(
                f"the backup has format {record['format']} and this version knows {FORMAT};"
                " use the version of jupyter-volumes that wrote it"
            )
        unread = {key: value for key, value in record.items() if key != "format"}
        created = datetime.fromisoformat(_text(unread.pop("created")))
        if created.tzinfo is None:
            raise ValueError("created has no time zone")
        names = {key: _text(unread.pop(key)) for key in ("volume", "session", "kernelspec")}
        about = About(**names, generation=_count(unread.pop("generation")), created=created)
        creator, partial = _text(unread.pop("creator")), unread.pop("partial")
        tally: dict[str, Any] = {
            key: _count(unread.pop(key)) if isinstance(usual, int) else _noted(unread.pop(key))
            for key, usual in vars(Tally()).items()
        }
        if unread:
            raise ValueError(f"unknown field {min(unread)[:40]!r}")
        manifest = cls(about=about, creator=creator, **tally)
        if partial is not manifest.partial:
            raise ValueError("partial contradicts the counts")
        return manifest


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 8192:
        raise ValueError("a text is missing or too long")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError("a number is missing or out of range")
    return value


def _noted(value: object) -> Noted:
    if not isinstance(value, dict) or set(value) != {"count", "paths"}:
        raise ValueError("a list of paths is missing")
    count, paths = _count(value["count"]), value["paths"]
    if not isinstance(paths, list) or len(paths) != min(count, _NOTED_PATHS):
        raise ValueError("a list of paths does not fit its count")
    for path in paths:
        if not _text(path).isprintable() or len(path) > _NOTED_LENGTH:
            raise ValueError("a path is not printable")
    return Noted(count, tuple(paths))
