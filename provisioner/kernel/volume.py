"""The volume of one kernel: which session's it is, its lease and its environment."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from logging import Logger
from typing import Any

from traitlets.config import Config

from provisioner.core import session
from provisioner.core.errors import VolumeError
from provisioner.core.event import Event, Kind
from provisioner.core.progress import StepProgress
from provisioner.core.session import Session, Source
from provisioner.hydration.environment import Environment
from provisioner.hydration.step import Launch
from provisioner.pool.kernels import Acquired
from provisioner.pool.pool import Pool, pool_of
from provisioner.settings import notebook
from provisioner.settings.options import KernelOptions
from provisioner.settings.pool import load_settings
from provisioner.system.forks import Descriptor


class KernelVolume:
    """The volume of one kernel, from its acquire to its release.

    `acquire`, `hydrate` and `release` block: they are called in threads, one after the other.
    """

    def __init__(
        self, kernel_id: str, kernelspec: str, options: KernelOptions, config: Config, log: Logger
    ) -> None:
        self._kernel_id = kernel_id
        self._kernelspec = kernelspec
        self._options = options
        self._config = config
        self._log = log
        self._pool: Pool | None = None
        self._named_by: Source | None = None
        self._dropped: weakref.finalize[..., Any] | None = None
        self.acquired: Acquired | None = None
        """The volume that the kernel has; None before the start and after the end."""

    def acquire(self, env: Mapping[str, str], cancel: threading.Event) -> Acquired:
        """Find out which session this is and acquire its volume; at a restart, only follow a renamed notebook."""
        pool = self._pool = self._pool or pool_of(load_settings(self._config))
        names = pool.catalog.names_of(env.get(session.VOLUME_VARIABLE, ""))
        chosen = session.choose(notebook.gather(self._kernel_id, env, os.environ, names))
        if self.acquired is not None:
            self.acquired = self._follow_rename(pool, self.acquired, chosen)
            return self.acquired
        # From here on a server that stops knows this start, and ends it while it waits for the volume.
        pool.events.emit(Event(Kind.ASKED, pool.clock(), chosen.name, kernel=self._kernel_id))
        acquired = pool.acquire(
            chosen.name, self._kernelspec, kernel=self._kernel_id, cancel=cancel
        )
        self.acquired, self._named_by = acquired, chosen.source
        # Nobody calls `cleanup` for a kernel that died at every start, nor for a manager that nobody shut down.
        self._dropped = weakref.finalize(self, _release_in_background, pool, acquired)
        self._dropped.atexit = False
        return acquired

    def _follow_rename(self, pool: Pool, acquired: Acquired, chosen: Session) -> Acquired:
        """Relabel the volume of a notebook that was renamed while its kernel ran.

        A volume whose session the caller or the metadata named keeps that name, because other kernels may ask for it.
        A notebook that still exists under its old name was saved under another name: the volume stays with the old.
        """
        old = acquired.record.session
        renamed = chosen.name != old and not os.path.exists(old)
        if renamed and self._named_by is chosen.source is Source.NOTEBOOK:
            record = pool.catalog.relabel(acquired.record.id, chosen.name)
            if record is not None:
                # Only the name: the rest of the table's row belongs to the kernel that shared the volume last.
                return replace(acquired, record=replace(acquired.record, session=record.session))
        return acquired

    def hydrate(self, launch: Launch, env: Mapping[str, str], cancel: threading.Event) -> Launch:
        """Bring the environment to what the kernelspec declares, and return the launch within it.

        `env` is what the caller gave for the kernel; it says where the notebook is.

        Raises
        ------
        VolumeError
            The hydration failed; listeners to the pool's events know.
        """
        assert self._pool is not None
        assert self.acquired is not None
        acquired, path = self.acquired, notebook.locate(env, os.environ)
        environment = Environment(
            self._pool.settings, self._options, acquired.record, acquired.path, path
        )
        began = time.monotonic()
        try:
            hydrated = environment.hydrate(
                launch,
                lease=acquired.lease_fd,
                progress=self._progress(acquired),
                cancel=cancel,
                clock=self._pool.clock,
            )
        except VolumeError as error:
            self._emit(Kind.FAILED, acquired, message=str(error), code=error.code)
            raise
        seconds = time.monotonic() - began
        hit = all(step.hit for step in hydrated.report)
        self._emit(Kind.HYDRATED, acquired, seconds=seconds, hit=hit)
        return hydrated.launch

    def _progress(self, acquired: Acquired) -> StepProgress:
        def report(step: str, message: str, fraction: float | None = None) -> None:
            self._log.info("Hydrating %r: %s: %s", acquired.record.session, step, message)
            details = {"step": step, "message": message, "fraction": fraction}
            self._emit(Kind.HYDRATION_PROGRESS, acquired, **details)

        return report

    def _emit(self, kind: Kind, acquired: Acquired, **details: Any) -> None:
        assert self._pool is not None
        now, record = self._pool.clock(), acquired.record
        self._pool.events.emit(
            Event(kind, now, record.session, record.id, acquired.kernel, details)
        )

    @contextlib.contextmanager
    def inherited_lease(self) -> Iterator[int]:
        """Yield a descriptor of the lease for the process that is started within the block."""
        assert self.acquired is not None
        lease = self.acquired.lease_fd
        # A copy: where Popen has a `preexec_fn`, Python forks, and a forked child closes the pool's own descriptors
        # before the kernel's program takes its place.
        with Descriptor(lambda: os.dup(lease), is_passed_on=True) as inherited:
            yield inherited

    def is_up(self, process: object) -> None:
        """Note the kernel's process in the lease, where the launcher has a local one."""
        if self._pool is not None and self.acquired is not None and isinstance(process, int):
            self._pool.kernel_is_up(self.acquired, process)

    def release(self, process: int | None) -> None:
        """Give the volume back, now that the kernel's process has ended; no harm if the kernel has none."""
        acquired, self.acquired = self.acquired, None
        if acquired is None or self._pool is None:
            return
        if self._dropped is not None:
            self._dropped.detach()
        self._pool.release(acquired, process)


def _release_in_background(pool: Pool, acquired: Acquired) -> None:
    """Release in a thread: the garbage collector may run in one that holds the pool's locks."""
    threading.Thread(target=pool.release, args=(acquired,), daemon=True).start()
