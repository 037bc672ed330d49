"""Events over the websocket and metrics of a server, and its own sweeps."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from jupyter_events import EventLogger
from prometheus_client import CollectorRegistry

from provisioner.core.event import Event, Kind
from provisioner.pool.pool import Pool
from provisioner.server.telemetry import events
from provisioner.server.telemetry.metrics import Metrics
from tests.support.listening import listening
from tests.support.serving import Place, Server, eventually, served

NOW = datetime(2024, 5, 1, tzinfo=timezone.utc)


def of(action: str, schema: str = events.VOLUME) -> Callable[[dict[str, Any]], bool]:
    return lambda event: (event["schema_id"], event.get("action")) == (schema, action)


def test_each_step_in_the_life_of_a_volume_emits_its_event(place: Place) -> None:
    place.configure(backup_after="1s", sweep_interval="2s", prune_after="2s")
    place.notebook("a.ipynb")
    with served(place) as server, listening(server) as listener:
        session = server.start("a.ipynb")
        acquired = listener.hear(of("acquired"))
        assert acquired["session"] == place.session("a.ipynb")
        assert acquired["kernel_id"] == session["kernel"]["id"]
        server.run(session["kernel"]["id"], "open('data', 'w').write('x')")
        server.end(session)
        assert listener.hear(of("released"))["volume"] == acquired["volume"]
        # From here on the server's own sweeps act.
        assert listener.hear(of("backed-up"), 40)["volume"] == acquired["volume"]
        listener.hear(of("pruned"), 40)
        assert server.ask("PATCH", "/api/contents/a.ipynb", {"path": "b.ipynb"}).ok
        assert listener.hear(of("relabelled"))["session"] == place.session("b.ipynb")
        again = server.start("b.ipynb")
        assert listener.hear(of("restored"))["volume"] == acquired["volume"]
        assert server.run(again["kernel"]["id"], "print(open('data').read())") == "x\n"
        assert "must-stay-out" not in json.dumps(listener.heard)
        _metrics_agree(server)


def _metrics_agree(server: Server) -> None:
    def current() -> dict[str, float] | None:
        found = server.metrics()
        return found if found.get('jupyter_volumes_volumes{state="active"}') == 1 else None

    metrics = eventually(current, 40, "the totals are renewed")
    assert metrics["jupyter_volumes_backups_total"] >= 1
    assert metrics["jupyter_volumes_sweep_seconds_count"] >= 1
    assert metrics["jupyter_volumes_lease_wait_seconds_count"] == 2
    assert metrics["jupyter_volumes_newest_backup_age_seconds"] > 0
    assert metrics["jupyter_volumes_culls_total"] == 0


def test_a_hydration_emits_its_progress_and_a_failure_its_reason(server: Server) -> None:
    place = server.place
    slow = place.kernelspec("hydrates", bootstrap_command=["sleep", "1"])
    fails = place.kernelspec("cannot", bootstrap_command=["sh", "-c", "echo no wheel >&2; exit 3"])
    hydrations = "jupyter_volumes_hydration_seconds_count"
    before = server.metrics()[hydrations]
    with listening(server) as listener:
        kernel = server.start("hydrates.ipynb", kernel=slow)["kernel"]["id"]
        progress = listener.hear(of("progress", events.HYDRATION))
        assert progress["kernel_id"] == kernel
        done = listener.hear(of("done", events.HYDRATION))
        assert (done["kernel_id"], done["fraction"]) == (kernel, 1.0)
        assert done["seconds"] >= 1
        kernel = server.begin("cannot.ipynb", kernel=fails).json()["kernel"]["id"]
        failed = listener.hear(of("failed", events.HYDRATION))
        assert failed["kernel_id"] == kernel
        assert "no wheel" in failed["message"]
        assert server.metrics()[hydrations] == before + 1


def test_a_refusal_emits_an_event_and_is_counted(place: Place) -> None:
    place.configure(max_volumes=1)
    with served(place) as server, listening(server) as listener:
        server.start("first.ipynb")
        server.begin("second.ipynb")
        refused = listener.hear(of("refused"))
        assert (refused["code"], refused["volume"]) == ("pool-full", "")
        assert "\n" not in refused["message"]
        assert server.metrics()['jupyter_volumes_refusals_total{code="pool-full"}'] == 1


def test_servers_of_one_root_sweep_one_at_a_time_and_stop_at_once(place: Place) -> None:
    place.configure(sweep_interval="1s", backup_after="1s")
    with served(place) as first, served(place) as second:
        session = first.start("a.ipynb")
        first.run(session["kernel"]["id"], "open('data', 'w').write('x')")
        first.end(session)

        def backed_up() -> bool:
            volume = second.volume("a.ipynb")
            return volume is not None and volume["backup"] is not None

        eventually(backed_up, what="one of them backs it up")
        assert len(list(place.root.glob("backups/**/*.tar.zst"))) == 1
        assert first.stop() < 5
        assert "Traceback" not in first.log + second.log


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in events.NOT_EMITTED])
def test_every_event_of_the_pool_fits_its_schema_and_holds_no_other_detail(kind: Kind) -> None:
    logger = EventLogger()
    events.register_schemas(logger)
    details = {
        "env": {"TOKEN": "secret"},
        "TOKEN": "secret",
        "message": "m" * 10_000,
        "fraction": 0.5,
        "step": "uv",
        "done": 1,
        "total": 2,
        "bytes": 3,
        "size": 4,
        "code": "held",
        "backup": "b",
        "new": True,
        "seconds": 1.5,
    }
    event = Event(kind, NOW, "s", "v", "k", details)
    is_start = kind.value.startswith(("hydrat", "restore-"))
    for schema, data in (
        (events.HYDRATION, events.hydration_data(event)),
        (events.VOLUME, events.volume_data(event)),
    ):
        if (schema == events.HYDRATION) == (is_start or kind is Kind.FAILED):
            logger.schemas.validate_event(schema, data)
            assert "secret" not in json.dumps(data)
            assert len(json.dumps(data)) < 3000


def test_reading_metrics_never_waits_for_the_table_nor_for_a_free_thread(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = threading.Event()
    read = pool.volumes
    monkeypatch.setattr(pool, "volumes", lambda: measured.wait(20) and read())
    metrics = Metrics(pool, CollectorRegistry())

    def gauges() -> list[str]:
        return [family.name for family in metrics.collect() if family.type == "gauge"]

    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", none_free)
        assert gauges() == []
    began = time.monotonic()
    assert [gauges() for _ in range(100)] == [[]] * 100
    assert time.monotonic() - began < 5
    measured.set()
    eventually(lambda: "jupyter_volumes_volumes" in gauges())
    metrics.close()


def none_free(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
