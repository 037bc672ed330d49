"""The repair of what killed processes left half done: it is finished, or undone."""

from __future__ import annotations

import os
import sys
import threading

from provisioner.core.errors import VolumeError, VolumeHeld
from provisioner.core.record import Spare
from provisioner.pool.disposal import Disposal, owner
from provisioner.settings.log import log
from provisioner.system import lease as leases
from provisioner.system.lease import Holder, Purpose


class Repair(Disposal):
    """A catalog that can be made to agree with what lies on disk."""

    def finish_interrupted(self, cancel: threading.Event) -> list[str]:
        """Finish or undo what killed processes began; return one line for each thing put right.

        Called by each sweep. It looks only where interrupted work leaves its marks: the
        staging and trash directories, records that say active, and records never acquired; so it costs nothing
        where there are none.
        """
        done = []
        staged = os.listdir(self.layout.staging)
        marked = {owner(name) for name in staged}
        marked.update(owner(name) for name in self.trash.waiting())
        marked.update(record.id for record in self.registry.unborn())
        # Looked at first: asking for a lease that is held takes a moment, and most of these are.
        marked.update(r.id for r in self.registry.active() if not self.is_in_use(r))
        # Before anything is written: on a full disk this is what makes room.
        self.empty_trash(cancel)
        for volume_id in sorted(marked):
            try:
                if (said := self.put_right(volume_id)) is not None:
                    done.append(said)
            except VolumeHeld:
                continue  # in use, or being made right now: nobody's business
            except (VolumeError, OSError) as error:
                log.warning("What was left of %s cannot be put right yet: %s", volume_id, error)
        if any(name.endswith(".backup") for name in staged):
            done += self.tidy_destinations(cancel)
        self.trash.empty()
        return done

    def put_right(self, volume_id: str) -> str | None:
        """Make the record of one volume agree with the disk; return what was put right, in one line."""
        if self.registry.get(volume_id) is None:
            return None
        with self.leased(volume_id, Purpose.PRUNE) as leased:
            self._on_step("repair:leased")
            record = leased.record
            left = [n for n in os.listdir(self.layout.staging) if owner(n) == volume_id]
            for name in left:
                self.trash.take(self.layout.staging / name)
            self._on_step("repair:staging")
            has_files = self.layout.volume(volume_id).exists()
            if record.generation == 0 and record.spare is not Spare.READY:
                self.trash.take(self.layout.volume(volume_id))
                self._mark_gone(record, leased.lease)
                return f"{record.session!r}: was never started, forgotten"
            if record.has_files and not has_files:
                self._mark_gone(record, leased.lease)
                return f"{record.session!r}: its files are gone, marked pruned"
            if not record.has_files and has_files:
                if self._set_stray_files_beside(record):
                    return f"{record.session!r}: what was put where its files were has a volume beside it"
                self.registry.set_generation(volume_id, record.generation + 1, self.clock())
                self.registry.take_place(volume_id, self.clock(), sys.maxsize)
                return f"{record.session!r}: its files are there, marked stopped"
        return f"{record.session!r}: interrupted work undone" if left else None

    def tidy_destinations(self, cancel: threading.Event) -> list[str]:
        """Delete half-made backups of killed processes, and count the whole ones that they could not enter."""
        found: list[str] = []
        for destination in self.settings.destinations:
            try:
                vault = self.vault_at(destination)
                vault.clear(self.clock())
                found += vault.reclaim(cancel)
            except (VolumeError, OSError) as error:
                log.warning("A backup destination cannot be tidied: %s", error)
        return [f"{name}: a whole backup, entered" for name in found]

    def remove_lease(self, volume_id: str) -> None:
        """Delete the file of a lease that nobody holds, of a volume that the table does not know."""
        holder = Holder.this_process(Purpose.PRUNE, self.clock())
        lease = leases.take(
            self.layout.lease(volume_id), holder, patience=lambda _: 0.0, cancel=threading.Event()
        )
        if lease is not None and self.registry.get(volume_id) is None:
            leases.remove(lease)
        elif lease is not None:
            lease.release()
