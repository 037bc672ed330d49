"""The arbiter: a callable of the administrator's that may spare a kernel which `culling` would shut down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from logging import Logger
from typing import Any

from traitlets.utils.importstring import import_item

from .workers import Workers

_PATIENCE_SECONDS = 10.0

Arbiter = Callable[[str, str, timedelta], Any]


async def spares(
    arbiter: Arbiter | str,
    *,
    session: str,
    kernel: str,
    idle: timedelta,
    workers: Workers,
    log: Logger,
) -> bool:
    """Whether the arbiter spares a kernel: by returning False, by failing, or by not answering in ten seconds.

    Parameters
    ----------
    arbiter
        The callable, or the importable name of one; empty: nobody objects. It may block.
    """
    if not arbiter:
        return False

    def ask() -> Any:
        return (import_item(arbiter) if isinstance(arbiter, str) else arbiter)(
            session, kernel, idle
        )

    try:
        return await asyncio.wait_for(workers.run(ask), _PATIENCE_SECONDS) is False
    except Exception as error:  # noqa: BLE001 - foreign code; a fault in it must not cost anybody their variables
        log.warning(
            "The arbiter failed on kernel %s of %r, which is therefore spared: %s: %s",
            kernel,
            session,
            type(error).__name__,
            error,
        )
        return True
