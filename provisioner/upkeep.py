"""What is done to stopped volumes: backed up, pruned, evicted, brought back.

All of it happens under the volume's lease. Backups and prunings yield: whoever asks for the volume gets it within a
second, and what was interrupted is done again later.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from . import lease as leases
from . import policy
from .custody import Custody, Leased
from .errors import (
    BackupFailed,
    Cancelled,
    NotBackedUp,
    PoolFull,
    RestoreFailed,
    VolumeError,
    VolumeHeld,
    VolumeNotFound,
)
from .event import Kind, log
from .lease import Holder, Lease, Purpose
from .occupants import dwellers
from .record import BackupRecord, Record, Spare, State
from .refusals import full
from .seal import is_broken, seal
from .trash import Trash
from .vault import Progress, no_progress
from .volume import id_for, make, read_record


class Upkeep(Custody):
    """A catalog whose volumes can be backed up, pruned, evicted and brought back."""

    @property
    def trash(self) -> Trash:
        """What is being deleted."""
        return Trash(self.layout.trash)

    # -- backing up ------------------------------------------------------------------------------------------

    def back_up(
        self,
        volume_id: str,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> BackupRecord:
        """Back a stopped volume up and return the verified backup; one of these very files is not made twice.

        Raises
        ------
        VolumeHeld
            If the volume is in use.
        Cancelled
            If `cancel` was set, or somebody asked for the volume meanwhile.
        BackupFailed, DiskFull
            Nothing is left behind; the table remembers when to try again.
        """
        with self.leased(volume_id, Purpose.BACKUP, cancel) as leased:
            return self._back_up(leased, progress)

    def _back_up(self, leased: Leased, progress: Progress = no_progress) -> BackupRecord:
        record = leased.record
        if self.vault.has_current(record):
            if not is_broken(self.layout.volume(record.id)):
                current = self.vault.newest(record)
                assert current is not None
                return current
            leased = replace(leased, record=self._changed_since_backup(record))
        if not record.generation or not self.layout.volume(record.id).exists():
            raise BackupFailed(
                f"The volume of {record.session!r} has no files on disk, so there is nothing to back up; "
                "start a kernel in it first."
            )
        # Where a killed process leaves this mark, the next sweep tidies the destination.
        mark = self.layout.staging / f"{record.id}.backup"
        mark.mkdir(mode=0o700, exist_ok=True)
        try:
            return self._make_backup(leased, progress)
        finally:
            with contextlib.suppress(OSError):
                mark.rmdir()

    def _changed_since_backup(self, record: Record) -> Record:
        """Count up the generation of files that something has changed without a lease: no backup has them."""
        log.warning(
            "The files of %r were changed after their backup was made, outside of a kernel; they are backed up anew.",
            record.session,
        )
        return self.registry.set_generation(record.id, record.generation + 1, self.clock())

    def _make_backup(self, leased: Leased, progress: Progress) -> BackupRecord:
        record = leased.record
        own = self.settings.policy(record.kernelspec)
        vault = self.vault_at(own.destination)
        seal(self.layout.volume(record.id), own.exclude)
        try:
            made = vault.back_up(record, tuple(own.exclude), self.clock, leased.cancel, progress)
        except Cancelled:
            raise
        except (VolumeError, OSError) as error:
            self._note_failure(record, str(error))
            raise
        if made.partial:
            self._note_failure(record, f"the backup {made.name} is partial")
        self._emit(Kind.BACKED_UP, record, backup=made.name, bytes=made.bytes, size=made.size)
        self.drop_superfluous(record)
        return made

    def _note_failure(self, record: Record, reason: str) -> None:
        """Remember that a backup failed, so that it is tried again, later and later, and people can see why."""
        log.warning("Backing up %r failed: %s", record.session, reason)
        with contextlib.suppress(VolumeError):
            again = policy.retry_at(self.clock(), record.failures)
            self.registry.postpone_backup(record.id, again)
            self.registry.set_note(record.id, f"backup failed: {reason}"[:300])
        self._emit(Kind.FAILED, record, action=policy.Action.BACK_UP.value, message=reason)

    def drop_superfluous(self, record: Record) -> list[BackupRecord]:
        """Delete the backups of a volume that its policy does not keep; return them."""
        keep = self.settings.policy(record.kernelspec).keep
        gone = policy.superfluous(self.registry.backups(record.id), keep, self.clock())
        for backup in gone:
            try:
                self.vault.drop(backup)
            except VolumeError as error:
                log.warning("An old backup stays for now: %s", error)
        return gone

    def backups(self, volume_id: str | None = None) -> list[BackupRecord]:
        """Return the backups of one volume, or all, newest first."""
        return self.registry.backups(volume_id)

    def backup_named(self, name: str) -> BackupRecord:
        """Return the backup of that name.

        Raises
        ------
        VolumeNotFound
            If there is none.
        """
        for backup in self.registry.backups():
            if backup.name == name:
                return backup
        raise VolumeNotFound(
            f"No backup is named {name[:200]!r}; `jupyter volumes backups` lists those there are."
        )

    def verify(
        self,
        backup: BackupRecord,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Read a backup whole; one that is damaged (`BackupDamaged`) no longer lets its volume be pruned."""
        self.vault.verify(backup, self.clock(), cancel or threading.Event(), progress)

    # -- pruning ---------------------------------------------------------------------------------------------

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
        if not force and (pids := dwellers(path)):
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

    def _mark_gone(self, record: Record, lease: Lease) -> Record:
        """Record that a volume's files are gone; one that no backup can bring back is forgotten."""
        if self.registry.backups(record.id):
            return self.registry.mark_pruned(record.id)
        self.registry.forget(record.id)
        leases.remove(lease)
        return replace(record, state=State.PRUNED, bytes=None)

    def discard(self, leased: Leased) -> None:
        """Delete a leased volume that never had a session, and forget it."""
        self.trash.take(self.layout.volume(leased.record.id))
        self._mark_gone(leased.record, leased.lease)

    def delete(self, volume_id: str) -> None:
        """Delete a stopped volume with its files and all its backups, at its owner's word."""
        try:
            with self.leased(volume_id, Purpose.PRUNE) as leased:
                for backup in self.registry.backups(volume_id):
                    self.vault.drop(backup)
                self._prune(leased, force=True)
        finally:
            self.empty_trash_in_background()

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

    def _put_back(self, name: str) -> None:
        """Undo the pruning of a volume whose files were changed after their backup, by something without a lease."""
        volume_id = name.split(".", 1)[0]
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
        own = read_record(path)
        if own is not None and own.id == record.id:
            return False

        def move(target: Path) -> bool:
            make(path)  # from now on it has what each volume has
            path.rename(target)
            return True

        self._keep_beside(record, f"{record.id}.{record.generation}.stray", move)
        return True

    # -- making room -----------------------------------------------------------------------------------------

    def evict(self, record: Record, cancel: threading.Event | None = None) -> None:
        """Make room: back a stopped volume up if that has not been done, then delete its files."""
        with self.leased(record.id, Purpose.BACKUP, cancel) as leased:
            if leased.record.generation and self._back_up(leased).partial:
                raise NotBackedUp(
                    f"The volume of {record.session!r} cannot make room: its backup is partial; "
                    "`jupyter volumes backups` tells what could not be read."
                )
            self._prune(leased, force=leased.record.spare is not None, kind=Kind.EVICTED)

    def make_room(self, places: int, cancel: threading.Event) -> int:
        """Evict until `places` places are free or nothing more may go; return how many places are free."""
        for record in self.registry.unborn():
            # Whoever was making it was killed, or is at it now and holds it.
            with contextlib.suppress(VolumeHeld):
                self.put_right(record.id)
        for record in policy.eviction_order(self.volumes()):
            if self._free_places() >= places or cancel.is_set():
                break
            if not record.is_backed_up and record.retry and record.retry > self.clock():
                continue  # its backup failed a moment ago: nobody waits for it to fail again
            try:
                self.evict(record, cancel)
            except VolumeHeld:
                continue
            except (VolumeError, OSError) as error:
                log.warning("%r cannot make room: %s", record.session, error)
        self.empty_trash_in_background()
        return self._free_places()

    def _free_places(self) -> int:
        return self.settings.max_volumes - self.registry.places_taken()

    # -- bringing back ---------------------------------------------------------------------------------------

    def restore(
        self,
        volume_id: str,
        *,
        backup: str | None = None,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> Record:
        """Bring a volume back from its newest backup, or the one named; return its record.

        Files that lie on disk are backed up first and then replaced: nothing is lost by a restore.

        Raises
        ------
        RestoreFailed
            If there is no (such) backup.
        BackupDamaged
            Naming the damaged backup; nothing was changed.
        VolumeHeld, PoolFull, DiskFull, Cancelled
            Nothing was changed.
        """
        with self.leased(volume_id, Purpose.RESTORE, cancel) as leased:
            chosen = self.choose_backup(leased.record, backup)
            if self.layout.volume(volume_id).exists():
                if leased.record.generation and self._back_up(leased).partial:
                    raise NotBackedUp(
                        f"The files of {leased.record.session!r} cannot be replaced: not all could be backed up; "
                        "restore to another place with --to."
                    )
                record = self._bring_back(self._record(volume_id), chosen, leased.cancel, progress)
            else:
                record = self._bring_back(leased.record, chosen, leased.cancel, progress)
        return self.observed(record)

    def restore_to(
        self,
        backup: BackupRecord,
        into: Path,
        *,
        cancel: threading.Event | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Bring a backup back into a directory that does not exist yet; no volume is touched."""
        self.vault.restore_to(backup, into, cancel or threading.Event(), progress)

    def choose_backup(self, record: Record, name: str | None = None) -> BackupRecord:
        """Return the backup of that name, or the newest whole one (`RestoreFailed` if there is none)."""
        backups = self.registry.backups(record.id)
        if name is None:
            newest = self.vault.newest(record)
            if newest is not None:
                return newest
            raise RestoreFailed(
                f"The volume of {record.session!r} has no backup to bring back; "
                "`jupyter volumes backups` lists those there are."
            )
        for backup in backups:
            if backup.name == name:
                return backup
        raise RestoreFailed(
            f"{name!r} is no backup of {record.session!r}; `jupyter volumes backups` lists those there are."
        )

    def _bring_back(
        self,
        record: Record,
        backup: BackupRecord,
        cancel: threading.Event,
        progress: Progress = no_progress,
    ) -> Record:
        """Restore aside, then put the files into place by one rename. The caller holds the lease.

        The staging directory comes before the place in the pool is taken: where a killed process left one, the next
        acquire or sweep knows that there was a restore under way, and gives the place back.
        """
        log.info("Bringing %r back from %s", record.session, backup.name)
        has_files = self.layout.volume(record.id).exists()
        aside = self.layout.staging / f"{record.id}.{secrets.token_hex(4)}"
        self._on_step("restore:aside")
        aside.mkdir(mode=0o700)
        try:
            self._on_step("restore:place")
            self._take_place(record, cancel)
            self.vault.restore_to(backup, aside / "files", cancel, progress)
            self._on_step("restore:count")
            if has_files or backup.generation != record.generation:
                # Before the swap: whatever lies there when this process is killed, no backup passes for it.
                record = self.registry.set_generation(
                    record.id, record.generation + 1, self.clock()
                )
            else:
                seal(aside / "files", self.settings.policy(record.kernelspec).exclude)
            self._on_step("restore:swap")
            self.trash.take(self.layout.volume(record.id), look=True)
            self._on_step("restore:rename")
            (aside / "files").rename(self.layout.volume(record.id))
            self._on_step("restore:renamed")
        except BaseException:
            Trash(self.layout.trash).take(aside)
            if not self.layout.volume(record.id).exists() and self.registry.backups(record.id):
                self.registry.mark_pruned(record.id)
            raise
        finally:
            with contextlib.suppress(OSError):
                aside.rmdir()
        self._write_record(record)
        self.empty_trash_in_background()
        self._emit(Kind.RESTORED, record, backup=backup.name, bytes=backup.bytes)
        return self._record(record.id)

    def _take_place(self, record: Record, cancel: threading.Event) -> None:
        """Count a volume that comes back among those with files, making room if need be."""
        self._make_room_for(
            record.session,
            cancel,
            lambda: self.registry.take_place(record.id, self.clock(), self.settings.max_volumes),
        )

    def _make_room_for(
        self, session: str, cancel: threading.Event, work: Callable[[], None]
    ) -> None:
        """Do what needs a place; where there is none, evict and try again, as others may take it meanwhile."""
        for _ in range(5):
            try:
                work()
            except PoolFull:
                if self.make_room(1, cancel) < 1:
                    break
            else:
                return
        raise full(session, self.volumes(), self.settings.max_volumes)

    # -- what a killed process left --------------------------------------------------------------------------

    def finish_interrupted(self, cancel: threading.Event) -> list[str]:
        """Finish or undo what killed processes began; return one line for each thing put right.

        Called by each sweep, and when the pool is full. It looks only where interrupted work leaves its marks: the
        staging and trash directories, records that say active, and records never acquired; so it costs nothing
        where there are none.
        """
        done = []
        staged = os.listdir(self.layout.staging)
        marked = {name.split(".", 1)[0] for name in staged}
        marked.update(name.split(".", 1)[0] for name in self.trash.waiting())
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

    def put_right(self, volume_id: str) -> str | None:
        """Make the record of one volume agree with the disk; return what was put right, in one line."""
        if self.registry.get(volume_id) is None:
            return None
        with self.leased(volume_id, Purpose.PRUNE) as leased:
            self._on_step("repair:leased")
            record = leased.record
            left = [n for n in os.listdir(self.layout.staging) if n.split(".", 1)[0] == volume_id]
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
