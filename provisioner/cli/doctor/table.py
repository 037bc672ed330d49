"""Whether the table of volumes is whole, and agrees with what lies on disk and with who holds what."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import State
from provisioner.pool.differences import Cause
from provisioner.pool.pool import Pool
from provisioner.registry.database import is_damage
from provisioner.registry.rebuild import volume_directories
from provisioner.registry.registry import FILE_NAME, Registry
from provisioner.system.layout import Layout
from provisioner.system.lease import Purpose

_REPAIR = "`jupyter volumes doctor --repair`"


def check_table(pool: Pool) -> Iterator[Finding]:
    """Yield what is found of the table, and where that is well, of volumes and leases."""
    path = pool.settings.root_path / FILE_NAME
    if not path.parent.is_dir():
        return
    if not path.exists():
        yield _missing(pool)
        return
    trouble = _damage(path, pool)
    if trouble is not None:
        yield trouble
        return
    yield Finding(Level.OK, "table", f"{path} is whole")
    yield from _of_differences(pool)
    yield from _left_behind(pool)


def _missing(pool: Pool) -> Finding:
    # Not through the pool: opening that rebuilds a table that is missing.
    if not volume_directories(Layout(pool.settings.root_path)):
        return Finding(Level.OK, "table", "none yet; the first kernel makes it")
    return Finding(
        Level.BAD,
        "table",
        f"{FILE_NAME} is missing although there are volumes",
        f"the next kernel rebuilds it from them, as does {_REPAIR}",
        repair=pool.storage.rebuild_if_damaged,
    )


def _damage(path: Path, pool: Pool) -> Finding | None:
    """Look at every page, without the rebuilding that opening it through the pool would bring."""
    try:
        registry = Registry(path)
        try:
            wrong = registry.check_all()
        finally:
            registry.close()
    except RegistryUnusable as error:
        repair = pool.storage.rebuild_if_damaged if is_damage(error) else None
        return Finding(Level.BAD, "table", str(error), repair=repair)
    if not wrong:
        return None
    return Finding(
        Level.BAD,
        "table",
        f"{path} is damaged ({' '.join(wrong[0].split())})",
        f"{_REPAIR} rebuilds it from the volumes on disk",
        repair=pool.storage.rebuild_if_damaged,
    )


def _of_differences(pool: Pool) -> Iterator[Finding]:
    for difference in (*pool.differences.on_disk(), *pool.differences.stale()):
        subject, said, cure = _WORDS[difference.cause]
        yield Finding(
            Level.WARN,
            subject,
            said.format(session=repr(difference.session), path=difference.path),
            cure,
            repair=partial(pool.differences.apply, difference),
        )


_WORDS: dict[Cause, tuple[str, str, str]] = {
    Cause.UNKNOWN: ("volume", "{path} is not in the table", f"{_REPAIR} enters it"),
    Cause.MISSING: (
        "volume",
        "the files of {session} are gone from {path}",
        f"put them back if they were moved away; {_REPAIR} gives its slot in the pool free",
    ),
    Cause.STRAY: (
        "volume",
        "{session} is recorded as pruned, but files lie at {path}",
        f"{_REPAIR} makes them a volume of their own",
    ),
    Cause.STALE: (
        "volume",
        "{session} is recorded as active, but no process holds its lease",
        f"it can be used all the same; {_REPAIR} corrects the record",
    ),
    Cause.ORPHANED_LEASE: (
        "lease",
        "{path} belongs to no volume",
        f"it does no harm; {_REPAIR} removes it",
    ),
}


def _left_behind(pool: Pool) -> Iterator[Finding]:
    for record in pool.volumes():
        holder = pool.holder(record) if record.state is State.ACTIVE else None
        if holder is not None and holder.purpose is Purpose.LEFT_BEHIND:
            yield Finding(
                Level.WARN,
                "lease",
                f"{record.session!r} is held by {holder}",
                f"end them if they are not wanted: kill {' '.join(map(str, holder.processes))}",
            )
