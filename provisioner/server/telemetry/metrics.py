"""The metrics of volumes in `/metrics`: counters follow the pool's events, gauges are measured in the background."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

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
from provisioner.system.work import Work

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 30, 60, 120, 300, 600)

_MAX_AGE = 15.0
"""Seconds after which a request has the gauges measured anew."""


class Metrics(Collector):
    """The metrics of one pool, registered while the server runs; its `/metrics` shows the default registry."""

    def __init__(self, pool: Pool, registry: CollectorRegistry = REGISTRY) -> None:
        self._pool = pool
        self._registry = registry
        self._gauges: list[Metric] = []
        self._measured = float("-inf")
        self._measuring: Work[None] | None = None
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
        """Called on the event loop for each request of `/metrics`; never blocks: the gauges are the last measured."""
        is_free = self._measuring is None or self._measuring.is_over
        if is_free and time.monotonic() - self._measured >= _MAX_AGE:
            with contextlib.suppress(RuntimeError):  # no free thread now
                self._measuring = Work(self._measure)
        yield from self._own.collect()
        yield from self._gauges

    def _measure(self, cancel: threading.Event) -> None:
        try:
            self._gauges = gauges_of(self._pool)
        except (VolumeError, OSError) as error:
            log.warning("The metrics of volumes are not renewed: %s", error)
        except Exception:
            log.exception("The metrics of volumes are not renewed")
        finally:
            self._measured = time.monotonic()

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


def gauges_of(pool: Pool) -> list[Metric]:
    """Return the gauges of a pool; blocks."""
    now, records = pool.clock(), pool.volumes()
    volumes = GaugeMetricFamily(
        "jupyter_volumes_volumes", "Volumes under the root", labels=["state"]
    )
    sizes = GaugeMetricFamily(
        "jupyter_volumes_bytes", "Bytes of the volumes' files, as last measured", labels=["state"]
    )
    for state in State:
        found = [record.bytes or 0 for record in records if record.state is state]
        volumes.add_metric([state.value], len(found))
        sizes.add_metric([state.value], sum(found))
    stopped = [r.stopped for r in records if r.state is State.STOPPED and not r.is_backed_up]
    longest = now - min(filter(None, stopped), default=now)
    waiting = GaugeMetricFamily(
        "jupyter_volumes_waiting_for_backup_seconds",
        "Time since the stop of the volume that has longest had no current backup; 0 if all have one",
        value=longest.total_seconds(),
    )
    made = [backup.created for backup in pool.backups.list()]
    if not made:
        return [volumes, sizes, waiting]
    age = GaugeMetricFamily(
        "jupyter_volumes_newest_backup_age_seconds",
        "Time since the newest backup was made",
        value=(now - max(made)).total_seconds(),
    )
    return [volumes, sizes, waiting, age]
