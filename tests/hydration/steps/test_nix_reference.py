from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.steps.nix.reference import Kind, allows, classify
from provisioner.hydration.steps.nix.shell import read_hooked


@pytest.mark.parametrize("reference", ["", "--impure", "-f x", "a\nb", "x\0", "github:a/b\x1b"])
def test_a_text_that_is_no_reference_is_refused_in_one_line(tmp_path: Path, reference: str) -> None:
    with pytest.raises(HydrationFailed, match="no reference") as refusal:
        classify(reference, tmp_path, {})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "reference", ["nixpkgs#hello", "github:owner/repo/branch#shell", "git+https://127.0.0.1/r"]
)
def test_a_remote_flake_reference_is_unchanged(tmp_path: Path, reference: str) -> None:
    found = classify(reference, tmp_path, {})
    assert (found.kind, found.text, found.path) == (Kind.REMOTE, reference, None)


def test_a_local_reference_starts_at_the_volume_and_keeps_its_fragment(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/flake.nix").touch()
    found = classify("./env#gpu", tmp_path, {})
    assert (found.kind, found.text) == (Kind.FLAKE, f"{tmp_path}/env#gpu")
    assert found.copied
    home = classify("path:~/env", Path("/"), {"HOME": str(tmp_path)})
    assert (home.kind, home.text) == (Kind.FLAKE, f"path:{tmp_path}/env")
    part = classify(f"path:{tmp_path}?dir=env", Path("/"), {})
    assert (part.path, part.copied) == (tmp_path / "env", tmp_path)
    (tmp_path / ".git").mkdir()
    assert not classify("./env", tmp_path, {}).copied
    assert classify("path:./env", tmp_path, {}).copied


def test_expressions_and_store_paths_are_distinguished(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("aaa-tool/bin", "aaa-tool/share/flake", "bbb-source"):
        (store / name).mkdir(parents=True)
    (store / "ccc-shell-env").touch()
    (store / "bbb-source/flake.nix").touch()
    (tmp_path / "shell.nix").touch()
    (tmp_path / "profile").symlink_to(store / "aaa-tool")
    env = {"NIX_STORE_DIR": str(store)}
    kinds = {
        name: classify(name, tmp_path, env).kind
        for name in (".", "shell.nix", "./profile", "./store/bbb-source", "./store/ccc-shell-env")
    }
    assert list(kinds.values()) == [
        Kind.FILE, Kind.FILE, Kind.PACKAGES, Kind.FLAKE, Kind.SHELL
    ]  # fmt: skip


def test_a_directory_that_nix_cannot_use_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(HydrationFailed, match=r"put a flake\.nix or a shell\.nix into"):
        classify(str(tmp_path), tmp_path, {})
    with pytest.raises(HydrationFailed, match="does not exist"):
        classify("./nowhere", tmp_path, {})


@pytest.mark.parametrize(
    ("entries", "reference", "allowed"),
    [
        ([], "nixpkgs#hello", False),
        (["nixpkgs#hello"], "nixpkgs#hello", True),
        (["nixpkgs#hello"], "nixpkgs#hello-evil", False),
        (["github:us/*"], "github:us/env/main#gpu", True),
        (["github:us/*"], "github:us/env?host=evil", False),
        (["/srv/flakes/*"], "/srv/flakes/data", True),
        (["/srv/flakes/*"], "/srv/flakes/../../home/me", False),
        (["path:/srv/*"], "path:/srv/%2e%2e/home/me", False),
        (["/srv/flakes/*"], "/srv/flakes2", False),
        (["*"], "--option", False),
    ],
)
def test_only_references_on_the_administrators_list_are_allowed(
    entries: list[str], reference: str, allowed: bool
) -> None:
    assert allows(entries, reference) is allowed


def test_directories_that_a_hook_appends_to_the_path_keep_their_order() -> None:
    before = {"PATH": "/usr/bin:/bin", "LANG": "C"}
    after = b"PATH=/nix/a:/usr/bin:/bin:/last\0LANG=C\0NEW=1\nline\0BASH_FUNC_x%%=() { :; }\0_=/bin/env\0"
    environment = read_hooked(before, after)
    assert environment.directories == {"PATH": ("/nix/a", "/last")}
    assert environment.variables == {"NEW": "1\nline"}
