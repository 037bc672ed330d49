"""Whether the table of volumes is undamaged, and agrees with the files on disk and with the leases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.core.errors import RegistryUnusable
from provisioner.core.record import State
from provisioner.pool.differences import Cause
from provisioner.pool.pool import Pool
from provisioner.registry.faults import is_damage
from provisioner.registry.rebuild import volume_directories
from provisioner.registry.registry import FILE_NAME, Registry
from provisioner.system.layout import Layout
from provisioner.system.lease import Purpose

_REPAIR = "`jupyter volumes doctor --repair`"


def check_table(pool: Pool) -> Iterator[Finding]:
    """Yield the findings about the table, and if it is undamaged, those about volumes and leases."""
    path = pool.settings.root_path / FILE_NAME
    if not path.exists():
        yield _missing(pool)
    elif (trouble := _damage(path, pool)) is not None:
        yield trouble
    else:
        yield Finding(Level.OK, "table", f"{path} is whole")
        yield from _differences(pool)
        yield from _left_behind(pool)


def _missing(pool: Pool) -> Finding:
    # Not through the pool, which rebuilds a missing table when it opens it.
    if not volume_directories(Layout(pool.settings.root_path)):
        return Finding(Level.OK, "table", "none yet; the first kernel makes it")
    message = f"{FILE_NAME} is missing although there are volumes"
    cure = f"the next kernel rebuilds it from them, as does {_REPAIR}"
    return Finding(Level.BAD, "table", message, cure, pool.root.rebuild_if_damaged)


def _damage(path: Path, pool: Pool) -> Finding | None:
    """Check every page; not through the pool, which rebuilds a damaged table when it opens it."""
    try:
        with closing(Registry(path)) as registry:
            wrong = registry.check_all()
    except RegistryUnusable as error:
        repair = pool.root.rebuild_if_damaged if is_damage(error) else None
        return Finding(Level.BAD, "table", str(error), repair=repair)
    if not wrong:
        return None
    message = f"{path} is damaged ({' '.join(wrong[0].split())})"
    cure = f"{_REPAIR} rebuilds it from the volumes on disk"
    return Finding(Level.BAD, "table", message, cure, pool.root.rebuild_if_damaged)


def _differences(pool: Pool) -> Iterator[Finding]:
    """Yield a finding for each difference between the table, the disk and the leases."""
    for difference in (*pool.differences.on_disk(), *pool.differences.stale()):
        subject, message, cure = _WORDS[difference.cause]
        message = message.format(session=repr(difference.session), path=difference.path)
        repair = partial(pool.differences.apply, difference)
        yield Finding(Level.WARN, subject, message, cure, repair)


_WORDS: Mapping[Cause, tuple[str, str, str]] = {
    Cause.UNKNOWN: ("volume", "{path} is not in the table", f"{_REPAIR} enters it"),
    Cause.MISSING: (
        "volume",
        "the files of {session} are gone from {path}",
        f"put them back if they were moved away; {_REPAIR} records the volume as one without files",
    ),
    Cause.STRAY: (
        "volume",
        "{session} is recorded as pruned, but files lie at {path}",
        f"{_REPAIR} makes them a volume of their own",
    ),
    Cause.STALE: (
        "volume",
        "{session} is recorded as active, but nobody holds its lease",
        f"it can be used all the same; {_REPAIR} corrects the record",
    ),
    Cause.ORPHANED_LEASE: (
        "lease",
        "{path} belongs to no volume",
        f"it does no harm; {_REPAIR} removes it",
    ),
}


def _left_behind(pool: Pool) -> Iterator[Finding]:
    """Yield a finding for each volume that only processes of an ended kernel hold."""
    for record in pool.volumes():
        holder = pool.holder(record) if record.state is State.ACTIVE else None
        if holder is not None and holder.purpose is Purpose.LEFT_BEHIND:
            message = f"{record.session!r} is held by {holder}"
            processes = " ".join(map(str, holder.processes))
            cure = f"end these processes if they are not wanted: kill {processes}"
            yield Finding(Level.WARN, "lease", message, cure)
