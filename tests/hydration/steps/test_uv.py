from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from provisioner.core.errors import ConfigError, HydrationFailed
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.uv.declaration import Project, Requirements
from provisioner.hydration.steps.uv.step import UvEnvironment
from provisioner.hydration.steps.uv.tool import Uv
from provisioner.system.removal import remove
from tests.support.starts import Reported, ask_kernel, make_place, processes_started, run
from tests.support.tools import require
from tests.support.wheels import install_by_hand, make_wheel

DEAD_INDEX = "http://127.0.0.1:9/simple"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of wheels that uv finds in addition to the index."""
    shop = tmp_path / "shop"
    for version in ("1.0", "2.0"):
        make_wheel(shop, "apple", version)
    make_wheel(shop, "pear", "1.0", requires=["apple>=1"])
    make_wheel(shop, "plum", "3.0")
    make_wheel(
        shop, "pip", "99"
    )  # compiling the real one takes a second, and only one test needs it
    return shop


@pytest.fixture
def script(uv_launch: Launch, shop: Path) -> Launch:
    """A launch of Python that is no ipykernel, so that only pip is installed beside the declaration."""
    links = " ".join(filter(None, [uv_launch.env.get("UV_FIND_LINKS"), str(shop)]))
    env = {**uv_launch.env, "UV_FIND_LINKS": links.replace(" ", ",")}
    return Launch((sys.executable, "-m", "apple"), env)


def uv(cache: Path, *lines: str, **options: str) -> list[UvEnvironment]:
    return [UvEnvironment(Requirements(lines), cache, **options)]  # type: ignore[arg-type]


def python(place: Place, launch: Launch, code: str) -> str:
    program = place.environment / "bin/python"
    return subprocess.run(
        [program, "-c", code], env=dict(launch.env), check=True, capture_output=True, text=True
    ).stdout.strip()


def version(place: Place, launch: Launch, module: str) -> str:
    return python(place, launch, f"import {module}; print({module}.VERSION)")


def packages_of(place: Place) -> Path:
    (found,) = place.environment.glob("lib/python*/site-packages")
    return found


def test_a_kernel_runs_in_the_volumes_environment_and_pip_installs_into_it(
    uv_launch: Launch, uv_cache: Path, place: Place, shop: Path, tmp_path: Path
) -> None:
    steps = uv(uv_cache)
    inside = run(steps, place, uv_launch).launch
    assert inside.argv[0] == str(place.environment / "bin/python")
    code = "import sys, ipykernel; print(sys.prefix, ipykernel.__file__)"
    install = f"%pip install --no-index --find-links {shop} --quiet plum"
    printed = ask_kernel(place, inside, f"{code}\n{install}", tmp_path / "one.json")
    prefix, file = printed.split()[:2]
    assert prefix == str(place.environment)
    assert file.startswith(prefix)
    again = run(steps, place, uv_launch)
    assert again.report[0].hit
    code = "import plum; print(plum.__file__)"
    printed = ask_kernel(place, again.launch, code, tmp_path / "two.json")
    assert printed.startswith(str(place.environment))


def test_a_second_start_starts_no_process(script: Launch, uv_cache: Path, place: Place) -> None:
    steps = uv(uv_cache, "apple==1.0")
    first = run(steps, place, script)
    with processes_started() as started:
        second = run(steps, place, script)
    assert (started, second.report[0].hit, second.launch) == ([], True, first.launch)


def test_packages_are_links_into_the_shared_cache_and_compiled(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    run(uv(uv_cache, "apple==1.0"), place, script)
    module = packages_of(place) / "apple.py"
    assert module.stat().st_nlink > 1
    assert list((packages_of(place) / "__pycache__").glob("apple.*.pyc"))


def test_packages_are_copied_from_a_cache_on_another_file_system(
    script: Launch, place: Place
) -> None:
    cache = Path("/dev/shm/volumes-test-uv-cache")
    assert cache.parent.stat().st_dev != place.state.stat().st_dev
    try:
        run(uv(cache, "apple==1.0"), place, script)
    finally:
        remove(cache)
    assert (packages_of(place) / "apple.py").stat().st_nlink == 1


def test_cached_packages_need_no_index(
    script: Launch, uv_cache: Path, tmp_path: Path, shop: Path
) -> None:
    steps = uv(uv_cache, "apple==1.0")
    env = {**script.env, "UV_FIND_LINKS": str(shop), "UV_DEFAULT_INDEX": DEAD_INDEX, "UV_INDEX": ""}
    asked, reported = make_place(tmp_path / "two"), Reported()
    run(steps, asked, replace(script, env=env), progress=reported)
    assert "asking the package index" not in reported.text
    assert version(asked, script, "apple") == "1.0"


def test_an_unavailable_package_fails_with_the_output_of_uv(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    env = {**script.env, "UV_DEFAULT_INDEX": DEAD_INDEX, "UV_HTTP_RETRIES": "0"}
    with pytest.raises(HydrationFailed, match="uv pip install ended with exit code") as failure:
        run(uv(uv_cache, "no-such-fruit==1.0"), place, replace(script, env=env))
    assert DEAD_INDEX in failure.value.tail  # for any of the packages: uv asks for all at once
    assert not place.environment.exists()
    assert not (place.state / "env.new").exists()


def test_a_change_installs_the_new_requirements_and_keeps_the_users_packages(
    script: Launch, uv_cache: Path, place: Place, shop: Path
) -> None:
    run(uv(uv_cache, "apple==1.0"), place, script)
    install_by_hand(place.environment, "--find-links", shop, "plum")
    hydrated = run(uv(uv_cache, "apple==2.0", "pear"), place, script)
    assert hydrated.report[0].changed == ("requirements",)
    assert version(place, script, "apple") == "2.0"
    assert version(place, script, "plum") == "3.0"
    plum = subprocess.run([place.environment / "bin/plum"], check=True, capture_output=True)
    assert plum.stdout == b"plum 3.0\n"


def test_a_change_in_one_volume_does_not_affect_others_and_the_cache(
    script: Launch, uv_cache: Path, tmp_path: Path
) -> None:
    one, two = make_place(tmp_path / "one"), make_place(tmp_path / "two")
    for place in (one, two):
        run(uv(uv_cache, "apple==1.0"), place, script)
    run(uv(uv_cache, "apple==2.0"), one, script)
    assert version(two, script, "apple") == "1.0"


def test_a_failed_rehydration_leaves_the_old_environment_whole(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    run(uv(uv_cache, "apple==1.0"), place, script)
    with pytest.raises(HydrationFailed):
        run(uv(uv_cache, "apple==9.0"), place, script)
    assert version(place, script, "apple") == "1.0"
    assert run(uv(uv_cache, "apple==1.0"), place, script).report[0].hit
    lenient = run(uv(uv_cache, "apple==9.0", stale="warn"), place, script)
    assert "earlier environment is used" in lenient.report[0].warning
    assert version(place, lenient.launch, "apple") == "1.0"


def test_bytecode_of_a_replaced_module_is_not_used_for_the_new_one(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    """The versions have the same size and are unpacked in the same second, so Python cannot distinguish them."""
    run(uv(uv_cache, "apple==2.0"), place, script)
    run(uv(uv_cache, "apple==1.0"), place, script)
    second = int((packages_of(place) / "apple.py").stat().st_mtime)
    run(uv(uv_cache, "apple==2.0"), place, script)
    for archived in uv_cache.rglob("apple.py"):
        os.utime(archived, (second, second + 0.1 * ("2.0" in archived.read_text())))
    for lines in (("apple==1.0",), ("apple==2.0",), ("apple==1.0",)):
        remove(packages_of(place) / "__pycache__")
        version(place, script, "apple")
        run(uv(uv_cache, *lines), place, script)
        assert version(place, script, "apple") == lines[0].removeprefix("apple==")


def test_after_a_crash_between_the_two_renames_the_old_environment_is_back(
    script: Launch, uv_cache: Path, place: Place, shop: Path
) -> None:
    run(uv(uv_cache, "apple==1.0"), place, script)
    (packages_of(place) / "mine.py").write_text("VERSION = 'mine'")
    (place.state / "env.new").mkdir()
    place.environment.rename(place.state / "env.old")
    dead = replace(script, env={**script.env, "UV_DEFAULT_INDEX": DEAD_INDEX})
    with pytest.raises(HydrationFailed):
        run(uv(uv_cache, "apple==9.0"), place, dead)
    assert version(place, script, "mine") == "mine"
    assert run(uv(uv_cache, "apple==1.0"), place, script).report[0].hit


def test_a_requirements_file_and_its_included_files_are_inputs(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    (place.volume / "requirements.txt").write_text("-c pins.txt  # pinned\napple\n")
    (place.volume / "pins.txt").write_text("apple==1.0\n")
    steps = [UvEnvironment(Requirements(file="requirements.txt"), uv_cache)]
    run(steps, place, script)
    assert version(place, script, "apple") == "1.0"
    (place.volume / "pins.txt").write_text("apple==2.0\n")
    assert run(steps, place, script).report[0].changed == (str(place.volume / "pins.txt"),)
    assert version(place, script, "apple") == "2.0"
    (place.volume / "requirements.txt").unlink()
    with pytest.raises(HydrationFailed, match="does not exist"):
        run(steps, place, script)


def test_a_package_on_this_machine_that_needs_something_else_is_installed_again(
    script: Launch, uv_cache: Path, place: Place, tmp_path: Path
) -> None:
    project = tmp_path / "lab" / "pyproject.toml"
    project.parent.mkdir()
    declared = '[project]\nname = "lab"\nversion = "1"\ndependencies = [{}]\n'
    project.write_text(declared.format(""))
    (tmp_path / "needs.txt").write_text("-e ./lab  # ours\n")
    steps = [UvEnvironment(Requirements(file=str(tmp_path / "needs.txt")), uv_cache)]
    run(steps, place, script)
    assert run(steps, place, script).report[0].hit
    project.write_text(declared.format('"apple==1.0"'))
    assert run(steps, place, script).report[0].changed == (str(project),)
    assert version(place, script, "apple") == "1.0"


def test_the_hashes_of_a_requirements_file_are_checked(
    script: Launch, uv_cache: Path, place: Place, tmp_path: Path, shop: Path
) -> None:
    """pip and ipykernel, which are not in the file, have no hashes."""
    digest = hashlib.sha256((shop / "apple-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    file = tmp_path / "needs.txt"
    for right, written in ((False, "0" * 64), (True, digest)):
        file.write_text(f"--require-hashes\napple==1.0 --hash=sha256:{written}\n")
        steps = [UvEnvironment(Requirements(file=str(file)), uv_cache)]
        if right:
            run(steps, place, script)
            assert python(place, script, "import apple, pip; print(apple.VERSION)") == "1.0"
        else:
            with pytest.raises(HydrationFailed, match=r"(?i)hash"):
                run(steps, place, script)


def test_a_project_is_installed_with_the_versions_of_its_lock(
    script: Launch, uv_cache: Path, place: Place, shop: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.10"\n'
        'dependencies = ["pear", "apple<2"]\n'
        f'[tool.uv]\nfind-links = ["{shop}"]\n'
    )
    steps = [UvEnvironment(Project(str(project)), uv_cache)]
    run(steps, place, script)
    assert (project / "uv.lock").exists()
    assert version(place, script, "apple") == "1.0"
    assert run(steps, place, script).report[0].hit
    text = (project / "pyproject.toml").read_text()
    wheel = make_wheel(tmp_path / "local", "fig", "1.0")
    install_by_hand(place.environment, wheel)
    wheel.unlink()
    (project / "pyproject.toml").write_text(text.replace('"apple<2"', '"apple"'))
    with pytest.raises(HydrationFailed, match="uv sync") as failure:
        run(steps, place, script)
    assert "lock" in failure.value.tail
    assert version(place, script, "apple") == "1.0"
    assert python(place, script, "import pip; print('pip')") == "pip"
    (project / "uv.lock").unlink()
    run(steps, place, script)
    assert version(place, script, "apple") == "2.0"
    assert version(place, script, "fig") == "1.0", (
        "the user's package, which is not available any more"
    )


def test_a_project_for_another_python_is_refused_and_never_switches_the_interpreter(
    script: Launch, uv_cache: Path, place: Place, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "old"\nversion = "1"\nrequires-python = ">=3.90"\ndependencies = []\n'
    )
    with pytest.raises(HydrationFailed, match="uv sync") as failure:
        run([UvEnvironment(Project(str(tmp_path)), uv_cache)], place, script)
    assert "3.90" in failure.value.tail


def test_requires_python_is_checked_against_the_kernels_interpreter(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    run(uv(uv_cache, "apple", requires_python=">=3.10"), place, script)
    for specifier, words in ((">=3.90", "choose another kernel"), ("three", "no version")):
        with pytest.raises(HydrationFailed, match=words):
            run(uv(uv_cache, "apple", requires_python=specifier), place, script)


@pytest.mark.parametrize("line", ["-r other.txt", "--index-url=x", "", "a\nb"])
def test_a_list_of_requirements_must_not_have_options(line: str) -> None:
    with pytest.raises(ConfigError, match="no requirement"):
        Requirements((line,))


def test_after_a_move_the_environment_and_its_scripts_work(
    script: Launch, uv_cache: Path, shop: Path, tmp_path: Path
) -> None:
    place, moved = make_place(tmp_path / "one"), make_place(tmp_path / "two")
    steps = uv(uv_cache, "apple==1.0")
    run(steps, place, script)
    install_by_hand(place.environment, "--find-links", shop, "plum")
    moved.state.rmdir()
    place.state.rename(moved.state)
    with processes_started() as started:
        hydrated = run(steps, moved, script)
    assert (started, hydrated.report[0].hit) == ([], False)
    for name, text in (("apple", b"apple 1.0\n"), ("plum", b"plum 3.0\n")):
        script_path = moved.environment / "bin" / name
        ran = subprocess.run([script_path], check=True, capture_output=True)
        assert ran.stdout == text
    assert run(steps, moved, script).report[0].hit


@pytest.mark.parametrize("damage", ["python", "configuration", "record", "leftover"])
def test_a_damaged_environment_is_no_hit_and_is_made_again(
    script: Launch, uv_cache: Path, place: Place, damage: str
) -> None:
    steps = uv(uv_cache, "apple==1.0")
    run(steps, place, script)
    if damage == "python":
        (place.environment / "bin/python").unlink()
    elif damage == "configuration":
        (place.environment / "pyvenv.cfg").unlink()
    elif damage == "record":
        (place.environment / "hydrated.json").write_text("{}")
    else:
        (place.state / "env.new").mkdir()
    assert not run(steps, place, script).report[0].hit
    assert version(place, script, "apple") == "1.0"
    assert run(steps, place, script).report[0].hit


def test_packages_of_an_environment_that_cannot_be_extended_are_installed_again(
    script: Launch, uv_cache: Path, place: Place, shop: Path
) -> None:
    """For example an overlay, or an environment of another interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place.environment], check=True)
    install_by_hand(place.environment, "--find-links", shop, "plum")
    run(uv(uv_cache, "apple==1.0"), place, script)
    assert version(place, script, "plum") == "3.0"
    assert version(place, script, "apple") == "1.0"


