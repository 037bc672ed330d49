"""The record of a Nix environment in a volume, and the root that keeps it from Nix's garbage collector."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from provisioner.hydration.records import read_record, write_record
from provisioner.hydration.step import Place
from provisioner.hydration.steps.nix.shell import ShellEnvironment

SCHEMA = "1"
"""The version of the key and the record; increase it when the same inputs should be evaluated again."""


@dataclass(frozen=True)
class Evaluated:
    """What a reference evaluated to: a shell in the Nix store, whose root was registered in the directory `volume`.

    `key` is the digest of its inputs.
    """

    key: str
    volume: str
    shell: Path
    environment: ShellEnvironment

    @classmethod
    def read(cls, place: Place) -> Evaluated | None:
        """Read the record of a volume; None if there is none, or it is damaged or of another version."""
        record = read_record(place.record("nix"))
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if record["schema"] == SCHEMA:
                environment = ShellEnvironment.from_record(record["environment"])
                return cls(
                    str(record["key"]), str(record["volume"]), Path(record["shell"]), environment
                )
        return None

    def write(self, place: Place) -> None:
        """Write the record of a volume."""
        record = {**asdict(self), "schema": SCHEMA, "shell": str(self.shell)}
        write_record(place.record("nix"), record)

    def root(self, place: Place) -> Path:
        """Return where its root is in a volume."""
        label = hashlib.sha256(str(self.shell).encode()).hexdigest()[:16]
        return place.state / "nix" / f"root-{label}"

    def is_rooted(self, place: Place) -> bool:
        """Whether it is in the store, and its root is the only one in this volume."""
        root = self.root(place)
        try:
            return (
                self.volume == str(place.volume)
                and [path.name for path in root.parent.iterdir()] == [root.name]
                and root.readlink() == self.shell
                and self.shell.exists()
            )
        except OSError:
            return False
