"""How the package is built: thirteen rooms, each importing only from the rooms that the table permits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import provisioner
from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool

PACKAGE = Path(provisioner.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MOST_LINES = 350
MOST_LINES_OF_A_STORY = 200
MOST_MEMBERS = 25

_GROUND = {"settings", "core"}
_STOREYS = {"system", *_GROUND}
_BELOW_FACES = {"maintenance", "launch", "pool", "hydration", "backup", "registry", *_STOREYS}
PERMITTED: dict[str, set[str]] = {
    "core": set(),
    "settings": {"core"},
    "system": _GROUND,
    "registry": _STOREYS,
    "backup": _STOREYS,
    "hydration": _STOREYS,
    "pool": {"registry", "backup", *_STOREYS},
    "launch": {"hydration", *_STOREYS},
    "maintenance": {"pool", "hydration", *_STOREYS},
    "kernel": _BELOW_FACES,
    "server": _BELOW_FACES,
    "cli": _BELOW_FACES,
    "lab": set(),
}
"""The rooms, from the ground up, and the rooms that each may import from."""


def test_at_the_top_of_the_package_there_are_only_rooms() -> None:
    found = {
        path.name for path in PACKAGE.iterdir() if path.name not in {"__pycache__", "__init__.py"}
    }
    assert found == {*PERMITTED, "py.typed"}


def test_a_room_imports_only_from_the_rooms_that_the_table_permits() -> None:
    broken = [
        f"{module} imports {found}"
        for module in FILES
        for found in ours(module)
        if room_of(found) not in {*PERMITTED.get(room_of(module), set()), room_of(module), ""}
    ]
    assert broken == []


def test_no_two_modules_import_one_another() -> None:
    below = {module: {home_of(found) for found in ours(module)} - {module} for module in FILES}
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        pytest.fail(f"these import one another: {' -> '.join(error.args[1])}")


def test_no_private_name_is_taken_from_another_module() -> None:
    taken = [
        f"{module} takes {found}"
        for module in FILES
        for found in ours(module)
        if any(part.startswith("_") and not part.endswith("__") for part in found.split("."))
    ]
    assert taken == []


def test_imports_are_absolute_and_the_core_uses_no_clock_disk_or_log() -> None:
    used = {
        found.partition(".")[0]
        for module in FILES
        if room_of(module) == "core"
        for found in imports(module)
    }
    assert not used & {"io", "logging", "os", "pathlib", "shutil", "sqlite3", "subprocess", "time"}


@pytest.mark.parametrize("room", [room for room in PERMITTED if room != "lab"])
def test_each_room_says_what_it_is_for_and_what_it_may_import(room: str) -> None:
    said = ast.get_docstring(ast.parse(FILES[f"provisioner.{room}"].read_text(encoding="utf-8")))
    assert said is not None
    assert "May import: " in said


def test_the_faces_and_the_maintenance_ask_the_pool_and_never_the_table() -> None:
    reached = [
        f"{module}:{node.lineno}"
        for module in FILES
        if room_of(module) in {"kernel", "server", "cli", "launch", "maintenance"}
        for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "registry"
    ]
    assert reached == []


def test_the_pool_keeps_few_verbs() -> None:
    pool = Pool(VolumePool())
    assert len([name for name in dir(pool) if not name.startswith("_")]) <= MOST_MEMBERS


def test_no_file_is_too_long_to_be_about_one_thing() -> None:
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    assert lines["provisioner.kernel.provisioner"] <= MOST_LINES_OF_A_STORY


def ours(module: str) -> list[str]:
    """Return the full names of what a module imports from this package."""
    return [found for found in imports(module) if found.startswith("provisioner.")]


def home_of(name: str) -> str:
    """Return the module that a name is imported from."""
    return name if name in FILES else name.rpartition(".")[0]


def room_of(name: str) -> str:
    """Return the room that a module or a name lies in; empty for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in PERMITTED else ""


def imports(module: str) -> Iterator[str]:
    """Yield the full names of what a module imports, wherever in it; of `from x import y` that is x.y."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
