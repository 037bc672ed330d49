"""Sweeps in the background while the server runs: never on the event loop, never at shutdown."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from logging import Logger

from provisioner.backup.operation import gently
from provisioner.core.errors import VolumeError
from provisioner.maintenance.sweep import Report, sweep
from provisioner.pool.pool import Pool
from provisioner.server.background.threads import Background
from provisioner.settings.pool import VolumePool

_FIRST = 0.1
"""The part of the interval after which a server sweeps first: soon, for what a killed one left, but not at once."""

_JITTER = 0.1
"""By which part each interval is shortened or lengthened, so that servers of one root do not all come at once."""

_UNTIL_ASKED_AGAIN = timedelta(minutes=1)
"""How often the settings are looked at while they say that nothing is to be swept."""


class Maintenance(Background):
    """Sweeps one pool; of many servers on one root, one at a time sweeps, which `sweep` sees to.

    The first sweep comes a tenth of the interval after the start.

    Parameters
    ----------
    pool
        The pool.
    settings
        Returns the settings as they are now.
    log
        The server's log.
    swept
        Called in the thread after each sweep, with its report.
    """

    def __init__(
        self,
        pool: Pool,
        settings: Callable[[], VolumePool],
        log: Logger,
        swept: Callable[[Report], None] = lambda report: None,
    ) -> None:
        super().__init__("volumes-sweep")
        self._pool = pool
        self._settings = settings
        self._log = log
        self._swept = swept

    def _run(self) -> None:
        part = _FIRST
        while not self._cancel.wait(self._pause(part).total_seconds()):
            if self._settings().sweep_interval is not None:
                self._sweep()
                part = 1.0

    def _pause(self, part: float) -> timedelta:
        interval = self._settings().sweep_interval
        if interval is None:
            return _UNTIL_ASKED_AGAIN
        return interval * part * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _sweep(self) -> None:
        try:
            with gently():
                report = sweep(self._pool, cancel=self._cancel)
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
