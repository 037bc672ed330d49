"""How long each kernel may be idle: the limit in its notebook, or else in the policy of its kernelspec."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from functools import lru_cache
from logging import Logger

from provisioner.core.duration import parse_duration
from provisioner.core.errors import ConfigError
from provisioner.pool.pool import Pool
from provisioner.server.culling.decision import NotebookLimit, idle_limit
from provisioner.settings.notebook import volume_metadata


class IdleLimits:
    """Returns the limits of kernels; reads a notebook again only after it was saved."""

    def __init__(self, pool: Pool, log: Logger) -> None:
        self._pool = pool
        self._log = log
        self._read = lru_cache(maxsize=1024)(self._notebook_limit)

    def of(self, kernelspec: str, notebook: str | None) -> timedelta | None:
        """Return how long a kernel may be idle, given the file of its notebook; None: for ever. Blocks."""
        settings = self._pool.settings
        try:
            policy = settings.policy(kernelspec).idle_shutdown
        except ConfigError:
            # The kernel's next start is refused with the reason; until then no kernel is shut down because of it.
            return None
        own = None
        with contextlib.suppress(OSError):
            status = os.stat(notebook or "")
            own = self._read(notebook, status.st_mtime_ns, status.st_size)
        return idle_limit(policy, own, settings.max_idle_shutdown)

    def _notebook_limit(self, path: str, modified: int, size: int) -> NotebookLimit | None:
        metadata = volume_metadata(path)
        if "idle_shutdown" not in metadata:
            return None
        value = metadata["idle_shutdown"]
        try:
            return NotebookLimit(parse_duration(value))
        except ValueError as error:
            message = "%s: metadata.volume.idle_shutdown is %r and is ignored; it must be %s."
            self._log.warning(message, path, value, error)
            return None
