"""The files of volumes: made, renamed into the trash, put back from there if no backup has them, deleted."""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.core.errors import VolumeError
from provisioner.core.record import Record, State
from provisioner.pool.catalog import Catalog
from provisioner.pool.leases import Leased, Leases
from provisioner.pool.root import Root
from provisioner.pool.trash import Trash
from provisioner.settings.log import log
from provisioner.system import layout, volume_record
from provisioner.system import lease as leases
from provisioner.system.lease import Lease, Purpose


@dataclass(eq=False)
class Files:
    """The directories of the volumes under one root. Files are moved under their volume's lease."""

    _root: Root
    _leases: Leases
    _catalog: Catalog

    @property
    def trash(self) -> Trash:
        """What is being deleted."""
        return Trash(self._root.layout.trash)

    def discard(self, leased: Leased) -> None:
        """Delete the files of a leased volume that never had a kernel, and forget it."""
        self.trash.take(self._root.layout.volume(leased.record.id))
        self.mark_gone(leased.record, leased.lease)

    def mark_gone(self, record: Record, lease: Lease) -> Record:
        """Record that a volume's files are gone; forget the volume if no backup can bring it back."""
        registry = self._root.registry
        if registry.backups.all(record.id):
            return registry.volumes.mark_pruned(record.id)
        registry.volumes.forget(record.id)
        leases.remove(lease)
        return replace(record, state=State.PRUNED, bytes=None)

    def empty_trash(self, cancel: threading.Event | None = None) -> None:
        """Delete everything in the trash but what was changed after its backup, which is put back."""
        self.trash.empty(cancel, self._put_back)

    def empty_trash_in_background(self) -> None:
        """Empty the trash in a thread that does not keep the process alive; the next sweep does what is left."""
        threading.Thread(target=self.empty_trash, name="empty-trash", daemon=True).start()

    def set_stray_files_beside(self, record: Record) -> bool:
        """Make files that another program put where a pruned volume was a volume of their own; return whether any were.

        Files that a killed process has just brought back carry the volume's own record, and stay.
        """
        path = self._root.layout.volume(record.id)
        if record.has_files or not path.is_dir():
            return False
        own = volume_record.read(path)
        if own is not None and own.id == record.id:
            return False
        layout.make(path)  # from now on it has what each volume has
        self._keep_beside(record, f"{record.id}.{record.generation}.stray", path)
        return True

    # -- files that no backup has ----------------------------------------------------------------------------

    def _put_back(self, name: str) -> None:
        """Undo the pruning of a volume whose files were changed, without a lease, after their backup was made."""
        try:
            self._undo(name)
        except (VolumeError, OSError) as error:
            log.warning("What was changed after its backup stays in the trash for now: %s", error)

    def _undo(self, name: str) -> None:
        volume_id, source = owner(name), self._root.layout.trash / name
        record = self._catalog.get(volume_id)
        path = self._root.layout.volume(volume_id)
        if record is None:
            # Forgotten meanwhile: the next comparison of the disk with the table enters it anew.
            with contextlib.suppress(FileNotFoundError):
                source.rename(path)
            return
        if not path.exists():
            with self._leases.maintenance(volume_id, Purpose.PRUNE) as leased:
                if not path.exists():
                    self._keep(leased.record, source)
                    return
        # Brought back meanwhile. The name decides the id, so that a repetition means the same volume.
        self._keep_beside(record, name, source)

    def _keep_beside(self, record: Record, name: str, source: Path) -> None:
        """Make the directory `source` a volume of its own, named after the volume that it comes from."""
        beside = replace(
            record, id=layout.id_for(name), state=State.PRUNED, spare=None, pinned=False
        )
        self._root.registry.volumes.adopt(beside)
        with self._leases.maintenance(beside.id, Purpose.PRUNE) as leased:
            self._keep(leased.record, source)
            gone = not self._root.layout.volume(beside.id).exists()
            if gone and not self._root.registry.backups.all(beside.id):
                self.mark_gone(leased.record, leased.lease)

    def _keep(self, record: Record, source: Path) -> None:
        volumes, now = self._root.registry.volumes, self._root.clock()
        # First, so that no backup passes for these files.
        volumes.set_generation(record.id, record.generation + 1, now)
        self._root.on_step("put-back:counted")
        try:
            source.rename(self._root.layout.volume(record.id))
        except FileNotFoundError:
            return  # another process has put it back or is deleting it
        self._root.on_step("put-back:renamed")
        volumes.take_slot(record.id, now, sys.maxsize)
        noted = volumes.set_note(record.id, "changed after its backup, so not pruned")
        self._catalog.write_record(noted)
        log.warning(
            "The files of %r were changed after their backup was made, outside of a kernel; they stay.",
            record.session,
        )


def owner(name: str) -> str:
    """Return the id of the volume that an entry of the trash, or of the staging directory, belongs to."""
    return name.split(".", 1)[0]
