"""What `/metrics` says of volumes. Counters follow the pool's events; gauges come from a cached picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from provisioner.core.event import Event, Kind
from provisioner.core.record import State
from provisioner.maintenance.sweep import Report
from provisioner.pool.pool import Pool
from provisioner.server.telemetry.snapshot import Picture, Snapshot, take

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 30, 60, 120, 300, 600)


class Metrics(Collector):
    """The metrics of one pool, registered while the server runs.

    Parameters
    ----------
    pool
        The pool.
    registry
        Where they are registered; the server's `/metrics` shows the default one.
    """

    def __init__(self, pool: Pool, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._snapshot: Snapshot[Picture] = Snapshot(lambda: take(pool), Picture())
        own = CollectorRegistry()
        self._own = own
        self.hydration = Histogram(
            "jupyter_volumes_hydration_seconds",
            "How long kernels waited for their environment",
            buckets=_SECONDS,
            registry=own,
        )
        self.hydration_hits = Counter(
            "jupyter_volumes_hydration_cache_hits",
            "Starts that found their environment in the volume",
            registry=own,
        )
        self.waits = Histogram(
            "jupyter_volumes_lease_wait_seconds",
            "How long kernels waited for a volume that another process held",
            buckets=_SECONDS,
            registry=own,
        )
        self.refusals = Counter(
            "jupyter_volumes_refusals", "Kernels that got no volume", ["code"], registry=own
        )
        self.backups = Counter("jupyter_volumes_backups", "Backups made", registry=own)
        self.backup_failures = Counter(
            "jupyter_volumes_backup_failures", "Backups that failed", registry=own
        )
        self.sweeps = Histogram(
            "jupyter_volumes_sweep_seconds",
            "How long sweeps took",
            buckets=_SECONDS,
            registry=own,
        )
        self.culls = Counter(
            "jupyter_volumes_culls", "Kernels shut down for idleness", registry=own
        )
        self._unsubscribe: Callable[[], None] = pool.events.subscribe(self._on_event)
        registry.register(self)

    def close(self) -> None:
        """Be shown no more."""
        self._unsubscribe()
        self._registry.unregister(self)

    def swept(self, report: Report) -> None:
        """Count a sweep."""
        if not report.skipped:
            self.sweeps.observe(report.seconds)

    def describe(self) -> list[Metric]:
        """Called at the registration, where nothing is to be gathered yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called on the event loop for each look at `/metrics`; never waits."""
        yield from self._own.collect()
        yield from gauges(self._snapshot.show())

    def _on_event(self, event: Event) -> None:
        details = event.details
        if event.kind is Kind.HYDRATED:
            self.hydration.observe(float(details.get("seconds", 0.0)))
            if details.get("hit"):
                self.hydration_hits.inc()
        elif event.kind is Kind.ACQUIRED:
            self.waits.observe(float(details.get("waited", 0.0)))
        elif event.kind is Kind.REFUSED:
            self.refusals.labels(str(details.get("code", ""))).inc()
        elif event.kind is Kind.BACKED_UP:
            self.backups.inc()
        elif event.kind is Kind.FAILED and not event.kernel:
            self.backup_failures.inc()


def gauges(picture: Picture) -> Iterator[Metric]:
    """Yield the gauges of a picture."""
    volumes = GaugeMetricFamily(
        "jupyter_volumes_volumes", "Volumes under the root", labels=["state"]
    )
    sizes = GaugeMetricFamily(
        "jupyter_volumes_bytes", "Bytes of the volumes' files, as last measured", labels=["state"]
    )
    for state in State:
        volumes.add_metric([state.value], picture.volumes.get(state, 0))
        sizes.add_metric([state.value], picture.bytes.get(state, 0))
    yield volumes
    yield sizes
    if picture.backup_age is not None:
        yield GaugeMetricFamily(
            "jupyter_volumes_newest_backup_age_seconds",
            "Time since the newest backup was made",
            value=picture.backup_age,
        )
    yield GaugeMetricFamily(
        "jupyter_volumes_waiting_for_backup_seconds",
        "Time since the stop of the volume that has longest had no current backup; 0 if all have one",
        value=picture.waiting_for_backup or 0.0,
    )
