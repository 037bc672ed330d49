"""The arbiter: a callable of the administrator's that may spare a kernel which `culling` would shut down."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from logging import Logger
from typing import Any

from traitlets.utils.importstring import import_item

from provisioner.system.work import Work

_PATIENCE = timedelta(seconds=10)

Judge = Callable[[str, str, timedelta], Any]


class _Fault(Exception):
    """What is wrong with the arbiter, in one line."""


class Arbiter:
    """Asks the administrator's callable, in a thread and one question at a time: it may block, even for ever.

    A question that is never answered keeps its thread. Until it is answered no other is asked, and every kernel spared.

    Parameters
    ----------
    judge
        Returns the callable as the settings have it now, or the importable name of one; empty: nobody objects.
    log
        The server's log.
    patience
        How long it may take to answer.
    """

    def __init__(
        self, judge: Callable[[], Judge | str], log: Logger, patience: timedelta = _PATIENCE
    ) -> None:
        self._judge = judge
        self._log = log
        self._patience = patience
        self._turn = asyncio.Lock()
        self._last: Work[bool] | None = None

    async def spares(self, session: str, kernel: str, idle: timedelta) -> bool:
        """Whether a kernel is spared: because the arbiter says False, fails, or does not answer in time."""
        judge = self._judge()
        if not judge:
            return False
        try:
            async with self._turn:
                return await self._ask(lambda: _answer(judge, session, kernel, idle))
        except (_Fault, RuntimeError) as fault:  # also where no thread can be started
            self._log.warning(
                "The arbiter failed on kernel %s of %r, which is therefore spared: %s",
                kernel,
                session,
                fault,
            )
            return True

    async def _ask(self, question: Callable[[], bool]) -> bool:
        if self._last is not None and not self._last.is_over:
            raise _Fault("it has not answered an earlier question yet")
        self._last = asked = Work(lambda cancel: question())
        try:
            await asyncio.wait_for(asked.over(), self._patience.total_seconds())
        except asyncio.TimeoutError:
            raise _Fault(f"no answer in {self._patience.total_seconds():g} s") from None
        return asked.result()


def _answer(judge: Judge | str, session: str, kernel: str, idle: timedelta) -> bool:
    """Return whether the arbiter spares a kernel; blocks."""
    try:
        ask = import_item(judge) if isinstance(judge, str) else judge
        said = ask(session, kernel, idle)
        if inspect.iscoroutine(said):
            said.close()
            raise TypeError("it is a coroutine function; it must be a plain one, which may block")
        return said is not None and not said
    except BaseException as error:  # it may even call for an exit, which is not the server's
        raise _Fault(f"{type(error).__name__}: {error}") from error
