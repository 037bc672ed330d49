"""What a declaration of requirements depends on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from provisioner.errors import HydrationFailed
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.uv import Project, Requirements, UvEnvironment
from tests.hydration.starts import run
from tests.hydration.wheels import make_wheel


@pytest.mark.parametrize(
    ("line", "decides"),
    [
        ("-e lab", ["lab/pyproject.toml", "lab/setup.cfg", "lab/setup.py"]),
        ("--editable=./lab[more]", ["lab/pyproject.toml", "lab/setup.cfg", "lab/setup.py"]),
        ("lab @ {here}/lab", ["lab/pyproject.toml", "lab/setup.cfg", "lab/setup.py"]),
        ("./a%20b.whl --hash=sha256:1", ["a b.whl"]),
        ("lab[one, two]@file://{here}/a.whl ; os_name == 'posix'", ["a.whl"]),
        ("lab", []),
        ("lab>=2 ; sys_platform == 'a/b'", []),
        ("-e git+https://127.0.0.1/lab", []),
        ("lab @ https://127.0.0.1/lab.whl", []),
        ("--find-links ./shop", []),
        ("# see ./notes", []),
        ("", []),
    ],
)
def test_what_decides_about_a_package_on_this_machine(
    tmp_path: Path, line: str, decides: list[str]
) -> None:
    (tmp_path / "lab").mkdir()
    file = tmp_path / "needs.txt"
    file.write_text(line.format(here=tmp_path) + "\n")
    inputs = Requirements(file=str(file)).inputs(tmp_path).keys() - {"requirements", str(file)}
    assert sorted(inputs) == [str(tmp_path / name) for name in decides]


def test_a_wheel_on_this_machine_that_was_made_anew_is_noticed(tmp_path: Path) -> None:
    wheel = tmp_path / "lab.whl"
    declared = Requirements((f"lab @ {wheel.as_uri()}",))
    seen = [declared.inputs(tmp_path)]
    for content in ("one", "longer"):
        wheel.write_text(content)
        seen.append(declared.inputs(tmp_path))
    assert len({inputs[str(wheel)] for inputs in seen}) == 3


def test_a_member_of_a_workspace_has_what_the_lock_of_the_workspace_says(
    launch: Launch, place: Place, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    for name in ("apple", "plum", "pip"):
        make_wheel(tmp_path / "shop", name, "1.0")
    declared = '[project]\nname = "member"\nversion = "1"\nrequires-python = ">=3.10"\n'
    member = workspace / "member" / "pyproject.toml"
    member.parent.mkdir(parents=True)
    member.write_text(f'{declared}dependencies = ["apple"]\n')
    links = f'[tool.uv]\nno-index = true\nfind-links = ["{tmp_path / "shop"}"]\n'
    whole = f'{links}[tool.uv.workspace]\nmembers = ["member"]\n'
    (workspace / "pyproject.toml").write_text(whole)
    env = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "shop"), "PATH": os.environ["PATH"]}
    script = Launch((sys.executable, "-m", "apple"), {**launch.env, **env})
    steps = [UvEnvironment(Project(str(member.parent)), tmp_path / "cache")]
    run(steps, place, script)
    lock = workspace / "uv.lock"
    assert run(steps, place, script).report[0].hit
    written = lock.read_text()
    lock.write_text(f"{written}\n# again\n")
    assert run(steps, place, script).report[0].changed == (str(lock),)
    member.write_text(f'{declared}dependencies = ["apple", "plum"]\n')
    with pytest.raises(HydrationFailed, match="uv sync"):
        run(steps, place, script)
    assert "plum" not in lock.read_text(), (
        "whose lock is out of date is told, and it stays as it is"
    )
