"""Whether the table of volumes is whole, and agrees with what lies on disk and with who holds what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import Record, State
from provisioner.pool.pool import Pool
from provisioner.registry.rebuild import found_record
from provisioner.registry.registry import FILE_NAME, Registry, is_damage
from provisioner.system import lease
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
    records = pool.registry.volumes()
    yield from _unknown_directories(pool, records)
    yield from _missing_files(pool, records)
    yield from _stale(pool, records)
    yield from _left_behind(pool, records)
    yield from _orphaned_leases(pool, records)


def _missing(pool: Pool) -> Finding:
    if not _directories(pool):
        return Finding(Level.OK, "table", "none yet; the first kernel makes it")
    return Finding(
        Level.BAD,
        "table",
        f"{FILE_NAME} is missing although there are volumes",
        f"the next kernel rebuilds it from them, as does {_REPAIR}",
        repair=lambda: pool.registry,
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
        repair = pool.repair_table if is_damage(error) else None
        return Finding(Level.BAD, "table", str(error), repair=repair)
    if not wrong:
        return None
    return Finding(
        Level.BAD,
        "table",
        f"{path} is damaged ({' '.join(wrong[0].split())})",
        f"{_REPAIR} rebuilds it from the volumes on disk",
        repair=pool.repair_table,
    )


def _directories(pool: Pool) -> list[Path]:
    # Not through the pool: opening that rebuilds a table that is missing.
    volumes = Layout(pool.settings.root_path).volumes
    return sorted(path for path in volumes.iterdir() if path.is_dir())


def _unknown_directories(pool: Pool, records: Sequence[Record]) -> Iterator[Finding]:
    known = {record.id for record in records}
    for path in _directories(pool):
        if path.name not in known:
            yield Finding(
                Level.WARN,
                "volume",
                f"{path} is not in the table",
                f"{_REPAIR} enters it",
                repair=partial(_adopt, pool, path),
            )


def _adopt(pool: Pool, directory: Path) -> None:
    pool.registry.adopt(found_record(pool.layout, directory, pool.clock()))


def _missing_files(pool: Pool, records: Sequence[Record]) -> Iterator[Finding]:
    for record in records:
        if record.has_files and not pool.path(record).is_dir() and not pool.is_in_use(record):
            yield Finding(
                Level.WARN,
                "volume",
                f"the files of {record.session!r} are gone from {pool.path(record)}",
                f"put them back if they were moved away; {_REPAIR} gives its place in the pool free",
                repair=partial(pool.put_right, record.id),
            )


def _stale(pool: Pool, records: Sequence[Record]) -> Iterator[Finding]:
    for record in records:
        if record.state is State.ACTIVE and not pool.is_in_use(record):
            yield Finding(
                Level.WARN,
                "volume",
                f"{record.session!r} is recorded as active, but nobody holds its lease",
                f"it can be used all the same; {_REPAIR} corrects the record",
                repair=partial(pool.put_right, record.id),
            )


def _left_behind(pool: Pool, records: Sequence[Record]) -> Iterator[Finding]:
    for record in records:
        holder = pool.holder(record) if record.state is State.ACTIVE else None
        if holder is not None and holder.purpose is Purpose.LEFT_BEHIND:
            yield Finding(
                Level.WARN,
                "lease",
                f"{record.session!r} is held by {holder}",
                f"end them if they are not wanted: kill {' '.join(map(str, holder.processes))}",
            )


def _orphaned_leases(pool: Pool, records: Sequence[Record]) -> Iterator[Finding]:
    known = {record.id for record in records} | {path.name for path in _directories(pool)}
    for path in sorted(pool.layout.leases.iterdir()):
        volume_id = path.name.partition(".")[0]
        if volume_id not in known and not lease.is_held(path):
            yield Finding(
                Level.WARN,
                "lease",
                f"{path} belongs to no volume",
                f"it does no harm; {_REPAIR} removes it",
                repair=partial(pool.remove_lease, volume_id),
            )
