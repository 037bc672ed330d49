"""The arbiter: a callable of the administrator's that may spare a kernel about to be shut down for idleness."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from logging import Logger
from typing import Any

from traitlets.utils.importstring import import_item

from provisioner.system.work import Work

_TIMEOUT = timedelta(seconds=10)

Judge = Callable[[str, str, timedelta], Any]


class _Fault(Exception):
    """What is wrong with the arbiter, in one line."""


class Arbiter:
    """Calls the administrator's callable in a thread, about one kernel at a time.

    A call that never returns keeps its thread. As long as it has not returned, there is no further call and every
    kernel is spared.

    Parameters
    ----------
    judge
        Returns the present setting: the callable, or its importable name; empty: no kernel is spared.
    """

    def __init__(
        self, judge: Callable[[], Judge | str], log: Logger, timeout: timedelta = _TIMEOUT
    ) -> None:
        self._judge = judge
        self._log = log
        self._timeout = timeout
        self._one_at_a_time = asyncio.Lock()
        self._last: Work[bool] | None = None

    async def spares(self, session: str, kernel: str, idle: timedelta) -> bool:
        """Whether a kernel is spared: because the arbiter returns False, fails, or takes too long."""
        judge = self._judge()
        if not judge:
            return False
        try:
            async with self._one_at_a_time:
                return await self._answer(lambda cancel: _spares(judge, session, kernel, idle))
        except (_Fault, RuntimeError) as fault:  # RuntimeError: no free thread
            message = "The arbiter failed on kernel %s of %r, which is therefore spared: %s"
            self._log.warning(message, kernel, session, fault)
            return True

    async def _answer(self, call: Callable[[object], bool]) -> bool:
        if self._last is not None and not self._last.is_over:
            raise _Fault("it has not answered an earlier question yet")
        self._last = work = Work(call)
        try:
            await asyncio.wait_for(work.over(), self._timeout.total_seconds())
        except asyncio.TimeoutError:
            raise _Fault(f"no answer in {self._timeout.total_seconds():g} s") from None
        return work.result()


def _spares(judge: Judge | str, session: str, kernel: str, idle: timedelta) -> bool:
    try:
        function = import_item(judge) if isinstance(judge, str) else judge
        answer = function(session, kernel, idle)
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("it is a coroutine function; it must be a plain one, which may block")
        return answer is not None and not answer
    except BaseException as error:  # SystemExit too: it must not end the server
        raise _Fault(f"{type(error).__name__}: {error}") from error
