"""The documentation: its commands can be typed, its links lead somewhere, and its reference is complete."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest
from generated import MARKER, fill_in

from provisioner.cli.app import COMMANDS
from provisioner.settings.options import KernelOptions
from provisioner.settings.pool import VolumePool
from tests.test_rooms import PERMITTED

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md")])
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES if "_build" not in path.parts}

BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!`)\]\((?!https?:|#)([^)#\s]+)")
SETTING = re.compile(r"\bc\.(VolumePool|VolumeProvisioner)\.(\w+)")


def command_lines() -> list[str]:
    """Return every `jupyter volumes …` that a page shows in a block, without comments and prompts."""
    lines = "\n".join(block for text in TEXTS.values() for block in BLOCK.findall(text)).split("\n")
    found = {line.partition("jupyter volumes ")[2].partition("#")[0] for line in lines}
    return sorted(re.split(r'&&|"\)|\)"', line)[0].strip() for line in found if line)


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_that_the_documentation_shows_is_accepted(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = next(command for command in COMMANDS if command.name == name)
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.load().add_arguments(parser)
    parser.parse_args([word for word in arguments if not word.startswith("--VolumePool.")])


def test_a_setting_that_the_documentation_shows_exists() -> None:
    known = {"VolumePool": VolumePool, "VolumeProvisioner": KernelOptions}
    shown = {found for text in TEXTS.values() for found in SETTING.findall(text)} - {
        ("VolumeProvisioner", "NAME")
    }
    assert {name for section, name in shown if name not in known[section].class_trait_names()} == (
        set()
    )


def test_the_reference_has_every_setting_once_and_every_command() -> None:
    reference = "".join(fill_in(text) for text in TEXTS.values() if MARKER.search(text))
    settings = re.findall(r"^:::\{confval\} (\S+)$", reference, re.MULTILINE)
    assert sorted(settings) == sorted(
        [f"VolumePool.{name}" for name in VolumePool.class_trait_names(config=True)]
        + KernelOptions.class_trait_names(config=True)
    )
    assert {command.name for command in COMMANDS} <= set(
        re.findall(r"^## (\w+)$", reference, re.MULTILINE)
    )


def test_the_metrics_of_the_server_are_all_described() -> None:
    source = CHECKOUT / "provisioner" / "server" / "telemetry" / "metrics.py"
    names = re.findall(r'"(jupyter_volumes_\w+)"', source.read_text(encoding="utf-8"))
    page = TEXTS[DOCS / "reference" / "metrics.md"]
    assert names
    assert [name for name in names if name not in page] == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_a_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = LINK.findall(TEXTS[page])
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("notebook", sorted(CHECKOUT.glob("notebooks/*.ipynb")), ids=str)
def test_a_notebook_links_to_pages_that_exist(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    targets = LINK.findall("\n".join("".join(cell["source"]) for cell in cells))
    assert [target for target in targets if not (notebook.parent / target).exists()] == []


@pytest.mark.parametrize("place", ["README.md", "docs/diagrams/rooms.svg"])
def test_the_readme_and_the_drawing_name_every_room(place: str) -> None:
    text = (CHECKOUT / place).read_text(encoding="utf-8")
    assert [room for room in PERMITTED if not re.search(rf"[`>]{room}[`<]", text)] == []


def test_every_benchmark_is_described() -> None:
    text = TEXTS[DOCS / "benchmarks.md"]
    shown = set(re.findall(r"^\| `(\w+)\.py`", text, re.MULTILINE))
    assert all((CHECKOUT / "benchmarks" / f"{name}.py").is_file() for name in shown)
