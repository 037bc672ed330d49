"""Makes wheels and source distributions of a few files, for offline installers."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from provisioner.hydration.step import Launch

BACKEND = '''
import importlib.util, os, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Make a wheel whose module records whether this build saw the server's package."""
    leaked = importlib.util.find_spec("serverside") is not None
    name = "fromsource-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("fromsource.py", f"build_saw_the_server = {leaked}\\n")
        info = "fromsource-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: fromsource\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
'''


def contents(
    name: str,
    version: str,
    files: Mapping[str, str],
    scripts: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
) -> dict[str, str]:
    """Return the files of a wheel by path."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    entries = "".join(f"{script} = {target}\n" for script, target in (scripts or {}).items())
    every = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **({f"{info}/entry_points.txt": f"[console_scripts]\n{entries}"} if entries else {}),
    }
    record = "".join(f"{path},,\n" for path in (*every, f"{info}/RECORD"))
    return {**every, f"{info}/RECORD": record}


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    files: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    *,
    requires: Sequence[str] = (),
) -> Path:
    """Write a wheel; without files, one module with a VERSION and a script named as the module."""
    if files is None:
        code = f"VERSION = {version!r}\ndef main():\n    print('{name}', VERSION)\n"
        files, scripts = {f"{name}.py": code}, {name: f"{name}:main"}
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in contents(name, version, files, scripts, requires).items():
            wheel.writestr(member, text)
    return path


def offline(launch: Launch, shop: Path, module: str = "apple") -> Launch:
    """Return a launch of a module, for which uv finds only the wheels in a folder; pip is installed beside them."""
    found = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(shop), "PATH": os.environ["PATH"]}
    return Launch((sys.executable, "-m", module), {**launch.env, **found})


def unpack(site_packages: Path, name: str, version: str, files: Mapping[str, str]) -> None:
    """Install a package without an installer."""
    for member, text in contents(name, version, files).items():
        path = site_packages / member
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def make_sdist(directory: Path) -> Path:
    """Write a source distribution, `fromsource`, whose build backend is the wheel `tinybackend`."""
    path = directory / "fromsource-1.0.tar.gz"
    build = '[build-system]\nrequires = ["tinybackend"]\nbuild-backend = "tinybackend"\n'
    metadata = "Metadata-Version: 2.1\nName: fromsource\nVersion: 1.0\n"
    with tarfile.open(path, "w:gz") as archive:
        for member, text in {"pyproject.toml": build, "PKG-INFO": metadata}.items():
            entry = tarfile.TarInfo(f"fromsource-1.0/{member}")
            entry.size = len(text)
            archive.addfile(entry, BytesIO(text.encode()))
    return path


def install_by_hand(environment: Path, *arguments: str | Path) -> None:
    """Install into an environment with pip, from the given wheels only."""
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin/python", "install")
    subprocess.run([*pip, "--quiet", "--no-index", *arguments], check=True)
