"""The parts of the extension that its handlers use."""

from __future__ import annotations

from dataclasses import dataclass

from ..pool import Pool
from .culler import Culler
from .jobs import Jobs
from .kernels import VolumeKernels
from .listing import Listing, Running, running
from .models import View
from .operations import Operations
from .refusals import NoKernel
from .workers import Workers


@dataclass(frozen=True)
class Wiring:
    """What the REST handlers and the page work with."""

    pool: Pool
    kernels: VolumeKernels
    culler: Culler
    jobs: Jobs
    listing: Listing
    operations: Operations
    workers: Workers

    def running(self) -> dict[str, Running]:
        """Return what runs in each volume; called on the event loop."""
        return running(self.kernels, self.culler.due)

    async def views(self) -> list[View]:
        """Return all volumes."""
        now_running = self.running()
        return await self.workers.run(lambda: self.listing.all(now_running))

    async def view(self, volume_id: str) -> View:
        """Return one volume (`NotFound`)."""
        now_running = self.running()
        return await self.workers.run(lambda: self.listing.one(volume_id, now_running))

    async def keep(self, volume_id: str) -> None:
        """Count this server's kernels in one volume as active now (`NotFound`, `NoKernel`)."""
        view = await self.view(volume_id)
        if not view.kernels:
            raise NoKernel(
                f"The volume of {view.record.session!r} has no kernel in this server, so there is none to keep; "
                "open its notebook."
            )
        self.culler.keep(list(view.kernels))
