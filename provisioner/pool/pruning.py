"""Pruning: a stopped volume's files are deleted once a backup has them, which can bring them back."""

from __future__ import annotations

from provisioner.core.errors import Cancelled, NotBackedUp, VolumeHeld
from provisioner.core.event import Kind
from provisioner.core.record import Record
from provisioner.pool import fingerprint
from provisioner.pool.backups import Backups
from provisioner.pool.files import Files
from provisioner.pool.leases import Leased, Leases
from provisioner.pool.root import Root
from provisioner.system.lease import Purpose
from provisioner.system.processes import processes_working_in


class Pruning:
    """Prunes the stopped volumes under one root, unless they are pinned.

    Parameters
    ----------
    root
        The root, which all parts of the pool share.
    leases
        The leases, under which volumes are pruned.
    files
        The volumes' files.
    backups
        The backups, without which nothing is pruned.
    """

    def __init__(self, root: Root, leases: Leases, files: Files, backups: Backups) -> None:
        self._root = root
        self._leases = leases
        self._files = files
        self._backups = backups

    def prune(self, volume_id: str, *, force: bool, look_first: bool) -> Record:
        """Delete a stopped volume's files (see `Pool.prune`)."""
        try:
            with self._leases.maintenance(volume_id, Purpose.PRUNE) as leased:
                path = self._root.layout.volume(volume_id)
                if look_first and not force and fingerprint.has_changed(path):
                    self._backups.count_change(leased.record)
                return self.prune_leased(leased, force=force)
        finally:
            # Also where the table could not be written: on a full disk this is what makes room.
            self._files.empty_trash_in_background()

    def delete(self, volume_id: str) -> None:
        """Delete a stopped volume with its files and all its backups, as its owner said."""
        try:
            with self._leases.maintenance(volume_id, Purpose.PRUNE) as leased:
                for backup in self._backups.list(volume_id):
                    self._backups.drop(backup)
                self.prune_leased(leased, force=True)
        finally:
            self._files.empty_trash_in_background()

    def prune_leased(self, leased: Leased, *, force: bool, kind: Kind = Kind.PRUNED) -> Record:
        """Rename the files of a volume whose lease the caller holds into the trash, and record it.

        Raises
        ------
        NotBackedUp, VolumeHeld, Cancelled
            The volume stays as it is.
        """
        record = self._leases.settled(leased.record.id)
        path = self._root.layout.volume(record.id)
        if record.pinned and (not force or kind is Kind.EVICTED):
            raise NotBackedUp(
                f"The volume of {record.session!r} is pinned; unpin it first with `jupyter volumes unpin`."
            )
        if not force:
            self._require_prunable(leased, record)
        self._root.on_step("prune:rename")
        self._files.trash.take(path, look=not force)
        self._root.on_step("prune:renamed")
        gone = self._files.mark_gone(record, leased.lease)
        self._root.on_step("prune:marked")
        self._root.emit(kind, record, backed_up=record.is_backed_up)
        return gone

    def _require_prunable(self, leased: Leased, record: Record) -> None:
        if leased.cancel.is_set():
            raise Cancelled(f"{record.session!r} is wanted by a kernel, and stays.")
        if not self._backups.stored.has_current(record):
            raise NotBackedUp(
                f"The volume of {record.session!r} is not pruned: no verified backup of its generation "
                f"{record.generation} exists; make one with `jupyter volumes backup`, or use --force."
            )
        if pids := processes_working_in(self._root.layout.volume(record.id)):
            raise VolumeHeld(
                f"The volume of {record.session!r} stays: process {pids[0]} works in its directory; let it end or "
                "leave the directory, or use --force."
            )
