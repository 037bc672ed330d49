"""How files go from disk: renamed into the trash, looked at there once more, and put back if no backup has them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from provisioner.core.errors import VolumeError
from provisioner.core.record import Record, State
from provisioner.pool.custody import Custody, Leased
from provisioner.pool.trash import Trash
from provisioner.settings.log import log
from provisioner.system import lease as leases
from provisioner.system import volume_record
from provisioner.system.layout import id_for, make
from provisioner.system.lease import Lease, Purpose


class Disposal(Custody):
    """A catalog whose volumes' files can be put into the trash."""

    @property
    def trash(self) -> Trash:
        """What is being deleted."""
        return Trash(self.layout.trash)

    def discard(self, leased: Leased) -> None:
        """Delete a leased volume that never had a session, and forget it."""
        self.trash.take(self.layout.volume(leased.record.id))
        self._mark_gone(leased.record, leased.lease)

    def _mark_gone(self, record: Record, lease: Lease) -> Record:
        """Record that a volume's files are gone; one that no backup can bring back is forgotten."""
        if self.registry.backups(record.id):
            return self.registry.mark_pruned(record.id)
        self.registry.forget(record.id)
        leases.remove(lease)
        return replace(record, state=State.PRUNED, bytes=None)

    def empty_trash(self, cancel: threading.Event | None = None) -> None:
        """Put back what was changed after its backup, and delete all else that was renamed away."""
        for name in self.trash.changed():
            try:
                self._put_back(name)
            except (VolumeError, OSError) as error:
                log.warning(
                    "What was changed after its backup stays in the trash for now: %s", error
                )
        self.trash.empty(cancel)

    def empty_trash_in_background(self) -> None:
        """Empty the trash from a thread that does not keep the process alive: what it leaves, a sweep does."""
        threading.Thread(target=self.empty_trash, name="empty-trash", daemon=True).start()

    # -- what no backup has ----------------------------------------------------------------------------------

    def _put_back(self, name: str) -> None:
        """Undo the pruning of a volume whose files were changed after their backup, by something without a lease."""
        volume_id = owner(name)
        record, place = self.registry.get(volume_id), self.layout.volume(volume_id)
        if record is None:
            # Forgotten meanwhile: the next comparison of the disk with the table enters it anew.
            self.trash.put_back(name, place)
            return
        if not place.exists():
            with self.leased(volume_id, Purpose.PRUNE) as leased:
                if not place.exists():
                    self._keep(leased.record, lambda target: self.trash.put_back(name, target))
                    return
        # Brought back meanwhile. The name decides the id, so that whoever repeats this means the same volume.
        self._keep_beside(record, name, lambda target: self.trash.put_back(name, target))

    def _keep_beside(self, record: Record, name: str, move: Callable[[Path], bool]) -> None:
        """Make what `move` brings a volume of its own, named after the one that it comes from."""
        beside = replace(record, id=id_for(name), spare=None, pinned=False)
        self.registry.adopt(replace(beside, state=State.PRUNED))
        with self.leased(beside.id, Purpose.PRUNE) as leased:
            self._keep(leased.record, move)
            gone = not self.layout.volume(beside.id).exists()
            if gone and not self.registry.backups(beside.id):
                self._mark_gone(leased.record, leased.lease)

    def _keep(self, record: Record, move: Callable[[Path], bool]) -> None:
        now = self.clock()
        # First, so that no backup passes for these files.
        self.registry.set_generation(record.id, record.generation + 1, now)
        self._on_step("put-back:counted")
        if move(self.layout.volume(record.id)):
            self._on_step("put-back:renamed")
            self.registry.take_place(record.id, now, sys.maxsize)
            self._write_record(
                self.registry.set_note(record.id, "changed after its backup, so not pruned")
            )
            log.warning(
                "The files of %r were changed after their backup was made, outside of a kernel; they stay.",
                record.session,
            )

    def _set_stray_files_beside(self, record: Record) -> bool:
        """Move away what was put where a pruned volume was, by something that did not know; return whether it was so.

        What a killed process has just brought back carries the volume's own record and stays.
        """
        path = self.layout.volume(record.id)
        if record.has_files or not path.is_dir():
            return False
        own = volume_record.read(path)
        if own is not None and own.id == record.id:
            return False

        def move(target: Path) -> bool:
            make(path)  # from now on it has what each volume has
            path.rename(target)
            return True

        self._keep_beside(record, f"{record.id}.{record.generation}.stray", move)
        return True


def owner(name: str) -> str:
    """Return the id of the volume that an entry of the trash, or of the staging directory, belongs to."""
    return name.split(".", 1)[0]
