"""Steps of other packages that violate the protocol."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import pytest

from provisioner.core.errors import Cancelled, ConfigError, HydrationFailed
from provisioner.hydration.plan import plan
from provisioner.hydration.step import Lasting, Launch, Lenient, Place, Step
from provisioner.settings.options import KernelOptions
from tests.support.starts import Reported, run

pytestmark = pytest.mark.usefixtures("example_package")


def odd(place: Place, code: str) -> list[Step]:
    """Return the plan of a kernelspec with one step, which the code has changed."""
    options = KernelOptions().having(overlay=False, further={"example_odd": code})
    return plan(options, place.state)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("step.key = lambda *_: 1 / 0", "ZeroDivisionError"),
        ("step.key = lambda *_: None", "None is no text"),
        ("step.key = 'no function'", "TypeError"),
        ("step.inputs = lambda *_: [1]", "TypeError"),
        ("step.hydrate = lambda *_: open('/nonexistent')", "FileNotFoundError"),
        ("step.hydrate = lambda *_: exit(3)", "SystemExit"),
        ("step.environment = lambda *_: None", "no launch"),
        ("step.environment = lambda *_: Launch((), {})", "no launch with a command line"),
        ("step.environment = lambda *_: Launch(('python',), {'N': None})", "None is no text"),
    ],
)
def test_a_step_that_breaks_fails_the_start_in_one_line_that_names_its_option(
    place: Place, launch: Launch, code: str, words: str
) -> None:
    for _ in range(2):  # nothing is left that would pass for done
        with pytest.raises(
            HydrationFailed, match=f"'example_odd' failed with .*{words}"
        ) as refusal:
            run(odd(place, code), place, launch)
        assert "\n" not in str(refusal.value)


def test_a_step_whose_intact_fails_is_hydrated_again(place: Place, launch: Launch) -> None:
    steps = odd(place, "step.intact = lambda *_: 1 / 0")
    for _ in range(2):
        assert not run(steps, place, launch).report[0].hit


def test_a_failure_that_a_step_reports_itself_is_passed_on_unchanged(
    place: Place, launch: Launch
) -> None:
    failing = "from provisioner.core.errors import HydrationFailed as F\n"
    failing += "def hydrate(*_): raise F('the shop is closed: come back tomorrow', 'tail')\n"
    with pytest.raises(HydrationFailed, match="example-data: the shop is closed") as refusal:
        run(odd(place, f"{failing}step.hydrate = hydrate"), place, launch)
    assert refusal.value.tail == "tail"
    cancelled = (
        "from provisioner.core.errors import Cancelled as C\ndef hydrate(*_): raise C('enough')\n"
    )
    with pytest.raises(Cancelled):
        run(odd(place, f"{cancelled}step.hydrate = hydrate"), place, launch)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"example_odd": "del step.__class__.key"}, "no attribute 'key'"),
        ({"example_odd": "step.name = '../../evil'"}, "'../../evil', .* cannot name a file"),
        ({"example_odd": "step.name = None"}, "None is no text"),
        ({"example_odd": "1 / 0"}, "'example_odd' failed with ZeroDivisionError"),
        ({"example_gone": 1}, "'example_gone' failed with ModuleNotFoundError"),
        ({"example_odd": "pass", "example_data": "1"}, "two hydration steps have the name"),
        ({"example_odd": "step.name = 'overlay'"}, "two hydration steps have the name 'overlay'"),
    ],
)
def test_an_unusable_step_is_refused_before_hydration(
    place: Place, extra: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        plan(KernelOptions().having(further=extra), place.state)
    assert "\n" not in str(refusal.value)


def test_a_step_may_name_its_inputs_and_allow_a_stale_environment(
    place: Place, launch: Launch, tmp_path: Path
) -> None:
    what = tmp_path / "what"
    source = (
        "from pathlib import Path\n"
        f"read = Path({str(what)!r}).read_text\n"
        "step.inputs = lambda *_: {'what': read()}\n"
        "step.key = lambda *_: read()\n"
        "step.stale = 'warn'\n"
    )
    what.write_text("one")
    run(odd(place, source), place, launch)
    what.write_text("two")
    reported = Reported()
    hydrated = run(
        odd(place, f"{source}step.hydrate = lambda *_: 1 / 0"), place, launch, progress=reported
    )
    assert hydrated.report[0].changed == ("what",)
    assert "the earlier environment is used" in hydrated.report[0].warning
    assert isinstance(odd(place, source)[0], Lenient)


def test_a_step_with_the_attribute_lasts_is_recorded_for_each_kernelspec(
    place: Place, launch: Launch
) -> None:
    assert not isinstance(odd(place, "pass")[0], Lasting)
    steps = odd(place, "step.lasts = True")
    run(steps, place, launch)
    assert "example-data of " in json.loads(place.record("hydration").read_text())
    steps[0].hydrate(place, launch, Reported(), Event())
