"""Every installer installs into the volume, and the server's environment stays unchanged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.overlaid import Server, Volume, site_packages
from tests.support.wheels import unpack

UV = shutil.which("uv") or str(Path(sys.executable).parent / "uv")


@pytest.fixture(autouse=True)
def _nothing_of_the_server_changes(untouched: None) -> None:
    """Every test of this file ends with the assertion of `untouched`."""


@pytest.fixture
def hydrated(volume: Volume) -> Iterator[Volume]:
    yield volume.hydrate()
    assert volume.intact()


def where(volume: Volume, module: str) -> str:
    found = volume.ask(f"{module}.__file__", module)
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize("pip", ["pip", "pip3", "python -m pip", f"pip3.{sys.version_info.minor}"])
def test_pip_by_each_of_its_names_installs_into_the_volume(hydrated: Volume, pip: str) -> None:
    hydrated.sh(f"{pip} install volumeside")
    assert where(hydrated, "volumeside") == str(hydrated.packages / "volumeside.py")


def test_no_variable_of_the_server_makes_pip_install_elsewhere(
    server: Server, tmp_path: Path
) -> None:
    aside = {name: str(tmp_path / name) for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")}
    variables = {**aside, "PIP_USER": "1", "PIP_PYTHON": server.python, "PYTHONHOME": "/nowhere"}
    volume = Volume(tmp_path / "volume", server.launch(variables)).hydrate()
    volume.sh("pip install volumeside")
    assert where(volume, "volumeside").startswith(str(volume.root))
    assert not any(Path(path).exists() for path in aside.values())


def test_a_pip_conf_that_asks_for_user_installs_does_not_make_pip_install_elsewhere(
    server: Server, tmp_path: Path
) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text("[install]\nuser = true\n")
    volume = Volume(tmp_path / "volume", server.launch({"PIP_CONFIG_FILE": str(settings)}))
    volume.hydrate().sh("pip install volumeside")
    assert where(volume, "volumeside").startswith(str(volume.root))


@pytest.mark.parametrize(
    ("wanted", "version"), [("-U serverside", "2.0"), ("serverside==0.9", "0.9")]
)
def test_another_version_hides_the_servers_version_until_it_is_uninstalled(
    hydrated: Volume, wanted: str, version: str
) -> None:
    assert "outside environment" in hydrated.sh(f"pip install {wanted}")
    seen = "[serverside.version, metadata.version('serverside')]"
    imports = ("serverside", "importlib.metadata as metadata")
    assert hydrated.ask(seen, *imports) == [version, version]
    hydrated.sh("pip uninstall -y serverside")
    assert hydrated.ask(seen, *imports) == ["1.0", "1.0"]


def test_a_package_of_the_server_is_not_installed_again(hydrated: Volume) -> None:
    assert "already satisfied" in hydrated.sh("pip install serverside")


def test_a_pip_can_be_installed_into_the_volume_and_uninstalled_again(
    server: Server, hydrated: Volume
) -> None:
    bundled = hydrated.ask(
        "[str(p) for p in pathlib.Path(ensurepip.__file__).parent.glob('*/pip-*.whl')]",
        "ensurepip",
        "pathlib",
    )
    hydrated.sh(f"pip install --ignore-installed --no-compile {bundled[0]}")
    assert str(hydrated.packages) in hydrated.sh("pip --version")
    assert hydrated.intact()
    hydrated.sh("pip uninstall -y pip")
    assert str(server.packages) in hydrated.sh("pip --version")
    hydrated.sh("pip install volumeside")
    assert where(hydrated, "volumeside").startswith(str(hydrated.root))


def test_a_repair_keeps_what_was_installed(hydrated: Volume) -> None:
    hydrated.sh("pip install volumeside==1.0")
    (hydrated.root / "pyvenv.cfg").unlink()
    shutil.rmtree(hydrated.root / "shims")
    hydrated.hydrate()
    assert hydrated.sh("tool") == "tool 1.0\n"


def test_two_volumes_do_not_see_each_others_packages(server: Server, tmp_path: Path) -> None:
    one = Volume(tmp_path / "one", server.launch()).hydrate()
    other = Volume(tmp_path / "other", server.launch()).hydrate()
    one.sh("pip install volumeside==1.0")
    assert not other.ask(
        "bool(find('volumeside'))", "importlib.util; find = importlib.util.find_spec"
    )
    other.sh("pip install volumeside==2.0")
    assert (one.sh("tool"), other.sh("tool")) == ("tool 1.0\n", "tool 2.0\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("short", "moved"),
        ("short", "far" * 50),
        ("with space", "moved with 'quotes'"),
        ("long" * 40, "moved with space"),
    ],
)
def test_console_scripts_follow_a_volume_that_moves(
    server: Server, tmp_path: Path, before: str, after: str
) -> None:
    old = Volume(tmp_path / before, server.launch()).hydrate()
    old.sh("pip install volumeside==1.0")
    new = Volume(tmp_path / after, server.launch())
    shutil.copytree(
        old.path, new.path, symlinks=True
    )  # the old one still exists, and must not be used
    shutil.rmtree(old.packages)
    assert not new.intact()
    assert new.hydrate().sh("tool") == "tool 1.0\n"
    assert os.access(new.root / "bin" / "tool", os.X_OK)
    assert str(old.root) not in (new.root / "bin" / "tool").read_text()
    new.sh("pip install -U volumeside")
    assert new.sh("tool") == "tool 2.0\n"


@pytest.mark.parametrize("before", ["short", "with space", "long" * 40])
def test_console_scripts_made_by_uv_follow_a_volume_that_moves(
    server: Server, tmp_path: Path, before: str
) -> None:
    old = Volume(tmp_path / before, server.launch()).hydrate()
    old.sh(f"{UV} pip install --offline --no-index --find-links {server.wheels} volumeside==1.0")
    new = Volume(tmp_path / "moved", server.launch())
    old.path.rename(new.path)
    assert new.hydrate().sh("tool") == "tool 1.0\n"


def test_other_files_in_bin_are_unchanged(hydrated: Volume) -> None:
    kept = {
        "bytes": b"\x7fELF" + bytes(200),
        "shell": b"#!/bin/sh\necho hello\n",
        "elsewhere": b"#!/opt/env/bin/python\nprint('env/bin/python')\n",
        "empty": b"",
    }
    for name, content in kept.items():
        (hydrated.root / "bin" / name).write_bytes(content)
    (hydrated.root / "shims" / "pip").unlink()
    hydrated.hydrate()
    assert {name: (hydrated.root / "bin" / name).read_bytes() for name in kept} == kept


def test_uv_installs_into_the_volume(server: Server, tmp_path: Path) -> None:
    astray = {
        "UV_SYSTEM_PYTHON": "1",
        "UV_PYTHON": server.python,
        "CONDA_PREFIX": str(server.prefix),
    }
    volume = Volume(tmp_path / "volume", server.launch(astray)).hydrate()
    volume.sh(f"{UV} pip install --offline --no-index --find-links {server.wheels} volumeside")
    assert where(volume, "volumeside").startswith(str(volume.root))
    assert volume.sh("tool") == "tool 2.0\n"
    volume.sh(f"{UV} pip uninstall volumeside")
    assert not (volume.packages / "volumeside.py").exists()


def test_a_source_distribution_is_built_without_seeing_the_server(hydrated: Volume) -> None:
    hydrated.sh("pip install fromsource")
    assert hydrated.ask("fromsource.build_saw_the_server", "fromsource") is False


def test_without_a_pip_in_the_server_pythons_own_pip_is_installed_on_first_use(
    server: Server, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, bare], check=True)
    unpack(bare / site_packages(), "serverside", "1.0", {"serverside.py": "version = '1.0'\n"})
    volume = Volume(tmp_path / "volume", server.launch(python=str(bare / "bin" / "python")))
    volume.hydrate()
    absent = "importlib.util.find_spec('pip').origin"
    assert "pip-on-demand" in volume.ask(absent, "importlib.util")
    volume.sh('python -c "import pip"', code=1)
    assert "already satisfied" in volume.sh("pip install volumeside serverside")
    assert where(volume, "volumeside").startswith(str(volume.root))
    assert where(volume, "pip").startswith(str(volume.packages))
    assert list((bare / site_packages()).glob("pip*")) == []
    assert volume.intact()


def test_a_namespace_can_span_the_server_and_the_volume(hydrated: Volume) -> None:
    hydrated.sh("pip install nsvolume")
    assert hydrated.ask("True", "shared_ns.server", "shared_ns.volume")


def test_packages_of_both_are_listed(hydrated: Volume) -> None:
    hydrated.sh("pip install volumeside")
    modules = hydrated.ask("[m.name for m in pkgutil.iter_modules()]", "pkgutil")
    names = hydrated.ask(
        "[d.metadata['Name'] for d in metadata.distributions()]", "importlib.metadata as metadata"
    )
    listed = [entry["name"] for entry in json.loads(hydrated.sh("pip list --format json"))]
    for found in (modules, names, listed):
        assert {"serverside", "volumeside", "ipykernel"} <= set(found)


def test_the_volume_sees_the_users_packages_if_the_server_does(
    server: Server, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    users = home / ".local" / "lib" / version / "site-packages"
    if sys.platform == "darwin" and sys._framework:
        users = (
            home
            / "Library"
            / "Python"
            / version.removeprefix("python")
            / "lib/python/site-packages"
        )
    unpack(users, "userside", "1.0", {"userside.py": ""})
    seeing = tmp_path / "seeing"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", seeing],
        check=True,
    )
    find = "bool(find('userside'))"
    finder = "importlib.util; find = importlib.util.find_spec"
    env = {"HOME": str(home)}
    volume = Volume(tmp_path / "one", server.launch(env, str(seeing / "bin" / "python"))).hydrate()
    assert volume.ask(find, finder)
    assert not volume.ask(find, finder, env={"PYTHONNOUSERSITE": "1"})
    unseeing = Volume(tmp_path / "other", server.launch(env)).hydrate()
    assert not unseeing.ask(find, finder)


def test_a_virtual_environment_made_in_the_volume_works_as_usual(hydrated: Volume) -> None:
    hydrated.sh("python -m venv --without-pip sub")
    inner = 'import sys, importlib.util as u; print(sys.prefix, u.find_spec("serverside"))'
    assert hydrated.sh(f"sub/bin/python -c '{inner}'") == f"{hydrated.path}/sub None\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_sees_the_same_packages(hydrated: Volume, method: str) -> None:
    hydrated.sh("pip install volumeside==1.0")
    (hydrated.path / "work.py").write_text(
        "import multiprocessing, sys\n"
        "def work(name):\n"
        "    return __import__(name).version, sys.prefix\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context('{method}').Pool(2) as pool:\n"
        "        print(pool.map(work, ['volumeside', 'serverside']))\n"
    )
    root = str(hydrated.root)
    assert hydrated.sh("python work.py") == f"{[('1.0', root), ('1.0', root)]}\n"


def test_jupyter_finds_what_the_server_has_and_what_the_volume_has(
    server: Server, hydrated: Volume
) -> None:
    own = hydrated.root / "share" / "jupyter" / "kernels" / "volumes-own"
    own.mkdir(parents=True)
    (own / "kernel.json").write_text('{"argv": ["true"], "display_name": "x", "language": "x"}')
    listed = json.loads(
        hydrated.sh("python -m jupyter_client.kernelspecapp list --json 2>/dev/null")
    )
    assert {"servers-own", "volumes-own"} <= set(listed["kernelspecs"])
    paths = json.loads(hydrated.sh("python -m jupyter --paths --json"))
    data, config = paths["data"], paths["config"]
    assert data.index(f"{hydrated.root}/share/jupyter") < data.index(
        f"{server.prefix}/share/jupyter"
    )
    assert config.index(f"{hydrated.root}/etc/jupyter") < config.index(
        f"{server.prefix}/etc/jupyter"
    )


def test_jupyter_paths_that_were_set_are_kept(server: Server, volume: Volume) -> None:
    volume.launch = replace(
        volume.launch, env={**volume.launch.env, "JUPYTER_PATH": "/given", "PATH": "/usr/bin:/bin"}
    )
    env = volume.hydrate().overlay.environment(volume.place, volume.launch).env
    assert env["JUPYTER_PATH"].split(":") == [
        f"{volume.root}/share/jupyter", "/given", f"{server.prefix}/share/jupyter"
    ]  # fmt: skip
    assert env["PATH"].split(":") == [
        f"{volume.root}/bin", f"{volume.root}/shims", f"{server.prefix}/bin", "/usr/bin", "/bin"
    ]  # fmt: skip
