"""The commands `warm` and `hydrate`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from provisioner.hydration.environment import Environment
from provisioner.hydration.runner import Hydrated, StepReport
from provisioner.hydration.step import Launch
from provisioner.hydration.steps.python.owners import Owner
from provisioner.pool.pool import Pool
from provisioner.settings.pool import load_settings
from tests.support.commands import Cli, make_volume


def _spares(kernelspec: str | None = None) -> int:
    return len(Pool(load_settings()).catalog.spares(kernelspec))


def test_spares_are_made_and_retired_as_asked_under_the_name_that_kernels_have(cli: Cli) -> None:
    assert "python3-volume: 2 made, 2 ready" in cli("warm", "Python3-Volume", "-n", "2").out
    assert _spares("python3-volume") == 2
    assert "0 made, 0 ready" in cli("warm", "python3-volume", "-n", "0").out
    assert _spares() == 0


@pytest.mark.parametrize(
    ("command", "flag"), [(("warm",), ""), (("hydrate", "--kernel"), "--kernel ")]
)
def test_a_kernelspec_without_volumes_is_refused(
    cli: Cli, command: tuple[str, ...], flag: str
) -> None:
    unknown = cli(*command, "nope").refusal
    without_volume = cli(*command, "python3").refusal

    same = f"`{flag}python3-volume` starts the same kernel"
    assert "There is no kernelspec 'nope'; use one of python3, python3-volume." in unknown
    assert f"'python3' gives no volume; {same}" in without_volume
    assert _spares() == 0


def test_a_wrong_count_retires_no_spare(cli: Cli) -> None:
    cli("warm", "python3-volume")

    for count in ("-5", "-1", "x", "1.5", "٣", "9" * 5000):
        called = cli("warm", "python3-volume", "-n", count)
        assert called.code == 2
        assert "must be a whole number from 0" in called.err
    assert _spares() == 1


def test_spares_of_a_kernelspec_that_was_removed_can_be_retired_but_not_made(
    cli: Cli, kernels: Path
) -> None:
    cli("kernelspec", "add", "mine", "--from", "python3")
    cli("warm", "mine")
    shutil.rmtree(kernels / "mine")

    assert "There is no kernelspec 'mine'" in cli("warm", "mine").refusal
    assert cli("warm", "mine", "-n", "0").code == 0
    assert _spares() == 0


def test_spares_that_do_not_fit_into_the_pool_are_reported_with_the_cure(
    cli: Cli, configuration: Path
) -> None:
    configuration.mkdir(parents=True, exist_ok=True)
    settings = {"VolumePool": {"max_volumes": 2}}
    (configuration / "jupyter_volumes_config.json").write_text(json.dumps(settings))
    make_volume("a")

    said = cli("warm", "python3-volume", "-n", "3").refusal

    assert "All 2 slots of the pool are taken. 1 of 3 spares of 'python3-volume' are ready" in said
    assert "VolumePool.max_volumes" in said
    assert _spares() == 1
    assert Pool(load_settings()).root.registry.names.find("a") is not None, (
        "no volume makes way for a spare"
    )


def test_hydrate_reports_that_a_kernelspec_has_no_volumes_yet(cli: Cli) -> None:
    unused = cli("hydrate", "--kernel", "python3-volume")

    assert unused.code == 0
    assert unused.out == "No volume of python3-volume has files on disk.\n"


@pytest.mark.parametrize("name", ["python3-volume", "Python3-Volume"])
def test_hydrate_hydrates_all_volumes_of_a_kernelspec_but_no_spare(cli: Cli, name: str) -> None:
    for session in ("a", "b"):
        make_volume(session)
    cli("warm", "python3-volume")

    called = cli("hydrate", "--kernel", name)

    assert called.code == 0
    for session in ("a", "b"):
        assert f"{session}: overlay hydrated\n" in called.out
    assert "spare" not in called.out
    assert [spare.generation for spare in Pool(load_settings()).catalog.spares()] == [0]


def test_a_volume_in_use_does_not_keep_others_from_being_hydrated(cli: Cli) -> None:
    make_volume("a")
    make_volume("b")
    other = Pool(load_settings())
    held = other.acquire("a", "python3-volume", kernel="k")

    called = cli("hydrate", "--kernel", "python3-volume")
    other.release(held)

    assert "'a' is in use by kernel k" in called.refusal
    assert "b: overlay hydrated\n" in called.out


def test_a_spare_is_not_hydrated_by_hand(cli: Cli) -> None:
    cli("warm", "python3-volume")
    (spare,) = Pool(load_settings()).catalog.spares()

    said = cli("hydrate", spare.session).refusal

    assert "`jupyter volumes warm python3-volume` renews" in said
    assert [spare.generation for spare in Pool(load_settings()).catalog.spares()] == [0]


def test_an_environment_that_was_not_renewed_is_no_success(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `stale = "warn"`, kernels start in it; but `hydrate` was called to renew it."""
    make_volume("a")
    warning = "uv sync ended with exit code 1; the earlier environment is used"
    stale = StepReport("uv", hit=False, changed=("uv.lock",), warning=warning)

    def hydrate(environment: Environment, launch: Launch, **_: object) -> Hydrated:
        return Hydrated(launch, (stale,))

    monkeypatch.setattr(Environment, "hydrate", hydrate)

    called = cli("hydrate", "a")

    assert "hydrated" not in called.out
    assert f"a: uv: {warning}\n" in called.refusal


def test_what_is_up_to_date_is_hydrated_again_only_by_force(cli: Cli) -> None:
    make_volume("a")
    said = [cli("hydrate", "a", *more).out.splitlines()[-1] for more in ((), (), ("--force",))]
    assert said == ["a: overlay hydrated", "a: overlay was up to date", "a: overlay hydrated"]


def test_the_name_of_a_kernelspec_is_case_insensitive(cli: Cli) -> None:
    pool = Pool(load_settings())
    for name in ("Python3-Volume", "python3-volume"):
        acquired = pool.acquire("a", name, kernel="earlier")
        pool.release(acquired)
        assert cli("hydrate", "a").code == 0
    claim = Owner.read(acquired.path / ".volume" / "env")
    assert claim is not None
    assert claim.kernelspecs == ("python3-volume",)


def test_hydration_by_hand_is_named_as_the_holder(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_volume("a")
    seen: list[str] = []

    def look(environment: Environment, launch: Launch, **_: object) -> Hydrated:
        seen.append(str(Pool(load_settings()).holder(environment.record)))
        return Hydrated(launch, ())

    monkeypatch.setattr(Environment, "hydrate", look)

    assert cli("hydrate", "a").code == 0
    assert seen[0].startswith(f"hydration by hand of process {os.getpid()} on ")