def test_packages_that_cannot_be_installed_again_are_named(
    script: Launch, uv_cache: Path, place: Place, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place.environment], check=True)
    local = [make_wheel(tmp_path / "local", name, "1.0") for name in ("kept", "vanished")]
    install_by_hand(place.environment, *local)
    local[1].unlink()
    reported = Reported()
    run(uv(uv_cache, "apple==1.0"), place, script, progress=reported)
    (warning,) = (line for line in reported.lines if "install them again" in line)
    assert f"vanished @ {local[1].as_uri()}" in warning
    assert "kept" not in warning
    assert version(place, script, "kept") == "1.0", (
        "from its origin, although another package is not available"
    )


@pytest.fixture
def no_uv_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)


@pytest.mark.usefixtures("no_uv_wheel")
def test_a_missing_uv_is_reported_in_one_line_with_the_cure(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    bare = replace(script, env={**script.env, "PATH": "/nonexistent"})
    with pytest.raises(HydrationFailed, match="uv is not installed: run") as failure:
        run(uv(uv_cache, "apple"), place, bare)
    assert "\n" not in str(failure.value)


@pytest.mark.usefixtures("no_uv_wheel")
def test_uv_is_also_found_on_the_path(place: Place, tmp_path: Path) -> None:
    from_path = tmp_path / "uv"
    from_path.write_text("#!/bin/sh\n")
    from_path.chmod(0o755)
    hooks = StepHooks("uv", place, Reported(), Event())
    found = Uv.find(hooks, {"PATH": str(tmp_path)}, tmp_path / "cache")
    assert found.program == str(from_path)


def test_a_forced_hydration_takes_newer_versions(
    script: Launch, uv_cache: Path, place: Place, shop: Path
) -> None:
    run(uv(uv_cache, "plum"), place, script)
    make_wheel(shop, "plum", "4.0")
    assert run(uv(uv_cache, "plum"), place, script).report[0].hit
    run(uv(uv_cache, "plum"), place, script, force=True)
    assert version(place, script, "plum") == "4.0"


def test_uv_settings_in_the_volume_are_ignored(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    (place.volume / "uv.toml").write_text('no-index = true\nunknown-setting = "x"\n')
    (place.volume / "pyproject.toml").write_text("[tool.uv]\nbroken")
    run(uv(uv_cache, "apple==1.0"), place, script)
    assert version(place, script, "apple") == "1.0"


def test_secrets_reach_no_build_script(
    script: Launch, uv_cache: Path, place: Place, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(
        "import os, shutil\n"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(repr(dict(os.environ)))\n"
        "def build_wheel(directory, *_):\n"
        f"    shutil.copy({str(make_wheel(tmp_path / 'made', 'built', '1.0'))!r}, directory)\n"
        "    return 'built-1.0-py3-none-any.whl'\n"
    )
    run(uv(uv_cache, f"built @ file://{source}"), place, script)
    seen = (tmp_path / "seen").read_text()
    assert "PATH" in seen
    assert "hush-hush" not in seen


def test_a_kernel_of_another_language_keeps_its_program(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    program = require("bash", "install bash")
    inside = run(uv(uv_cache, "apple==1.0"), place, replace(script, argv=(program, "-c", "apple")))
    assert inside.launch.argv[0] == program
    ran = subprocess.run(
        inside.launch.argv, env=dict(inside.launch.env), capture_output=True, check=True
    )
    assert ran.stdout == b"apple 1.0\n"
    assert os.environ["PATH"] in inside.launch.env["PATH"]


def test_an_environment_is_not_marked_as_a_cache(
    script: Launch, uv_cache: Path, place: Place
) -> None:
    run(uv(uv_cache, "apple"), place, script)
    assert not list(place.environment.glob("CACHEDIR.TAG"))


@pytest.mark.parametrize(
    "line", ["berry", "berry @ https://me:hush-hush@127.0.0.1:9/berry-1.0-py3-none-any.whl"]
)
def test_the_login_of_an_index_is_neither_reported_nor_stored(
    script: Launch, place: Place, tmp_path: Path, line: str
) -> None:
    variables = {
        "UV_DEFAULT_INDEX": "https://me:hush-hush@127.0.0.1:9/simple",
        "UV_HTTP_RETRIES": "0",
        "UV_HTTP_TIMEOUT": "2",
    }
    launch, reported = replace(script, env={**script.env, **variables}), Reported()
    with pytest.raises(HydrationFailed) as failure:
        run(uv(tmp_path / "cache", line), place, launch, progress=reported)
    for said in (reported.text, str(failure.value), place.log.read_text()):
        assert "127.0.0.1" in said
        assert "hush-hush" not in said


def test_an_invalid_requirement_is_refused_without_showing_its_login() -> None:
    with pytest.raises(ConfigError) as refusal:
        Requirements(("--index-url https://me:hush-hush@127.0.0.1/simple",))
    assert "https://…@127.0.0.1/simple" in str(refusal.value)
    assert "hush-hush" not in str(refusal.value)
