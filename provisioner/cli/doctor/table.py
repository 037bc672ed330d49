"""Whether the table of volumes is undamaged, and agrees with the files on disk and with the leases."""

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
    """Yield the findings about the table, and if it is undamaged, those about volumes and leases."""
    path = pool.settings.root_path / FILE_NAME
    if not path.parent.is_dir():
        return
    if not path.exists():
        yield _missing(pool)
    elif (trouble := _damage(path, pool)) is not None:
        yield trouble
    else:
        yield Finding(Level.OK, "table", f"{path} is whole")
        yield from _differences(pool)


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
    """Check every page; not through the pool, which rebuilds a damaged table when it opens it."""
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


def _directories(pool: Pool) -> Sequence[Path]:
    # Not through the pool, which rebuilds a missing table when it opens it.
    volumes = Layout(pool.settings.root_path).volumes
    return sorted(path for path in volumes.iterdir() if path.is_dir())


def _differences(pool: Pool) -> Iterator[Finding]:
    """Compare the table with the files on disk and with the leases; yield a finding for each difference."""
    records = pool.registry.volumes()
    directories = _directories(pool)
    recorded = {record.id for record in records}
    for path in directories:
        if path.name not in recorded:
            yield _unrecorded(pool, path)
    for record in records:
        if record.has_files and not pool.path(record).is_dir() and not pool.is_in_use(record):
            yield _files_missing(pool, record)
        if record.state is State.ACTIVE:
            if not pool.is_in_use(record):
                yield _falsely_active(pool, record)
            yield from _left_behind(pool, record)
    named = recorded | {path.name for path in directories}
    for path in sorted(pool.layout.leases.iterdir()):
        volume_id = path.name.partition(".")[0]
        if volume_id not in named and not lease.is_held(path):
            yield _orphaned_lease(pool, path, volume_id)


def _unrecorded(pool: Pool, directory: Path) -> Finding:
    return Finding(
        Level.WARN,
        "volume",
        f"{directory} is not in the table",
        f"{_REPAIR} enters it",
        repair=lambda: pool.registry.adopt(found_record(pool.layout, directory, pool.clock())),
    )


def _files_missing(pool: Pool, record: Record) -> Finding:
    return Finding(
        Level.WARN,
        "volume",
        f"the files of {record.session!r} are gone from {pool.path(record)}",
        f"put them back if they were moved away; {_REPAIR} records the volume as one without files",
        repair=partial(pool.put_right, record.id),
    )


def _falsely_active(pool: Pool, record: Record) -> Finding:
    return Finding(
        Level.WARN,
        "volume",
        f"{record.session!r} is recorded as active, but nobody holds its lease",
        f"it can be used all the same; {_REPAIR} corrects the record",
        repair=partial(pool.put_right, record.id),
    )


def _left_behind(pool: Pool, record: Record) -> Iterator[Finding]:
    holder = pool.holder(record)
    if holder is not None and holder.purpose is Purpose.LEFT_BEHIND:
        yield Finding(
            Level.WARN,
            "lease",
            f"{record.session!r} is held by {holder}",
            f"end these processes if they are not wanted: kill {' '.join(map(str, holder.processes))}",
        )


def _orphaned_lease(pool: Pool, path: Path, volume_id: str) -> Finding:
    return Finding(
        Level.WARN,
        "lease",
        f"{path} belongs to no volume",
        f"it does no harm; {_REPAIR} removes it",
        repair=partial(pool.remove_lease, volume_id),
    )
