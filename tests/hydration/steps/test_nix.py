from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer

import pytest

from provisioner.core.errors import Cancelled, HydrationFailed
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.nix.step import NixProfile
from tests.support.nix_store import NixStore
from tests.support.starts import (
    Reported,
    ask_kernel,
    make_place,
    processes_of,
    processes_started,
    run,
)
from tests.support.tools import require

Nix = tuple[NixStore, Launch]


def output_of(place: Place, launch: Launch, *argv: str) -> str:
    """Run a program by its name inside a launch's environment."""
    return subprocess.run(
        argv, env=dict(launch.env), cwd=place.volume, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_kernel_runs_in_the_shell_with_the_shells_python(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    """jupyter_client replaces `python` by the server's interpreter, but the environment's is run."""
    store, launch = nix
    flake = store.flake(tmp_path / "flake")
    inside = run([NixProfile(str(flake))], place, launch).launch
    assert inside.argv[0].startswith(str(store.root / "store"))
    code = (
        "import os; print(os.environ['RAN_BY'], os.environ['GREETING'], os.environ['IN_NIX_SHELL'])"
    )
    printed = ask_kernel(place, inside, code, tmp_path / "kernel.json")
    assert printed.split() == [inside.argv[0], "hello", "impure"]
    assert output_of(place, inside, "greet") == "hello"


@pytest.mark.parametrize("argv0", ["python", "python3", "python3.11", sys.executable])
def test_the_shells_python_is_used_if_the_kernelspec_names_no_path(
    nix: Nix, place: Place, tmp_path: Path, argv0: str
) -> None:
    store, launch = nix
    steps = [NixProfile(str(store.flake(tmp_path / "flake")))]
    inside = run(steps, place, replace(launch, argv=(argv0, "-V"))).launch
    assert inside.argv[0].endswith("-tool/bin/python3")


def test_an_interpreter_with_a_path_is_kept_and_other_programs_are_found(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    steps = [NixProfile(str(store.flake(tmp_path / "flake")))]
    chosen = replace(launch, argv=("/opt/mine/bin/python3", "-V"))
    assert run(steps, place, chosen).launch.argv[0] == "/opt/mine/bin/python3"
    other = run(steps, place, replace(launch, argv=("greet",))).launch
    assert other.argv[0].endswith("-tool/bin/greet")


def test_a_second_start_starts_no_process_and_needs_no_nix(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    steps = [NixProfile(str(store.flake(tmp_path / "flake", hook="export HOOKED=1")))]
    first = run(steps, place, launch)
    with processes_started() as started:
        second = run(steps, place, launch)
    assert (started, second.report[0].hit) == ([], True)
    assert second.launch == first.launch


def test_variables_of_nixs_builder_do_not_reach_the_kernel(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    """The builder's shell is nologin, its certificates are /no-cert-file.crt, its TMPDIR does not exist any more."""
    store, launch = nix
    own = {**launch.env, "SHELL": "/bin/zsh", "TERM": "vt100", "TMPDIR": str(tmp_path)}
    for hook in ("", "export HOOKED=1"):
        flake = store.flake(tmp_path / f"flake{len(hook)}", hook=hook)
        inside = run([NixProfile(str(flake))], place, replace(launch, env=own)).launch.env
        for name in ("SHELL", "TERM", "TMPDIR", "HOME"):
            assert inside[name] == own[name]
        assert "/no-cert-file.crt" not in inside.values()
        assert not {"NIX_BUILD_TOP", "TMP", "TEMP", "shellHook", "out", "PS4"} & inside.keys()
        assert inside["PATH"].endswith(own["PATH"])
        assert inside["PATH"].count("-tool/bin") == 1


def test_a_deleted_tmpdir_of_the_server_has_no_effect(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    dead = replace(launch, env={**launch.env, "TMPDIR": "/nonexistent/tmp"})
    flake = store.flake(tmp_path / "flake", hook="export MADE=$(mktemp -d)")
    inside = run([NixProfile(str(flake))], place, dead).launch
    assert not Path(inside.env["MADE"]).exists()


def test_a_shell_hook_changes_the_environment_and_sees_no_secret(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    hook = "env > seen; export HOOKED=$PWD; export PATH=/hooked/bin:$PATH; echo talk"
    reported = Reported()
    inside = run(
        [NixProfile(str(store.flake(tmp_path / "flake", hook=hook)))],
        place,
        launch,
        progress=reported,
    ).launch
    assert inside.env["HOOKED"] == str(place.volume)
    assert inside.env["PATH"].startswith("/hooked/bin:")
    assert inside.env["PATH"].endswith(f"-tool/bin:{launch.env['PATH']}")
    assert "nix: talk" in reported.lines
    assert inside.env["JUPYTERHUB_API_TOKEN"] == "hush-hush"
    for file in ("seen", ".state/nix.json", ".state/hydration.log", ".state/hydration.json"):
        assert "hush-hush" not in (place.volume / file).read_text()


@pytest.mark.parametrize("hook", ["echo sorry >&2; exit 3", "exec true"])
def test_a_shell_hook_that_leaves_no_environment_fails_the_start(
    nix: Nix, place: Place, tmp_path: Path, hook: str
) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake", hook=hook)
    with pytest.raises(HydrationFailed, match="shellHook") as failure:
        run([NixProfile(str(flake))], place, launch)
    assert ("sorry" in failure.value.tail) == ("sorry" in hook)


def test_settings_of_a_flake_are_ignored(nix: Nix, place: Place, tmp_path: Path) -> None:
    """With --accept-flake-config, a flake's post-build-hook would run as the server's user."""
    store, launch = nix
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    settings = f'nixConfig.post-build-hook = "{hook}";'
    flake = store.flake(tmp_path / "flake", "settings", settings=settings)
    run([NixProfile(str(flake))], place, launch)
    assert not (tmp_path / "ran").exists()


def test_a_reference_is_never_parsed_as_an_option_of_nix(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake", hook="true")
    run([NixProfile(str(flake))], place, launch)
    commands = place.log.read_text().splitlines()
    asked = [line for line in commands if line.startswith("$ ") and "print-dev-env" in line]
    (root,) = (place.state / "nix").iterdir()
    assert [line.split(" -- ")[1] for line in asked] == [str(flake), str(root.readlink())]


def test_a_dependency_that_does_not_build_shows_its_own_log(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake", dependency="echo compiler says no; exit 1")
    with pytest.raises(HydrationFailed, match="ended with exit code") as failure:
        run([NixProfile(str(flake))], place, launch)
    assert "compiler says no" in failure.value.tail
    assert "jupyter volumes hydrate analysis.ipynb" in str(failure.value)


def test_an_evaluation_error_has_the_output_of_nix(nix: Nix, place: Place, tmp_path: Path) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake")
    (flake / "flake.nix").write_text("{ outputs = { self }: undefinedName; }")
    with pytest.raises(HydrationFailed, match="ended with exit code 1") as failure:
        run([NixProfile(str(flake))], place, launch)
    assert "undefinedName" in failure.value.tail


def test_a_private_file_beside_the_flake_is_refused(nix: Nix, place: Place, tmp_path: Path) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake")
    (flake / ".env").write_text("PASSWORD=hush")
    (flake / ".env").chmod(0o600)
    with pytest.raises(HydrationFailed, match=r"\.env is private \(mode 0600\)"):
        run([NixProfile(f"path:{flake}")], place, launch)


def test_private_files_outside_version_control_are_ignored_in_a_git_repository(
    nix: Nix, tmp_path: Path
) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake", "from git")
    (flake / ".env").write_text("PASSWORD=hush")
    (flake / ".env").chmod(0o600)
    require("git", "install git")
    for command in (["git", "init", "-q"], ["git", "add", "flake.nix"]):
        store.run("env", "-C", str(flake), *command)
    for number, reference in enumerate((str(flake), f"git+file://{flake}")):
        volume = make_place(tmp_path / f"volume{number}")
        inside = run([NixProfile(reference)], volume, launch).launch
        assert inside.env["GREETING"] == "from git"


def test_a_missing_nix_is_reported_in_one_line_with_the_cure(
    nix: Nix, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, launch = nix
    monkeypatch.setattr("provisioner.hydration.steps.nix.tool._USUAL", "~/nowhere")
    bare = replace(launch, env={**launch.env, "PATH": "/nonexistent"})
    with pytest.raises(HydrationFailed, match=r"no Nix on this machine: install it") as failure:
        run([NixProfile(str(store.flake(tmp_path / "flake")))], place, bare)
    assert "\n" not in str(failure.value)


def test_a_changed_input_is_found_and_named(nix: Nix, place: Place, tmp_path: Path) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake")
    steps = [NixProfile(str(flake), watch=("deps.toml",))]
    run(steps, place, launch)
    (flake / "deps.toml").write_text("a = 1")
    assert run(steps, place, launch).report[0].changed == (str(flake / "deps.toml"),)
    store.flake(flake, "changed")
    hydrated = run(steps, place, launch)
    assert hydrated.report[0].changed == (str(flake / "flake.nix"),)
    assert hydrated.launch.env["GREETING"] == "changed"
    assert run(steps, place, launch).report[0].hit


def test_a_lock_file_that_nix_writes_does_not_invalidate_its_own_result(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    other = store.flake(tmp_path / "other")
    flake = store.flake(tmp_path / "flake", settings=f'inputs.other.url = "path:{other}";')
    text = (flake / "flake.nix").read_text().replace("{ self }", "{ self, other }")
    (flake / "flake.nix").write_text(text)
    steps = [NixProfile(f"path:{flake}")]
    assert not run(steps, place, launch).report[0].hit
    assert (flake / "flake.lock").exists()
    assert run(steps, place, launch).report[0].hit


def test_after_a_failed_rehydration_the_old_environment_is_used_only_if_the_kernelspec_allows_it(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake")
    run([NixProfile(str(flake))], place, launch)
    text = (flake / "flake.nix").read_text()
    (flake / "flake.nix").write_text("{ outputs = { self }: broken; }")
    with pytest.raises(HydrationFailed):
        run([NixProfile(str(flake))], place, launch)
    lenient, reported = [NixProfile(str(flake), stale="warn")], Reported()
    hydrated = run(lenient, place, launch, progress=reported)
    assert hydrated.launch.env["GREETING"] == "hello"
    assert "earlier environment is used" in hydrated.report[0].warning
    assert "warning" in reported.text
    assert not run(lenient, place, launch).report[0].hit  # it is tried again at each start
    store.collect()
    assert output_of(place, hydrated.launch, "greet") == "hello"
    (flake / "flake.nix").write_text(text)
    assert run([NixProfile(str(flake))], place, launch).report[0].hit


def test_a_failed_first_hydration_fails_the_start_even_if_stale_is_warn(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    with pytest.raises(HydrationFailed):
        run([NixProfile(str(tmp_path / "missing"), stale="warn")], place, nix[1])


def test_the_collector_keeps_the_environment_of_a_volume_until_the_volume_is_removed(
    nix: Nix, tmp_path: Path
) -> None:
    store, launch = nix
    place = make_place(tmp_path / "one")
    steps = [NixProfile(str(store.flake(tmp_path / "flake", "collected")))]
    shell = Path(run(steps, place, launch).launch.env["NIX_GCROOT"])
    store.collect()
    hydrated = run(steps, place, launch)
    assert hydrated.report[0].hit
    assert output_of(place, hydrated.launch, "greet") == "collected"

    moved = make_place(tmp_path / "two")
    moved.state.rmdir()
    place.state.rename(moved.state)
    with processes_started() as started:
        hydrated = run(steps, moved, launch)
    assert not hydrated.report[0].hit
    assert len(started) == 1  # the root is registered again, nothing is evaluated
    store.collect()
    assert output_of(moved, run(steps, moved, launch).launch, "greet") == "collected"

    NixStore.run(store, "rm", "-r", str(moved.volume))
    store.collect()
    assert not shell.exists()


def test_an_environment_that_was_collected_after_a_move_is_built_again(
    nix: Nix, tmp_path: Path
) -> None:
    store, launch = nix
    place, moved = make_place(tmp_path / "one"), make_place(tmp_path / "two")
    steps = [NixProfile(str(store.flake(tmp_path / "flake", "comes back")))]
    run(steps, place, launch)
    moved.state.rmdir()
    place.state.rename(moved.state)
    store.collect()
    assert output_of(moved, run(steps, moved, launch).launch, "greet") == "comes back"


def test_earlier_environments_and_temporary_links_are_not_kept_as_roots(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake", "first")
    first = run([NixProfile(str(flake))], place, launch).launch
    store.flake(flake, "second", hook="export HOOKED=1")
    run([NixProfile(str(flake))], place, launch)
    assert store.temporary_roots() == []
    assert len(list((place.state / "nix").iterdir())) == 1
    store.collect()
    assert not Path(first.env["NIX_GCROOT"]).exists()


def test_a_cancelled_build_leaves_no_builder_and_no_root(
    nix: Nix, place: Place, tmp_path: Path
) -> None:
    store, launch = nix
    mark = f"{tmp_path}/building"
    dependency = f"touch {mark}; /usr/bin/env MARK={mark} /bin/sleep 300"
    flake = store.flake(tmp_path / "flake", "cancelled", dependency=dependency)
    cancel = Event()

    def cancel_when_building() -> None:
        if Path(mark).exists():
            cancel.set()
        else:
            Timer(0.02, cancel_when_building).start()

    cancel_when_building()
    with pytest.raises(Cancelled):
        run([NixProfile(str(flake))], place, launch, cancel=cancel)
    assert processes_of(mark) == []
    assert list((place.state / "nix").iterdir()) == []
    store.flake(flake, "cancelled")
    assert run([NixProfile(str(flake))], place, launch).launch.env["GREETING"] == "cancelled"


def test_shell_nix_works(nix: Nix, place: Place, tmp_path: Path) -> None:
    store, launch = nix
    expression = store.expression(tmp_path / "shell", "from shell.nix")
    steps = [NixProfile(str(expression.parent))]
    assert run(steps, place, launch).launch.env["GREETING"] == "from shell.nix"
    store.expression(expression.parent, "changed")
    hydrated = run(steps, place, launch)
    assert hydrated.report[0].changed == (str(expression),)
    assert hydrated.launch.env["GREETING"] == "changed"


def test_a_package_and_a_profile_in_the_store_work(nix: Nix, place: Place, tmp_path: Path) -> None:
    store, launch = nix
    package = store.build(store.flake(tmp_path / "flake", "package"))
    profile = tmp_path / "profile"
    profile.symlink_to(package)
    inside = run([NixProfile(str(profile))], place, launch).launch
    assert inside.argv[0] == str(package / "bin/python3")
    assert inside.env["JUPYTER_PATH"] == str(package / "share/jupyter")
    assert inside.env["XDG_DATA_DIRS"] == str(package / "share")
    profile.unlink()
    store.collect()
    assert output_of(place, inside, "greet") == "package"


def test_a_recorded_development_shell_works(nix: Nix, place: Place, tmp_path: Path) -> None:
    store, launch = nix
    flake = store.flake(tmp_path / "flake", "recorded", hook="export HOOKED=1")
    profile = tmp_path / "profile"
    store.run("nix", "print-dev-env", "--profile", str(profile), f"path:{flake}")
    inside = run([NixProfile(str(profile))], place, launch).launch
    assert (inside.env["GREETING"], inside.env["HOOKED"]) == ("recorded", "1")


def test_a_forced_hydration_evaluates_again(nix: Nix, place: Place, tmp_path: Path) -> None:
    store, launch = nix
    steps = [NixProfile(str(store.flake(tmp_path / "flake")))]
    run(steps, place, launch)
    reported = Reported()
    run(steps, place, launch, progress=reported, force=True)
    assert "evaluating" in reported.text


@pytest.mark.parametrize("damage", ["record", "root", "half", "text"])
def test_a_damaged_environment_is_hydrated_again(
    nix: Nix, place: Place, tmp_path: Path, damage: str
) -> None:
    store, launch = nix
    steps = [NixProfile(str(store.flake(tmp_path / "flake")))]
    first = run(steps, place, launch)
    record = place.state / "nix.json"
    if damage == "record":
        record.unlink()
    elif damage == "root":
        next((place.state / "nix").iterdir()).unlink()
    elif damage == "half":
        record.write_bytes(record.read_bytes()[:50])
    else:
        record.write_text(json.dumps({"schema": "1", "environment": 5}))
    hydrated = run(steps, place, launch)
    assert not hydrated.report[0].hit
    assert hydrated.launch == first.launch
    assert run(steps, place, launch).report[0].hit


def test_the_login_of_a_reference_is_neither_reported_nor_stored(
    nix: tuple[NixStore, Launch], place: Place
) -> None:
    step, reported = NixProfile("git+http://me:hush@127.0.0.1:9/flake"), Reported()
    with pytest.raises(HydrationFailed) as failure:
        run([step], place, nix[1], progress=reported)
    for said in (reported.text, str(failure.value), place.log.read_text()):
        assert "127.0.0.1:9/flake" in said
        assert "hush" not in said
