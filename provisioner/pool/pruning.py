"""The pruning of stopped volumes: their files are deleted once a backup has them, which can bring them back."""

from __future__ import annotations

from provisioner.core.errors import Cancelled, NotBackedUp, VolumeHeld
from provisioner.core.event import Kind
from provisioner.core.record import Record
from provisioner.pool.custody import Leased
from provisioner.pool.disposal import Disposal
from provisioner.pool.safekeeping import Safekeeping
from provisioner.pool.seal import is_broken
from provisioner.system.lease import Purpose
from provisioner.system.processes import processes_working_in


class Pruning(Safekeeping, Disposal):
    """A catalog whose stopped volumes can be pruned, unless they are pinned."""

    def pin(self, volume_id: str, pinned: bool) -> Record:
        """Pin a volume, so that it is never pruned or evicted, or unpin it."""
        record = self.registry.set_pinned(volume_id, pinned)
        self._write_record(record)
        return self.observed(record)

    def prune(self, volume_id: str, *, force: bool = False, look_first: bool = False) -> Record:
        """Delete a stopped volume's files; its backups stay and can bring it back.

        The files are renamed away, which takes no time, and deleted in the background. What is found there to have
        been changed since the backup, by something that held no lease, is put back.

        Parameters
        ----------
        volume_id
            The volume.
        force
            Its owner's word that files without a backup may go.
        look_first
            Whether to look for changed files before, for a caller that ends now; it takes time.

        Raises
        ------
        NotBackedUp
            If no verified backup of the present generation exists, and not `force`.
        VolumeHeld
            If the volume is in use.
        """
        try:
            with self.leased(volume_id, Purpose.PRUNE) as leased:
                if look_first and not force and is_broken(self.layout.volume(volume_id)):
                    self._changed_since_backup(leased.record)
                return self._prune(leased, force)
        finally:
            # Also where the table could not be written: on a full disk this is what makes room.
            self.empty_trash_in_background()

    def delete(self, volume_id: str) -> None:
        """Delete a stopped volume with its files and all its backups, at its owner's word."""
        try:
            with self.leased(volume_id, Purpose.PRUNE) as leased:
                for backup in self.registry.backups(volume_id):
                    self.vault.drop(backup)
                self._prune(leased, force=True)
        finally:
            self.empty_trash_in_background()

    def _prune(self, leased: Leased, force: bool = False, kind: Kind = Kind.PRUNED) -> Record:
        record = self._record(leased.record.id)
        if record.pinned and (not force or kind is Kind.EVICTED):
            raise NotBackedUp(
                f"The volume of {record.session!r} is pinned; unpin it first with `jupyter volumes unpin`."
            )
        if leased.cancel.is_set() and not force:
            raise Cancelled(f"{record.session!r} is wanted by a kernel, and stays.")
        if not force and not self.vault.has_current(record):
            raise NotBackedUp(
                f"The volume of {record.session!r} is not pruned: no verified backup of its generation "
                f"{record.generation} exists; make one with `jupyter volumes backup`, or use --force."
            )
        path = self.layout.volume(record.id)
        if not force and (pids := processes_working_in(path)):
            raise VolumeHeld(
                f"The volume of {record.session!r} stays: process {pids[0]} works in its directory; let it end or "
                "leave the directory, or use --force."
            )
        self._on_step("prune:rename")
        self.trash.take(path, look=not force)
        self._on_step("prune:renamed")
        gone = self._mark_gone(record, leased.lease)
        self._on_step("prune:marked")
        self._emit(kind, record, backed_up=record.is_backed_up)
        return gone
