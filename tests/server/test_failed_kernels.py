"""Kernels that fail to start: the reason is shown, and their volumes are free again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.serving import Place, Server, eventually, served

FAILING: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a session that is no name": ({}, {"volume": {"session": 5}}, "give a string or remove it"),
    "an option that is none": ({"nonsense": 3}, {}, "config.nonsense is not an option"),
    "a launcher that is not there": ({"launcher": "no-such"}, {}, "'no-such'"),
}
"""Wrong options of a kernelspec or wrong metadata of a notebook, and the reason shown."""


@pytest.mark.parametrize(("options", "metadata", "reason"), FAILING.values(), ids=FAILING)
def test_a_kernel_that_is_refused_is_shown_as_dead_with_the_reason(
    server: Server,
    request: pytest.FixtureRequest,
    options: dict[str, Any],
    metadata: dict[str, Any],
    reason: str,
) -> None:
    name = request.node.callspec.id.replace(" ", "-")
    server.place.notebook(f"{name}.ipynb", metadata)
    kernelspec = server.place.kernelspec(name, **options)
    assert reason in _reason(server, f"{name}.ipynb", kernelspec)


@pytest.mark.parametrize("launched_by", ["volume-provisioner", "local-provisioner"])
def test_a_kernel_whose_program_is_missing_is_shown_as_dead_with_or_without_a_volume(
    server: Server, launched_by: str
) -> None:
    kernelspec = _kernelspec(server.place, f"{launched_by}-none", ["/no/such/program"], launched_by)
    assert "/no/such/program" in _reason(server, f"{launched_by}.ipynb", kernelspec)


def test_the_volume_of_a_kernel_that_dies_at_every_start_is_released(place: Place) -> None:
    dies = _kernelspec(place, "dies", ["/bin/sh", "-c", "exit 3"])
    soon = ("--KernelRestarter.time_to_dead=0.2", "--KernelRestarter.restart_limit=1")
    with served(place, *soon) as server:
        kernel = server.begin("a.ipynb", kernel=dies).json()["kernel"]["id"]
        eventually(lambda: f"{kernel} died, removing" in server.log, 60, "the server gives it up")

        def free() -> bool:
            volume = server.volume("a.ipynb")
            return volume is not None and (volume["state"], volume["kernels"]) == ("stopped", [])

        eventually(free, 60, "its volume is released")


def _reason(server: Server, notebook: str, kernelspec: str) -> str:
    kernel = server.begin(notebook, kernel=kernelspec).json()["kernel"]["id"]

    def dead() -> dict[str, Any] | None:
        model: dict[str, Any] = server.get(f"/api/kernels/{kernel}").json()
        return model if model["execution_state"] == "dead" else None

    return str(eventually(dead, 60, "the kernel is shown as dead")["reason"])


def _kernelspec(
    place: Place, name: str, argv: list[str], provisioner: str = "volume-provisioner"
) -> str:
    """Write a kernelspec with another command line."""
    path = place.home / "data" / "kernels" / place.kernelspec(name) / "kernel.json"
    spec = json.loads(path.read_text())
    spec["argv"] = [*argv, "{connection_file}"]
    spec["metadata"]["kernel_provisioner"] = {"provisioner_name": provisioner}
    path.write_text(json.dumps(spec))
    return name
