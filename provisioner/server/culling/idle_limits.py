"""How long each kernel may be idle: its kernelspec's policy, or what its notebook asks for. Reads notebooks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from logging import Logger

from provisioner.core.duration import parse_duration
from provisioner.core.errors import ConfigError
from provisioner.server.culling.decision import Wish, idle_limit
from provisioner.settings.notebook import volume_metadata
from provisioner.settings.pool import VolumePool


@dataclass(frozen=True)
class Subject:
    """A kernel whose limit is asked for: its id, its kernelspec's name, and its notebook's file if it has one."""

    kernel: str
    kernelspec: str
    notebook: str | None


class IdleLimits:
    """Answers for many kernels at once; a notebook is read again only when it was saved. Blocks: call it in a thread.

    Parameters
    ----------
    settings
        Returns the settings as they are now.
    log
        The server's log.
    """

    def __init__(self, settings: Callable[[], VolumePool], log: Logger) -> None:
        self._settings = settings
        self._log = log
        self._read: dict[str, tuple[tuple[int, int], Wish | None]] = {}

    def of(self, subjects: list[Subject]) -> dict[str, timedelta | None]:
        """Return each kernel's limit by its id; None: for ever."""
        wanted = {subject.notebook for subject in subjects}
        for path in [path for path in self._read if path not in wanted]:
            del self._read[path]
        return {subject.kernel: self._limit(subject) for subject in subjects}

    def _limit(self, subject: Subject) -> timedelta | None:
        settings = self._settings()
        try:
            policy = settings.policy(subject.kernelspec).idle_shutdown
        except ConfigError:
            # Refused, with its reason, at the kernel's next start; until then nothing is shut down for it.
            return None
        wish = None if subject.notebook is None else self._wish(subject.notebook)
        return idle_limit(policy, wish, settings.max_idle_shutdown)

    def _wish(self, notebook: str) -> Wish | None:
        try:
            status = os.stat(notebook)
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(notebook)
        if known is None or known[0] != stamp:
            known = self._read[notebook] = (stamp, self._asked(notebook))
        return known[1]

    def _asked(self, notebook: str) -> Wish | None:
        metadata = volume_metadata(notebook)
        if "idle_shutdown" not in metadata:
            return None
        value = metadata["idle_shutdown"]
        try:
            return Wish(parse_duration(value))
        except ValueError as error:
            self._log.warning(
                "%s: metadata.volume.idle_shutdown is %r and is not heeded; it must be %s.",
                notebook,
                value,
                error,
            )
            return None
