"""Which Python environment of a volume belongs to which interpreter and kernelspec.

The first environment in a volume is `env`, the next `env-2`, and so on; a file in each says whose it is. Overlays over
one Python are all the same, so its kernelspecs share one. An environment of uv holds what one kernelspec declares, and
is that kernelspec's own. An environment passes on to a successor, with all that was installed in it:

* if its Python no longer exists: the server has moved;
* if only one kernelspec has used it, and that kernelspec now uses another Python or another kind of environment: the
  server was set up again at another path, or kernel.json has changed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from provisioner.hydration.records import read_record
from provisioner.hydration.step import Place
from provisioner.system.files import replace_file

OWNER_FILE = "claim.json"
"""The file in an environment that says whose it is."""

_FIRST = "env"
_FURTHER = re.compile(rf"{_FIRST}-(?P<number>[1-9]\d*)(\.old)?")


@dataclass(frozen=True)
class Owner:
    """Whose an environment is: the step that made it, its interpreter's path, and the kernelspecs started in it."""

    maker: str
    python: str
    kernelspecs: tuple[str, ...] = ()

    @classmethod
    def read(cls, environment: Path) -> Owner | None:
        """Return the owner of an environment; None if none is recorded, or the record is damaged."""
        record = read_record(environment / OWNER_FILE)
        maker, python, names = (record.get(n) for n in ("maker", "python", "kernelspecs"))
        if not isinstance(maker, str) or not isinstance(python, str) or not isinstance(names, list):
            return None
        return cls(maker, python, tuple(sorted({str(name).lower() for name in names})))

    def to_json(self) -> bytes:
        """Return the owner as the file in the environment has it."""
        return json.dumps(asdict(self)).encode()

    def write(self, environment: Path) -> None:
        """Record the owner in an environment."""
        replace_file(environment / OWNER_FILE, self.to_json(), 0o644)

    def is_for(self, maker: str, python: str) -> bool:
        """Whether the environment is for that Python, and of that kind."""
        is_same = self.python == python or _canonical(self.python) == _canonical(python)
        return is_same and self.maker == maker

    def yields_to(self, kernelspec: str) -> bool:
        """Whether the environment may pass on to another Python, used by that kernelspec."""
        return self.kernelspecs == (kernelspec,) or not os.path.exists(self.python)


def _canonical(python: str) -> tuple[str, str]:
    """Return what all names of an interpreter in one directory share, by whatever link the directory is reached."""
    return os.path.realpath(os.path.dirname(python)), os.path.realpath(python)


def choose(place: Place, maker: str, python: str, *, shared: bool = True) -> Place:
    """Return the place with the environment that a Python has in the volume, or will get; changes nothing.

    Parameters
    ----------
    maker
        The name of the step that makes the environment: those of different steps do not mix.
    shared
        Whether all kernelspecs of the Python share one environment, or each has its own.
    """

    def is_own(owner: Owner | None) -> bool:
        return (
            owner is not None
            and owner.is_for(maker, python)
            and (shared or place.kernelspec in owner.kernelspecs)
        )

    owners = {name: _owner(place, name) for name in names(place)}
    own = [name for name, owner in owners.items() if is_own(owner)]
    free = [n for n, owner in owners.items() if not owner or owner.yields_to(place.kernelspec)]
    # Of several free ones, prefer one in which this kernelspec's kernels have run.
    free.sort(key=lambda name: place.kernelspec not in getattr(owners[name], "kernelspecs", ()))
    new = next(n for n in range(2, len(owners) + 2) if f"{_FIRST}-{n}" not in owners)
    return replace(place, name=[*own, *free, f"{_FIRST}-{new}"][0])


def owner_of(place: Place, maker: str, python: str) -> Owner:
    """Return the owner that a shared, chosen environment is to have: this Python, with the kernelspec added."""
    found = Owner.read(place.environment)
    mine = found if found is not None and found.is_for(maker, python) else Owner(maker, python)
    return replace(mine, kernelspecs=tuple(sorted({*mine.kernelspecs, place.kernelspec})))


def others(place: Place, maker: str, python: str) -> list[Path]:
    """Return the further environments of the same Python in a volume, besides the chosen one."""
    owners = {name: _owner(place, name) for name in names(place) if name != place.name}
    return [place.state / n for n, owner in owners.items() if owner and owner.is_for(maker, python)]


def names(place: Place) -> list[str]:
    """Return the names of a volume's environments; `env` also if it does not exist yet."""
    found = os.listdir(place.state) if place.state.exists() else []
    numbers = {int(match["number"]) for match in map(_FURTHER.fullmatch, found) if match}
    return [_FIRST, *(f"{_FIRST}-{number}" for number in sorted(numbers))]


def beside(environment: Path, what: str) -> Path:
    """Return the path beside an environment of its `new` one, which is being made, or its `old` one."""
    return environment.with_name(f"{environment.name}.{what}")


def _owner(place: Place, name: str) -> Owner | None:
    environment = place.state / name
    # A crash while an environment is being replaced may leave only the old one, which is put back later.
    return Owner.read(environment if environment.exists() else beside(environment, "old"))
