"""The parts of the extension that its handlers use."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.pool.pool import Pool
from provisioner.server.background.workers import Workers
from provisioner.server.culling.culler import Culler
from provisioner.server.kernels import VolumeKernels
from provisioner.server.rest.jobs import Jobs
from provisioner.server.rest.listing import Listing, Running, running
from provisioner.server.rest.models import View
from provisioner.server.rest.operations import Operations
from provisioner.server.rest.refusals import NoKernel


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
