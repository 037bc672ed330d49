"""What an environment of uv's says of itself: how it was made, and what is installed in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provisioner.hydration.lost_packages import normalized
from provisioner.hydration.records import read_record
from provisioner.hydration.steps.uv.tree import site_packages

RECORD = "hydrated.json"
"""The file in an environment that is its record."""


def record_of(environment: Path) -> dict[str, Any]:
    """Return the record of an environment that the uv step made; of any other, nothing."""
    record = read_record(environment / RECORD)
    texts = all(isinstance(record.get(name), str) for name in ("key", "prefix", "interpreter"))
    return record if texts and isinstance(record.get("installed"), list) else {}


def is_usable(environment: Path) -> bool:
    """Whether it has an interpreter and is an environment."""
    return (environment / "bin/python").exists() and (environment / "pyvenv.cfg").is_file()


def configuration(environment: Path) -> dict[str, str]:
    """Return what its `pyvenv.cfg` says."""
    lines = (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def installed(environment: Path) -> dict[str, str]:
    """Return the version of each distribution; the names of its directories tell without reading it."""
    packages = site_packages(environment)
    stems = (path.stem for path in packages.glob("*.dist-info")) if packages else ()
    pairs = (stem.partition("-") for stem in stems)
    return {normalized(name): version for name, _, version in pairs}
