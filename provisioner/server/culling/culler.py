"""Shuts idle kernels with volumes down, after a warning. `decision` decides; this asks and acts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from logging import Logger
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

from provisioner.pool.pool import Pool
from provisioner.server import upstream
from provisioner.server.background.threads import Workers
from provisioner.server.culling.arbiter import Arbiter
from provisioner.server.culling.decision import (
    Action,
    Cull,
    KernelState,
    Memory,
    Phase,
    Rules,
    Warn,
    Withdraw,
    cull_due,
    decide,
)
from provisioner.server.culling.idle_limits import IdleLimits
from provisioner.server.kernels import VolumeKernel, VolumeKernels
from provisioner.server.telemetry.events import VolumeEvents

_ANSWER_SECONDS = 5.0
"""How long a kernel about to be culled may take to answer; one that does not is taken to have work."""

_SHORTEST_PAUSE = 0.5
"""Seconds between two checks at least."""

_PAUSE_WITHOUT_CULLING = timedelta(minutes=1)
"""How often dropped kernels are looked for if `cull_interval` is `never`."""


class Culler:
    """Checks the kernels with volumes now and then; all others are left to jupyter_server's own culler.

    `notebook_file` returns the file of a kernel's notebook, and `on_cull` is called after each shutdown.
    """

    def __init__(
        self,
        manager: MappingKernelManager,
        pool: Pool,
        kernels: VolumeKernels,
        notebook_file: Callable[[str], str | None],
        events: VolumeEvents,
        on_cull: Callable[[], None],
        workers: Workers,
        log: Logger,
    ) -> None:
        self._manager = manager
        self._pool = pool
        self._clock = pool.clock
        self._kernels = kernels
        self._notebook_file = notebook_file
        self._events = events
        self._on_cull = on_cull
        self._workers = workers
        self._log = log
        self._arbiter = Arbiter(lambda: pool.settings.arbiter, log)
        self._limits = IdleLimits(pool, log)
        self._known_limits: dict[str, timedelta | None] = {}
        self._memory = Memory()
        self._wake = asyncio.Event()
        self._culls: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            interval = self._pool.settings.cull_interval
            pause = interval or _PAUSE_WITHOUT_CULLING
            # Also without culling, for its effect: it releases the volumes of kernels that the server has dropped.
            self._kernels.all()
            if interval is not None:
                try:
                    next_check = await self.check()
                    if next_check is not None:
                        pause = min(pause, next_check - self._clock())
                except Exception:  # noqa: BLE001 - a check that fails must not end the culling
                    self._log.exception("Looking for idle kernels failed; it is tried again.")
            self._wake.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(
                    self._wake.wait(), max(pause.total_seconds(), _SHORTEST_PAUSE)
                )

    async def check(self) -> datetime | None:
        """Check once: warn, withdraw, cull. Return when the next check is due at the latest."""
        decision = decide(await self._states(), self._memory, self._rules(), self._clock())
        candidates = [a.kernel for a in decision.actions if not isinstance(a, Withdraw)]
        if candidates:
            answers = await asyncio.gather(*map(self._is_spared, candidates))
            spared = {
                kernel for kernel, is_spared in zip(candidates, answers, strict=True) if is_spared
            }
            # Time has passed: kernels may have begun to work, have been replaced or have ended.
            states = await self._states(spared)
            decision = decide(states, self._memory, self._rules(), self._clock())
        self._memory = decision.memory
        for action in decision.actions:
            self._carry_out(action)
        return decision.next_check

    def wake(self) -> None:
        """Check now; called on the event loop."""
        self._wake.set()

    def keep(self, kernel_ids: Collection[str]) -> None:
        """Count kernels as active now, because a user asks for it: their idle time begins again."""
        now = self._clock()
        warned = dict(self._memory.warned)
        for kernel_id in kernel_ids:
            if kernel_id in self._manager:
                self._manager.get_kernel(kernel_id).last_activity = now  # type: ignore[attr-defined]  # as jupyter_server does
            warned.pop(kernel_id, None)
            kernel = self._kernels.find(kernel_id)
            if kernel is not None:
                self._events.cull("kept", kernel, now, reason="asked")
        self._memory = replace(self._memory, warned=warned)
        self._wake.set()

    def due(self, kernel_id: str) -> datetime | None:
        """Return when a kernel is shut down if it stays idle; None if it is not."""
        state = self._state(kernel_id, self._known_limits.get(kernel_id))
        if state is None or self._pool.settings.cull_interval is None:
            return None
        due = cull_due(state, self._rules())
        given = self._memory.warned.get(kernel_id)
        if due is None or given is None or given.last_activity != state.last_activity:
            return due
        return max(due, given.at)

    # -- what is known of the kernels ------------------------------------------------------------------------

    async def _states(self, spared: Collection[str] = ()) -> list[KernelState]:
        """Return the state of each kernel with a volume, all as of one moment: the slow part comes first."""
        known = {
            kernel.kernel: (self._kernelspec(kernel.kernel), self._notebook_file(kernel.kernel))
            for kernel in self._kernels.all()
        }
        self._known_limits = await self._workers.run(
            lambda: {kernel_id: self._limits.of(*of) for kernel_id, of in known.items()}
        )
        states = (
            self._state(kernel_id, limit, kernel_id in spared)
            for kernel_id, limit in self._known_limits.items()
            if self._kernels.find(kernel_id) is not None and kernel_id not in self._culls
        )
        return [state for state in states if state is not None]

    def _kernelspec(self, kernel_id: str) -> str:
        if kernel_id not in self._manager:
            return ""
        return str(self._manager.get_kernel(kernel_id).kernel_name)

    def _state(
        self, kernel_id: str, limit: timedelta | None, is_spared: bool = False
    ) -> KernelState | None:
        if kernel_id not in self._manager:
            return None
        kernel: Any = self._manager.get_kernel(kernel_id)
        phase, last_activity = _phase(kernel), upstream.last_activity(kernel)
        if phase is None or last_activity is None:
            return None
        model: dict[str, Any] = self._manager.kernel_model(kernel_id)  # type: ignore[no-untyped-call]  # jupyter_server's
        return KernelState(kernel_id, phase, last_activity, limit, model["connections"], is_spared)

    def _rules(self) -> Rules:
        settings = self._pool.settings
        interval = settings.cull_interval or timedelta(minutes=1)
        return Rules(
            warning=settings.cull_warning,
            cull_connected=settings.cull_connected,
            start_time=timedelta(seconds=self._manager.kernel_info_timeout),
            gap=3 * interval + timedelta(minutes=1),
        )

    async def _is_spared(self, kernel_id: str) -> bool:
        """Whether a kernel about to be warned of or culled has work, or the arbiter objects."""
        volume_kernel = self._kernels.find(kernel_id)
        if volume_kernel is None or kernel_id not in self._manager:
            return False
        kernel: Any = self._manager.get_kernel(kernel_id)
        if not await upstream.answers(kernel, _ANSWER_SECONDS):
            self._log.info("Kernel %s looks idle but does not answer: it has work.", kernel_id)
            kernel.last_activity = self._clock()
            return True
        idle = self._clock() - kernel.last_activity
        return await self._arbiter.spares(volume_kernel.session, kernel_id, idle)

    # -- actions ---------------------------------------------------------------------------------------------

    def _carry_out(self, action: Action) -> None:
        kernel = self._kernels.find(action.kernel)
        if kernel is None:
            return
        if isinstance(action, Warn):
            message = "Kernel %s of %r is shut down for idleness at %s."
            self._log.info(message, action.kernel, kernel.session, action.at)
            seconds = round((action.at - self._clock()).total_seconds())
            self._events.cull("warning", kernel, action.at, seconds=seconds)
        elif isinstance(action, Withdraw):
            self._events.cull("kept", kernel, self._clock(), reason="active")
        else:
            # In a task of its own: a slow launcher must not delay the other kernels.
            self._culls[action.kernel] = task = asyncio.create_task(self._cull(action, kernel))
            task.add_done_callback(lambda _: self._culls.pop(action.kernel))

    async def _cull(self, cull: Cull, kernel: VolumeKernel) -> None:
        # No await between this check and the call of the shutdown: it sees what the kernel did meanwhile.
        state = self._state(cull.kernel, None)
        if state is None or state.last_activity != cull.last_activity:
            return
        if state.phase in {Phase.BUSY, Phase.PENDING}:
            return
        message = "Shutting down kernel %s of %r, idle for %s; its volume stays."
        self._log.warning(message, cull.kernel, kernel.session, cull.idle)
        try:
            shutdown: Any = self._manager.shutdown_kernel  # has no types
            await ensure_async(shutdown(cull.kernel))
        except Exception:  # noqa: BLE001 - a launcher may raise anything
            self._log.exception("Kernel %s could not be shut down for idleness.", cull.kernel)
            return
        self._on_cull()
        path = str(self._pool.root.layout.volume(kernel.volume))
        seconds = round(cull.idle.total_seconds())
        self._events.cull("culled", kernel, self._clock(), path=path, seconds=seconds)


def _phase(kernel: Any) -> Phase | None:
    """Return what a kernel is doing according to its manager; None if its start has failed."""
    ready = kernel.ready
    if not ready.done():
        return Phase.PENDING
    if ready.cancelled() or ready.exception() is not None:
        return None
    return {"busy": Phase.BUSY, "starting": Phase.STARTING}.get(kernel.execution_state, Phase.IDLE)
