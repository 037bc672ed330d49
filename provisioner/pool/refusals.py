"""The refusals of a volume that is in use and of a pool that is full: what holds it, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from provisioner.core.errors import PoolFull, VolumeHeld
from provisioner.core.policy import eviction_order
from provisioner.core.record import Record, State
from provisioner.system.lease import Holder


def held(record: Record, holder: Holder | None, waited: bool = False) -> VolumeHeld:
    """Return the refusal of a volume that another process holds."""
    who = str(holder) if holder else "another process"
    after = " (waited for acquire_timeout)" if waited else ""
    return VolumeHeld(
        f"The volume of session {record.session!r} is in use by {who}{after}; end that use, "
        "set VolumePool.acquire_timeout to wait for it, or work in another volume: "
        '"volume": {"session": "NAME"} in the notebook\'s metadata, or JUPYTER_VOLUME_SESSION for a batch run.'
    )


def full(session: str, volumes: Iterable[Record], capacity: int) -> PoolFull:
    """Return the refusal of a new volume in a full pool: what fills it, and what can be done about it."""
    present = [record for record in volumes if record.has_files]
    stopped = eviction_order(present)
    active = sum(record.state is State.ACTIVE for record in present)
    pinned = sum(record.pinned for record in present if record.state is State.STOPPED)
    said = (
        f"All {capacity} slots of the pool are taken, so {session!r} gets no volume: "
        f"{active} in use, {pinned} pinned, {len(stopped)} stopped"
    )
    if not stopped:
        cure = "shut a kernel down, unpin a volume with `jupyter volumes unpin SESSION`"
    else:
        names = ", ".join(repr(record.session) for record in stopped[:3])
        cure = (
            f"those stopped could not be backed up (longest stopped: {names}); see why with "
            "`jupyter volumes backup --all`, free one with `jupyter volumes prune SESSION --force`"
        )
    return PoolFull(f"{said}; {cure}, or raise VolumePool.max_volumes.")
