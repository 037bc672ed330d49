"""The metrics of volumes in `/metrics`: counters follow the pool's events, gauges come from cached totals."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

import prometheus_client as prometheus
from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from provisioner.core.errors import VolumeError
from provisioner.core.event import Event, Kind
from provisioner.core.record import State
from provisioner.maintenance.sweep import Report
from provisioner.pool.pool import Pool
from provisioner.settings.log import log

T = TypeVar("T")

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 30, 60, 120, 300, 600)


class Metrics(Collector):
    """The metrics of one pool, registered while the server runs.

    Parameters
    ----------
    pool
        The pool.
    registry
        The registry; the server's `/metrics` shows the default one.
    """

    def __init__(self, pool: Pool, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._totals: Cached[Totals] = Cached(lambda: totals_of(pool), Totals())
        self._own = own = CollectorRegistry()

        def counter(name: str, help_: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"jupyter_volumes_{name}", help_, labels, registry=own)

        def seconds(name: str, help_: str) -> Histogram:
            name = f"jupyter_volumes_{name}_seconds"
            return Histogram(name, help_, buckets=_BUCKETS, registry=own)

        self.hydration = seconds("hydration", "How long kernels waited for their environment")
        self.hydration_hits = counter(
            "hydration_cache_hits", "Starts that found their environment in the volume"
        )
        self.waits = seconds(
            "lease_wait", "How long kernels waited for a volume that another process held"
        )
        self.refusals = counter("refusals", "Kernels that got no volume", "code")
        self.backups = counter("backups", "Backups made")
        self.backup_failures = counter("backup_failures", "Backups that failed")
        self.sweeps = seconds("sweep", "How long sweeps took")
        self.culls = counter("culls", "Kernels shut down for idleness")
        self._unsubscribe: Callable[[], None] = pool.events.subscribe(self._on_event)
        registry.register(self)

    def close(self) -> None:
        """Unregister the metrics."""
        self._unsubscribe()
        self._registry.unregister(self)

    def swept(self, report: Report) -> None:
        """Count a sweep."""
        if not report.skipped:
            self.sweeps.observe(report.seconds)

    def describe(self) -> list[Metric]:
        """Called at the registration, when there is nothing to collect yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called on the event loop for each request of `/metrics`; never blocks."""
        yield from self._own.collect()
        yield from gauges(self._totals.get())

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


def gauges(totals: Totals) -> Iterator[Metric]:
    """Yield the gauges of the totals."""
    volumes = GaugeMetricFamily(
        "jupyter_volumes_volumes", "Volumes under the root", labels=["state"]
    )
    sizes = GaugeMetricFamily(
        "jupyter_volumes_bytes", "Bytes of the volumes' files, as last measured", labels=["state"]
    )
    for state in State:
        volumes.add_metric([state.value], totals.volumes.get(state, 0))
        sizes.add_metric([state.value], totals.bytes.get(state, 0))
    yield volumes
    yield sizes
    if totals.backup_age is not None:
        yield GaugeMetricFamily(
            "jupyter_volumes_newest_backup_age_seconds",
            "Time since the newest backup was made",
            value=totals.backup_age,
        )
    yield GaugeMetricFamily(
        "jupyter_volumes_waiting_for_backup_seconds",
        "Time since the stop of the volume that has longest had no current backup; 0 if all have one",
        value=totals.waiting_for_backup or 0.0,
    )


@dataclass(frozen=True)
class Totals:
    """Figures about the whole pool at one moment.

    Parameters
    ----------
    volumes, bytes
        How many volumes, and how many bytes of files as last measured, by state.
    backup_age
        Seconds since the newest backup was made; None if there is none.
    waiting_for_backup
        Seconds since the stop of the volume that has longest had no current backup; None if all have one.
    """

    volumes: dict[State, int] = field(default_factory=dict)
    bytes: dict[State, int] = field(default_factory=dict)
    backup_age: float | None = None
    waiting_for_backup: float | None = None


def totals_of(pool: Pool) -> Totals:
    """Return the totals of a pool; blocks."""
    now = pool.clock()
    volumes: Counter[State] = Counter()
    sizes: Counter[State] = Counter()
    waiting: list[datetime] = []
    for record in pool.volumes():
        volumes[record.state] += 1
        sizes[record.state] += record.bytes or 0
        if record.state is State.STOPPED and not record.is_backed_up and record.stopped:
            waiting.append(record.stopped)
    newest = max((backup.created for backup in pool.backups.list()), default=None)
    return Totals(
        dict(volumes),
        dict(sizes),
        None if newest is None else (now - newest).total_seconds(),
        (now - min(waiting)).total_seconds() if waiting else None,
    )


class Cached(Generic[T]):
    """Returns the last value at once, and renews it in the background when it is old.

    Parameters
    ----------
    measure
        Returns a new value; may block.
    value
        Returned until there is a new one.
    max_age
        Seconds after which a value is old.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        measure: Callable[[], T],
        value: T,
        max_age: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._measure = measure
        self._value = value
        self._max_age = max_age
        self._clock = clock
        self._measured: float | None = None
        self._renewing = threading.Lock()

    def get(self) -> T:
        """Return the last value; never blocks."""
        is_old = self._measured is None or self._clock() - self._measured >= self._max_age
        if is_old and self._renewing.acquire(blocking=False):
            try:
                threading.Thread(target=self._renew, name="volumes-metrics", daemon=True).start()
            except RuntimeError:  # no free thread now
                self._renewing.release()
        return self._value

    def _renew(self) -> None:
        try:
            self._value = self._measure()
        except (VolumeError, OSError) as error:
            log.warning("The metrics of volumes are not renewed: %s", error)
        finally:
            self._measured = self._clock()
            self._renewing.release()
