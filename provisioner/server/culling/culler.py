"""Shuts idle kernels with volumes down, after a warning. What is decided, `culling` decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from logging import Logger
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from traitlets import TraitError

from provisioner.server.background.workers import Workers
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
from provisioner.server.culling.idle_limits import IdleLimits, Subject
from provisioner.server.culling.probe import answers
from provisioner.server.kernels import Occupant, VolumeKernels
from provisioner.server.telemetry.events import Announcer
from provisioner.settings.pool import VolumePool

_ANSWER_SECONDS = 5.0
"""How long a kernel about to be culled may take to answer; one that does not is taken to have work."""

_SOONEST_SECONDS = 0.5

_REST = timedelta(minutes=1)
"""How often kernels are looked at where none is culled."""


class Culler:
    """Looks at the kernels with volumes now and then; leaves all others, and jupyter_server's own culler, alone.

    Parameters
    ----------
    manager
        The server's kernels.
    kernels
        Those of them that have volumes.
    notebook_file
        Returns the file of a kernel's notebook, if it has one.
    settings
        Returns the settings as they are now.
    announcer
        Tells people.
    culled
        Called for each kernel that was shut down.
    workers
        Where notebooks are read.
    clock
        Tells the time (UTC).
    log
        The server's log.
    """

    def __init__(
        self,
        manager: MappingKernelManager,
        kernels: VolumeKernels,
        notebook_file: Callable[[str], str | None],
        settings: Callable[[], VolumePool],
        announcer: Announcer,
        culled: Callable[[], None],
        workers: Workers,
        clock: Callable[[], datetime],
        log: Logger,
    ) -> None:
        self._manager = manager
        self._kernels = kernels
        self._notebook_file = notebook_file
        self._settings = settings
        self._announcer = announcer
        self._culled = culled
        self._workers = workers
        self._clock = clock
        self._log = log
        self._arbiter = Arbiter(lambda: settings().arbiter, log)
        self._limits = IdleLimits(settings, log)
        self._known_limits: dict[str, timedelta | None] = {}
        self._memory = Memory()
        self._wake = asyncio.Event()
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            interval = self._settings().cull_interval
            pause = (interval or _REST).total_seconds()
            # Whether anything is culled or not: the volumes of kernels that the server has dropped are given back.
            self._kernels.all()
            if interval is not None:
                try:
                    next_look = await self.look()
                    pause = self._pause(next_look, interval)
                except Exception:  # noqa: BLE001 - one look that fails must not end all looks
                    self._log.exception("Looking for idle kernels failed; the next look follows.")
            self._wake.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def look(self) -> datetime | None:
        """Look once: warn, withdraw, cull. Return when the next look is due at the latest."""
        decision = decide(await self._states(), self._memory, self._rules(), self._clock())
        doubtful = [a.kernel for a in decision.actions if not isinstance(a, Withdraw)]
        if doubtful:
            examined = await asyncio.gather(*map(self._examine, doubtful))
            found = dict(zip(doubtful, examined, strict=True))
            # Time has passed: kernels have begun to work, were replaced or are gone.
            states = [found.get(s.kernel, _Examined()).mark(s) for s in await self._states()]
            decision = decide(states, self._memory, self._rules(), self._clock())
        self._memory = decision.memory
        for action in decision.actions:
            self._carry_out(action)
        return decision.next_look

    def wake(self) -> None:
        """Look now; called on the event loop."""
        self._wake.set()

    def keep(self, kernels: list[str]) -> None:
        """Count kernels as active now, at a person's word: their clock starts again."""
        now = self._clock()
        warned = dict(self._memory.warned)
        for kernel_id in kernels:
            if kernel_id in self._manager:
                self._manager.get_kernel(kernel_id).last_activity = now  # type: ignore[attr-defined]  # as jupyter_server does
            warned.pop(kernel_id, None)
            occupant = self._kernels.find(kernel_id)
            if occupant is not None:
                self._announcer.kept(occupant, now, "asked")
        self._memory = replace(self._memory, warned=warned)
        self._wake.set()

    def due(self, kernel_id: str) -> datetime | None:
        """Return when a kernel is shut down if nothing happens before; None if it is not, as things stand."""
        state = self._state(kernel_id, self._known_limits.get(kernel_id))
        if state is None or self._settings().cull_interval is None:
            return None
        due = cull_due(state, self._rules())
        given = self._memory.warned.get(kernel_id)
        if due is None or given is None or given.last_activity != state.last_activity:
            return due
        return max(due, given.at)

    # -- looking ---------------------------------------------------------------------------------------------

    async def _states(self) -> list[KernelState]:
        """Return the state of each kernel with a volume, as of one moment: the slow part comes first."""
        subjects = [
            Subject(o.kernel, self._kernelspec(o.kernel), self._notebook_file(o.kernel))
            for o in self._kernels.all()
        ]
        self._known_limits = await self._workers.run(lambda: self._limits.of(subjects))
        states = (
            self._state(o.kernel, self._known_limits[o.kernel])
            for o in self._kernels.all()
            if o.kernel in self._known_limits and o.kernel not in self._ending
        )
        return [state for state in states if state is not None]

    def _state(self, kernel_id: str, limit: timedelta | None) -> KernelState | None:
        if kernel_id not in self._manager:
            return None
        kernel: Any = self._manager.get_kernel(kernel_id)
        phase, last_activity = _phase(kernel), _last_activity(kernel)
        if phase is None or last_activity is None:
            return None
        # jupyter_server has no public way to ask; its own culler reads the same.
        connections = self._manager._kernel_connections.get(kernel_id, 0)  # noqa: SLF001
        return KernelState(kernel_id, phase, last_activity, limit, connections)

    def _kernelspec(self, kernel_id: str) -> str:
        if kernel_id not in self._manager:
            return ""
        return str(self._manager.get_kernel(kernel_id).kernel_name)

    def _rules(self) -> Rules:
        settings = self._settings()
        interval = settings.cull_interval or timedelta(minutes=1)
        return Rules(
            warning=settings.cull_warning,
            cull_connected=settings.cull_connected,
            patience=timedelta(seconds=self._manager.kernel_info_timeout),
            gap=3 * interval + timedelta(minutes=1),
        )

    def _pause(self, next_look: datetime | None, interval: timedelta) -> float:
        pause = interval
        if next_look is not None:
            pause = min(pause, next_look - self._clock())
        return max(pause.total_seconds(), _SOONEST_SECONDS)

    async def _examine(self, kernel_id: str) -> _Examined:
        """Ask a kernel about to be warned or culled whether it has work, and the arbiter whether it objects."""
        occupant = self._kernels.find(kernel_id)
        if occupant is None or kernel_id not in self._manager:
            return _Examined()
        kernel: Any = self._manager.get_kernel(kernel_id)
        if not await answers(kernel, _ANSWER_SECONDS):
            self._log.info("Kernel %s looks idle but does not answer: it has work.", kernel_id)
            kernel.last_activity = self._clock()
            return _Examined(has_queued_cells=True)
        idle = self._clock() - kernel.last_activity
        vetoed = await self._arbiter.spares(occupant.session, kernel_id, idle)
        return _Examined(is_vetoed=vetoed)

    # -- acting ----------------------------------------------------------------------------------------------

    def _carry_out(self, action: Action) -> None:
        occupant = self._kernels.find(action.kernel)
        if occupant is None:
            return
        if isinstance(action, Warn):
            self._log.info(
                "Kernel %s of %r is shut down for idleness at %s.",
                action.kernel,
                occupant.session,
                action.at,
            )
            self._announcer.warning(occupant, self._clock(), action.at)
        elif isinstance(action, Withdraw):
            self._announcer.kept(occupant, self._clock(), "active")
        else:
            # By itself: how long a launcher takes must not keep the other kernels waiting.
            self._ending[action.kernel] = ending = asyncio.create_task(self._cull(action, occupant))
            ending.add_done_callback(lambda _: self._ending.pop(action.kernel))

    async def _cull(self, cull: Cull, occupant: Occupant) -> None:
        # No await between this look and the shutdown's beginning: what the kernel did meanwhile is seen.
        state = self._state(cull.kernel, None)
        if state is None or state.last_activity != cull.last_activity:
            return
        if state.phase in {Phase.BUSY, Phase.PENDING}:
            return
        self._log.warning(
            "Shutting down kernel %s of %r, idle for %s; its volume stays.",
            cull.kernel,
            occupant.session,
            cull.idle,
        )
        try:
            shutdown: Any = self._manager.shutdown_kernel  # typed nowhere
            await ensure_async(shutdown(cull.kernel))
        except Exception:  # noqa: BLE001 - whatever a launcher raises, the other kernels have their turn
            self._log.exception("Kernel %s could not be shut down for idleness.", cull.kernel)
            return
        self._culled()
        self._announcer.culled(occupant, self._clock(), cull.idle)


@dataclass(frozen=True)
class _Examined:
    """What was found of a kernel about to be warned or culled."""

    has_queued_cells: bool = False
    is_vetoed: bool = False

    def mark(self, state: KernelState) -> KernelState:
        return replace(state, has_queued_cells=self.has_queued_cells, is_vetoed=self.is_vetoed)


def _last_activity(kernel: Any) -> datetime | None:
    """Return when a kernel was last active; None as long as jupyter_server has not said it for the first time."""
    try:
        found: datetime | None = getattr(kernel, "last_activity", None)
    except TraitError:
        # Reading a trait of a type that allows no None raises until it has a value.
        return None
    return found


def _phase(kernel: Any) -> Phase | None:
    """Return what a kernel's manager says it is at; None where its start has failed."""
    ready = kernel.ready
    if not ready.done():
        return Phase.PENDING
    if ready.cancelled() or ready.exception() is not None:
        return None
    return {"busy": Phase.BUSY, "starting": Phase.STARTING}.get(kernel.execution_state, Phase.IDLE)
