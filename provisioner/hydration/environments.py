"""The environments of a volume: one for each Python, so that kernels of several Pythons may share the volume.

The first to come has `env`, the next one `env-2`, and so on. Whose an environment is stands in itself. All overlays
over one Python are the same, so its kernelspecs share one; what uv makes is what a kernelspec declares, and its own.
An environment passes on, with all that was installed in it, to a successor:

* where the Python that it was made for is no longer there: the server has moved;
* where the only kernelspec whose kernels ran in it has turned to another Python or another way of making environments:
  the server was set up anew beside its old place, or kernel.json has changed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.hydration.records import read_record
from provisioner.hydration.step import Place

CLAIM = "claim.json"
"""The file in an environment that tells whose it is."""

_FIRST = "env"
_FURTHER = re.compile(rf"{_FIRST}-(?P<number>[1-9]\d*)(\.old)?")


@dataclass(frozen=True)
class Claim:
    """Whose an environment is.

    Parameters
    ----------
    maker
        The step that made it: two kinds of environment do not mix.
    python
        The path of the interpreter that it was made for.
    kernelspecs
        The kernelspecs whose kernels have been started in it, sorted.
    """

    maker: str
    python: str
    kernelspecs: tuple[str, ...] = ()

    @classmethod
    def read(cls, environment: Path) -> Claim | None:
        """Return the claim in an environment; None where there is none, or none that could be read."""
        record = read_record(environment / CLAIM)
        maker, python, names = (record.get(n) for n in ("maker", "python", "kernelspecs"))
        if not isinstance(maker, str) or not isinstance(python, str) or not isinstance(names, list):
            return None
        return cls(maker, python, tuple(sorted({str(name).lower() for name in names})))

    def to_json(self) -> bytes:
        """Return the claim as it is written into an environment."""
        return json.dumps(
            {"maker": self.maker, "python": self.python, "kernelspecs": self.kernelspecs}
        ).encode()

    def holds(self, maker: str, python: str) -> bool:
        """Whether it is that Python's, under this name or another one in its directory (`python`, `python3`)."""
        return self.maker == maker and (self.python == python or _is_alias(self.python, python))

    def yields_to(self, kernelspec: str) -> bool:
        """Whether the environment passes on to another Python, of that kernelspec."""
        return self.kernelspecs == (kernelspec,) or not os.path.exists(self.python)


def settled(place: Place, maker: str, python: str, *, shared: bool = True) -> Place:
    """Return the place with the environment that a Python has there, or is to get; changes nothing.

    Parameters
    ----------
    place
        The volume.
    maker
        The step that makes the environment.
    python
        The path of the interpreter.
    shared
        Whether all kernelspecs of the Python have one environment, or each has its own.
    """

    def is_own(claim: Claim | None) -> bool:
        return (
            claim is not None
            and claim.holds(maker, python)
            and (shared or place.kernelspec in claim.kernelspecs)
        )

    if is_own(_claim(place, _FIRST)):
        return replace(place, name=_FIRST)
    claims = {name: _claim(place, name) for name in names(place)}
    own = [name for name, claim in claims.items() if is_own(claim)]
    free = [
        name for name, claim in claims.items() if not claim or claim.yields_to(place.kernelspec)
    ]
    # Of several that are free, one in which this kernelspec's kernels have been.
    free.sort(key=lambda name: place.kernelspec not in getattr(claims[name], "kernelspecs", ()))
    new = next(n for n in range(2, len(claims) + 2) if f"{_FIRST}-{n}" not in claims)
    return replace(place, name=[*own, *free, f"{_FIRST}-{new}"][0])


def claim_of(place: Place, maker: str, python: str, *, shared: bool = True) -> Claim:
    """Return what is to stand in the environment of a settled place: this Python's claim, with its kernelspec."""
    if not shared:
        # Where several once took turns in one, whoever comes first keeps it.
        return Claim(maker, python, (place.kernelspec,))
    found = Claim.read(place.environment)
    mine = found if found is not None and found.holds(maker, python) else Claim(maker, python)
    return replace(mine, kernelspecs=tuple(sorted({*mine.kernelspecs, place.kernelspec})))


def others(place: Place, maker: str, python: str) -> list[Path]:
    """Return what further environments a Python has in a volume, besides the one of a settled place."""
    claims = {name: _claim(place, name) for name in names(place) if name != place.name}
    return [place.state / n for n, claim in claims.items() if claim and claim.holds(maker, python)]


def names(place: Place) -> list[str]:
    """Return the names of the environments that a volume has; `env` also where it is not made yet."""
    try:
        found = [m for m in map(_FURTHER.fullmatch, os.listdir(place.state)) if m]
    except FileNotFoundError:
        found = []
    return [_FIRST, *(f"{_FIRST}-{n}" for n in sorted({int(m["number"]) for m in found}))]


def _claim(place: Place, name: str) -> Claim | None:
    environment = place.state / name
    # While one is put in the place of another, a crash may leave the earlier one aside, from where it comes back.
    return Claim.read(environment if environment.exists() else aside(environment, "old"))


def aside(environment: Path, what: str) -> Path:
    """Return the path beside an environment for a `new` one that is being made, or the `old` one."""
    return environment.with_name(f"{environment.name}.{what}")


def unfinished(place: Place) -> list[Path]:
    """Return what is being made in a volume, or was when a process was killed, whichever environment it was for."""
    return sorted(place.state.glob(f"{_FIRST}*.new"))


def _is_alias(one: str, other: str) -> bool:
    here, there = os.path.split(one), os.path.split(other)
    return os.path.realpath(here[0]) == os.path.realpath(there[0]) and (
        os.path.realpath(one) == os.path.realpath(other)
    )
