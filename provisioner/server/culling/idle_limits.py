"""How long each kernel may be idle: the limit in its notebook, or else in the policy of its kernelspec."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from logging import Logger

from provisioner.core.duration import parse_duration
from provisioner.core.errors import ConfigError
from provisioner.pool.pool import Pool
from provisioner.server.culling.decision import NotebookLimit, idle_limit
from provisioner.settings.notebook import volume_metadata


@dataclass(frozen=True)
class LimitedKernel:
    """A kernel whose limit is wanted: its id, its kernelspec, and the file of its notebook if it has one."""

    kernel: str
    kernelspec: str
    notebook: str | None


class IdleLimits:
    """Returns the limits of many kernels at once; reads a notebook again only after it was saved. Blocks.

    Parameters
    ----------
    pool
        The pool, for its settings.
    log
        The server's log.
    """

    def __init__(self, pool: Pool, log: Logger) -> None:
        self._pool = pool
        self._log = log
        self._read: dict[str, tuple[tuple[int, int], NotebookLimit | None]] = {}

    def of(self, kernels: list[LimitedKernel]) -> dict[str, timedelta | None]:
        """Return each kernel's limit by its id; None: for ever."""
        notebooks = {kernel.notebook for kernel in kernels}
        self._read = {path: read for path, read in self._read.items() if path in notebooks}
        return {kernel.kernel: self._limit(kernel) for kernel in kernels}

    def _limit(self, kernel: LimitedKernel) -> timedelta | None:
        settings = self._pool.settings
        try:
            policy = settings.policy(kernel.kernelspec).idle_shutdown
        except ConfigError:
            # The kernel's next start is refused with the reason; until then no kernel is shut down because of it.
            return None
        notebook = None if kernel.notebook is None else self._notebook_limit(kernel.notebook)
        return idle_limit(policy, notebook, settings.max_idle_shutdown)

    def _notebook_limit(self, path: str) -> NotebookLimit | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            known = self._read[path] = (stamp, self._read_limit(path))
        return known[1]

    def _read_limit(self, path: str) -> NotebookLimit | None:
        metadata = volume_metadata(path)
        if "idle_shutdown" not in metadata:
            return None
        value = metadata["idle_shutdown"]
        try:
            return NotebookLimit(parse_duration(value))
        except ValueError as error:
            self._log.warning(
                "%s: metadata.volume.idle_shutdown is %r and is ignored; it must be %s.",
                path,
                value,
                error,
            )
            return None
