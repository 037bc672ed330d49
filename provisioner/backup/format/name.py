"""The file name of a backup: the volume, the time and the generation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from provisioner.core.errors import BackupFailed

STAMP = "%Y%m%dT%H%M%SZ"
"""How names spell a moment, in UTC."""
_VOLUME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_NAME = re.compile(rf"({_VOLUME.pattern})-(\d{{8}}T\d{{6}}Z)\.g(\d{{1,18}})\.tar\.zst", re.ASCII)


@dataclass(frozen=True, order=True)
class BackupName:
    """The parts of a backup's name; ordered by volume, then time, then generation.

    Parameters
    ----------
    volume
        Id of the volume: ASCII letters, digits, ``_``, ``-`` and ``.``; it does not start with ``.``.
    created
        When the backup started, with a time zone; the name keeps whole seconds of UTC.
    generation
        Generation of the volume's files, 0 or more.

    Raises
    ------
    BackupFailed
        If a part does not fit into a file name.
    """

    volume: str
    created: datetime
    generation: int

    def __post_init__(self) -> None:
        if not _VOLUME.fullmatch(self.volume):
            raise BackupFailed(
                f"volume id {self.volume!r} does not fit into a file name;"
                " use letters, digits, '_', '-' and '.'"
            )
        if self.created.tzinfo is None or not 0 <= self.generation < 10**18:
            raise BackupFailed(
                "a backup needs a moment with a time zone and a generation of 0 or more;"
                f" got {self.created} and {self.generation}"
            )
        moment = self.created.astimezone(timezone.utc).replace(microsecond=0)
        object.__setattr__(self, "created", moment)

    def __str__(self) -> str:
        # On Linux, strftime("%Y") does not pad years below 1000; no volume is that old.
        return f"{self.volume}-{self.created.strftime(STAMP)}.g{self.generation}.tar.zst"

    @classmethod
    def parse(cls, text: str) -> BackupName | None:
        """Parse a file name; return None if it is not the name of a backup."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        try:
            created = datetime.strptime(match[2], STAMP).replace(tzinfo=timezone.utc)
        except ValueError:
            return None
        name = cls(match[1], created, int(match[3]))
        return name if str(name) == text else None
