"""The inputs of a declaration of requirements."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.uv.declaration import Project, Requirements
from provisioner.hydration.steps.uv.step import UvEnvironment
from tests.support.starts import run
from tests.support.wheels import make_wheel, offline


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
def test_a_package_on_this_machine_is_tracked_by_the_files_that_determine_it(
    tmp_path: Path, line: str, decides: list[str]
) -> None:
    (tmp_path / "lab").mkdir()
    file = tmp_path / "needs.txt"
    file.write_text(line.format(here=tmp_path) + "\n")
    inputs = Requirements(file=str(file)).inputs(tmp_path).keys() - {"requirements", str(file)}
    assert sorted(inputs) == [str(tmp_path / name) for name in decides]


def test_a_wheel_on_this_machine_that_was_built_again_is_a_changed_input(tmp_path: Path) -> None:
    wheel = tmp_path / "lab.whl"
    declared = Requirements((f"lab @ {wheel.as_uri()}",))
    seen = [declared.inputs(tmp_path)]
    for content in ("one", "longer"):
        wheel.write_text(content)
        seen.append(declared.inputs(tmp_path))
    assert len({inputs[str(wheel)] for inputs in seen}) == 3


def test_a_member_of_a_workspace_has_the_versions_of_the_workspaces_lock(
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
    whole = f'{links}[tool.uv.workspace]\nmembers = ["m*"]\n'
    (workspace / "pyproject.toml").write_text(whole)
    script = offline(launch, tmp_path / "shop")
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
        "whose lock is out of date is reported, and it stays as it is"
    )
    member.write_text(f'{declared}dependencies = ["apple"]\n')
    more = workspace / "more" / "pyproject.toml"
    more.parent.mkdir()
    more.write_text(f'{declared.replace("member", "more")}dependencies = ["apple"]\n')
    before = lock.read_text()
    with pytest.raises(HydrationFailed, match="uv sync"):
        run([UvEnvironment(Project(str(more.parent)), tmp_path / "cache")], place, script)
    assert lock.read_text() == before, "a start adds no new member to it"


def test_a_project_excluded_from_the_workspace_has_its_own_lock(
    launch: Launch, place: Place, tmp_path: Path
) -> None:
    project = tmp_path / "workspace" / "alone"
    (project.parent / "other").mkdir(parents=True)
    project.mkdir()
    make_wheel(tmp_path / "shop", "apple", "1.0")
    make_wheel(tmp_path / "shop", "pip", "1.0")
    declared = '[project]\nname = "{}"\nversion = "1"\nrequires-python = ">=3.10"\n'
    (project / "pyproject.toml").write_text(declared.format("alone") + 'dependencies = ["apple"]\n')
    (project.parent / "other" / "pyproject.toml").write_text(declared.format("other"))
    whole = '[tool.uv.workspace]\nmembers = ["*"]\nexclude = ["alone"]\n'
    (project.parent / "pyproject.toml").write_text(whole)
    (project.parent / "uv.lock").write_text('source = { virtual = "other" }\n')
    script = offline(launch, tmp_path / "shop")
    steps = [UvEnvironment(Project(str(project)), tmp_path / "cache")]
    assert not run(steps, place, script).report[0].hit
    assert run(steps, place, script).report[0].hit


def sha256(wheel: Path) -> str:
    return f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def versions(launch: Launch) -> dict[str, str]:
    """Return the version of each package in a launch."""
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
    )
    said = subprocess.run([launch.argv[0], "-c", code], check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, str] = json.loads(said)
    return found


def test_a_package_installed_without_a_hash_is_replaced_where_a_hash_is_declared(
    launch: Launch, place: Place, tmp_path: Path
) -> None:
    """Another kernelspec or the user installed it from another source; the new environment starts as a copy."""
    honest = make_wheel(tmp_path / "honest", "plum", "1.0")
    with zipfile.ZipFile(make_wheel(tmp_path / "forged", "plum", "1.0"), "a") as forged:
        forged.writestr("evil.py", "")
    for shop in ("honest", "forged"):
        make_wheel(tmp_path / shop, "pip", "1.0")

    loose = UvEnvironment(Requirements(("plum==1.0",)), tmp_path / "one")
    run([loose], replace(place, kernelspec="loose"), offline(launch, tmp_path / "forged", "plum"))
    needs = tmp_path / "needs.txt"
    needs.write_text(f"--require-hashes\nplum==1.0 --hash={sha256(honest)}\n")
    strict = UvEnvironment(Requirements(file=str(needs)), tmp_path / "two")
    verified = offline(launch, tmp_path / "honest", "plum")
    got = run([strict], replace(place, kernelspec="strict"), verified).launch
    ran = subprocess.run(
        [got.argv[0], "-c", "import plum, evil"], stderr=subprocess.PIPE, text=True
    )
    assert "No module named 'evil'" in ran.stderr


def test_the_kernels_own_packages_replace_no_package_that_has_a_hash(
    launch: Launch, place: Place, tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    wheel = make_wheel(shop, "apple", "1.0")
    make_wheel(shop, "apple", "0.5")
    make_wheel(shop, "pip", "1.0")
    make_wheel(shop, "pip", "2.0", requires=["apple<1"])
    needs = tmp_path / "needs.txt"
    needs.write_text(
        f"--require-hashes\napple==1.0 ; python_version > '3' --hash={sha256(wheel)}\n"
    )
    steps = [UvEnvironment(Requirements(file=str(needs)), tmp_path / "cache")]
    assert versions(run(steps, place, offline(launch, shop)).launch) == {
        "apple": "1.0",
        "pip": "1.0",
    }
