"""How the package is built: rooms, each a file or a folder of it, that import from below only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import provisioner

PACKAGE = Path(provisioner.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FACES = {"kernel", "server", "cli"}
MOST_LINES = 500


def test_a_room_imports_only_from_rooms_below_it() -> None:
    # Where two import each other there is no such order, and the error names them.
    order = list(TopologicalSorter(rooms_below()).static_order())
    assert order.index("session") < order.index("pool") < order.index("kernel")


def test_the_faces_never_import_one_another() -> None:
    below = rooms_below()
    assert [face for face in FACES if below[face] & FACES] == []


@pytest.mark.parametrize("room", ["session", "policy"])
def test_what_decides_has_neither_clock_nor_disk_nor_log(room: str) -> None:
    below, reached, met = rooms_below(), set[str](), {room}
    while met:
        reached |= met
        met = {found for one in met for found in below.get(one, ())} - reached
    files = [name for name in FILES if room_of(name) in reached]
    used = {found.partition(".")[0] for name in files for found in imports(name)}
    assert not used & {"io", "logging", "os", "pathlib", "shutil", "sqlite3", "subprocess", "time"}


def test_no_file_is_too_long_to_be_about_one_thing() -> None:
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def rooms_below() -> dict[str, set[str]]:
    """Return for each room those that it imports from, wherever in a file it does."""
    below: dict[str, set[str]] = {}
    for name in FILES:
        room = room_of(name)
        used = {room_of(found) for found in imports(name) if found.startswith("provisioner.")}
        below.setdefault(room, set()).update(used - {room})
    return below


def room_of(module: str) -> str:
    """Return the room that a module lies in: what follows the package's name."""
    return module.split(".")[1]


def imports(module: str) -> Iterator[str]:
    """Yield the full names of what a module imports; of `from x import y` that is x.y."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
