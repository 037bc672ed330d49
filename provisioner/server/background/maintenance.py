"""Sweeps the root every so often while the server runs, in a child process; never at shutdown."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from logging import Logger

from provisioner.core.errors import Cancelled, VolumeError
from provisioner.maintenance.sweep import Report
from provisioner.pool.pool import Pool
from provisioner.server.background.low_priority import sweep_in_child
from provisioner.server.background.threads import Background

_FIRST = 0.1
"""The first sweep comes after this part of the interval: soon, for what a killed server left, but not at once."""

_JITTER = 0.1
"""Each interval is shortened or lengthened by up to this part, so that the servers of one root do not sweep at once."""

_RECHECK = timedelta(minutes=1)
"""How often the settings are read again while they switch sweeps off."""


class Maintenance(Background):
    """Sweeps one pool, and reports each sweep to `swept`. Of the servers of one root, one sweeps at a time."""

    def __init__(self, pool: Pool, log: Logger, swept: Callable[[Report], None]) -> None:
        super().__init__("volumes-sweep")
        self._pool = pool
        self._log = log
        self._swept = swept

    def _run(self) -> None:
        part = _FIRST
        while not self._cancel.wait(self._pause(part).total_seconds()):
            if self._pool.settings.sweep_interval is not None:
                part = 1.0 if self._sweep() else _FIRST

    def _pause(self, part: float) -> timedelta:
        interval = self._pool.settings.sweep_interval
        if interval is None:
            return _RECHECK
        return interval * part * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _sweep(self) -> bool:
        """Sweep once; return False if the sweep ended early and the rest should be done soon."""
        try:
            report = sweep_in_child(self._pool, self._cancel)
        except Cancelled as error:
            self._log.info("The sweep ended early: %s", error)
            return False
        except (VolumeError, OSError) as error:
            self._log.warning("The sweep failed and is tried again: %s", error)
        except Exception:  # noqa: BLE001 - one sweep that fails must not end all sweeps
            self._log.exception("The sweep failed and is tried again")
        else:
            for step in report.steps:
                outcome = "done" if step.error is None else f"not done: {step.error}"
                self._log.info(
                    "%s %r (%s): %s", step.action.value, step.session, step.reason, outcome
                )
            self._swept(report)
        return True
