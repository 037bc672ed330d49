"""Settings: their sources, which source wins, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from traitlets.config import Application, Config

from provisioner.core.errors import ConfigError
from provisioner.core.policy import Keep
from provisioner.kernel.provisioner import VolumeProvisioner
from provisioner.settings.pool import VolumePool, load_settings
from provisioner.settings.sources import file_config


@pytest.fixture
def user(root: Path, tmp_path: Path) -> Path:
    """The user's directory of configuration files."""
    return tmp_path / "config"


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of configuration files that override the user's."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(directory))
    return directory


def write_py(directory: Path, *lines: str) -> Path:
    """Write jupyter_volumes_config.py."""
    path = directory / "jupyter_volumes_config.py"
    path.write_text("\n".join(lines))
    return path


def write_json(directory: Path, content: object) -> Path:
    """Write jupyter_volumes_config.json."""
    path = directory / "jupyter_volumes_config.json"
    path.write_text(json.dumps(content))
    return path


class Server(Application):
    """An application that has our classes."""

    classes = [VolumePool, VolumeProvisioner]  # noqa: RUF012 - traitlets declares it this way


def command_line(*arguments: str) -> Config:
    """Return the configuration that an application parses from its command line."""
    application = Server()
    application.parse_command_line(list(arguments))
    return application.config


# -- where settings come from --------------------------------------------------------------------------------------


def test_without_any_configuration_the_defaults_apply(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTER_VOLUMES_ROOT")
    settings = load_settings()
    assert settings.enabled
    assert settings.root_path == tmp_path / "data" / "volumes"
    assert settings.destination == str(tmp_path / "data" / "volumes" / "backups")
    assert settings.acquire_timeout is None
    assert settings.max_volumes == 500


def test_each_source_overrides_the_weaker_ones(user: Path, project: Path) -> None:
    """User's file < project's file < application's file < command line, setting by setting."""
    write_py(
        user,
        *(f"c.VolumePool.{name} = 1" for name in ("max_volumes", "headroom", "max_bytes")),
        "c.VolumePool.idle_shutdown = 1",
    )
    write_py(
        project, *(f"c.VolumePool.{n} = 2" for n in ("headroom", "max_bytes", "idle_shutdown"))
    )
    application = Config({"VolumePool": {"max_bytes": 3, "idle_shutdown": 3}})
    application.merge(command_line("--VolumePool.idle_shutdown=4"))
    settings = load_settings(application)
    assert (settings.max_volumes, settings.headroom, settings.max_bytes) == (1, 2, 3)
    assert settings.idle_shutdown == timedelta(seconds=4)


def test_the_environment_variable_overrides_every_other_root(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_py(user, f"c.VolumePool.root = {str(tmp_path / 'file')!r}")
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", str(tmp_path / "variable"))
    line = command_line(f"--VolumePool.root={tmp_path}/line")
    assert load_settings(line).root_path == tmp_path / "variable"
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", "")
    assert load_settings(line).root_path == tmp_path / "line"
    assert load_settings().root_path == tmp_path / "file"


def test_json_overrides_py_in_the_same_directory_as_in_jupyter(user: Path) -> None:
    write_py(user, "c.VolumePool.max_volumes = 1", "c.VolumePool.headroom = 1")
    write_json(user, {"VolumePool": {"max_volumes": 2}})
    settings = load_settings()
    assert (settings.max_volumes, settings.headroom) == (2, 1)
    assert file_config().VolumePool.max_volumes == 2


def test_a_file_may_append_to_the_values_of_weaker_sources(user: Path, project: Path) -> None:
    write_py(user, "c.VolumePool.shell_args = ['-l']", "c.VolumePool.env = {'A': '1'}")
    write_py(project, "c.VolumePool.shell_args.append('-i')", "c.VolumePool.env.update({'B': '2'})")
    settings = load_settings()
    assert settings.shell_args == ["-l", "-i"]
    assert settings.env == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("max_volumes=1", "max_volumes", 1),
        ("enabled=False", "enabled", False),
        ("idle_shutdown=30m", "idle_shutdown", timedelta(minutes=30)),
        ("idle_shutdown=never", "idle_shutdown", None),
        ("acquire_timeout=90", "acquire_timeout", timedelta(seconds=90)),
        ("max_bytes=None", "max_bytes", None),
        ("shell_args=-l", "shell_args", ["-l"]),
        ("env=A=1", "env", {"A": "1"}),
        ("keep_backups=30d", "keep_backups", timedelta(days=30)),
        ("keep_backups=4", "keep_backups", 4),
        ("spares=python3-volume=2", "spares", {"python3-volume": 2}),
    ],
)
def test_the_command_line_sets_every_type_of_setting(
    root: Path, argument: str, name: str, value: object
) -> None:
    assert getattr(load_settings(command_line(f"--VolumePool.{argument}")), name) == value


def test_a_path_that_depends_on_the_current_directory_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", "here")
    with pytest.raises(ConfigError, match=r"VolumePool\.root is 'here', which each process would"):
        load_settings()
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", str(root))
    settings = load_settings(command_line("--VolumePool.backup_destination=bk"))
    with pytest.raises(ConfigError, match=r"VolumePool\.backup_destination is 'bk', which each"):
        settings.policy("python3-volume")
    for place in ("/mnt/bk", "sftp://host/bk", "memory://bk"):
        settings = load_settings(command_line(f"--VolumePool.backup_destination={place}"))
        assert settings.policy("python3-volume").destination == place


def test_a_configuration_file_that_ends_the_process_is_refused(user: Path) -> None:
    (user / "jupyter_volumes_config.py").write_text("import sys; sys.exit(3)")
    with pytest.raises(ConfigError, match=r"cannot be read \(SystemExit: 3\); correct it"):
        load_settings()


def test_a_home_directory_is_expanded_and_an_unknown_one_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", "~/v")
    assert load_settings().root_path == tmp_path / "v"
    monkeypatch.setenv("JUPYTER_VOLUMES_ROOT", "~nobody-of-this-name/v")
    with pytest.raises(ConfigError, match=r"VolumePool\.root is '~nobody-of-this-name/v'"):
        load_settings()


# -- what is refused -----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, object]] = {
    "a misspelt name": ("max_volume", 3),
    "an unknown name": ("colour", "red"),
    "a number for a text": ("root", 3),
    "a text for a number": ("max_volumes", "many"),
    "too few places": ("max_volumes", 0),
    "truth for a number": ("max_volumes", True),
    "a duration of zero": ("idle_shutdown", 0),
    "zero as text": ("prune_after", "0"),
    "a negative duration": ("backup_after", -5),
    "a senseless duration": ("acquire_timeout", "soon"),
    "a millennium": ("prune_after", "999999d"),
    "a text for a switch": ("enabled", "no"),
    "numbers in a list": ("shell_args", [1]),
    "numbers among variables": ("env", {"A": 1}),
    "no backups kept": ("keep_backups", 0),
    "truth for a count": ("keep_backups", True),
    "a misspelt part": ("keep_backups", {"cnt": 3}),
    "a count of zero": ("keep_backups", {"count": 0}),
    "an age of zero": ("keep_backups", {"count": 3, "age": 0}),
    "a policy that is none": ("kernelspec_policy", {"python3": 3}),
    "a policy with an unknown name": ("kernelspec_policy", {"python3": {"max_volumes": 3}}),
    "a policy with a bad value": ("kernelspec_policy", {"python3": {"prune_after": 0}}),
    "a policy that keeps nothing": ("kernelspec_policy", {"python3": {"keep_backups": {"c": 1}}}),
    "fewer spares than none": ("spares", {"python3": -1}),
}


@pytest.mark.parametrize("where", ["py", "json", "application"])
@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_setting_is_refused_with_its_name_and_its_file(
    user: Path, what: str, where: str
) -> None:
    name, value = REFUSED[what]
    application = Config()
    if where == "py":
        label = str(write_py(user, f"c.VolumePool.{name} = {value!r}"))
    elif where == "json":
        label = str(write_json(user, {"VolumePool": {name: value}}))
    else:
        label = "the application's configuration"
        application = Config({"VolumePool": {name: value}})
    with pytest.raises(ConfigError) as caught:
        load_settings(application)
    said = str(caught.value)
    assert said.startswith(f"{label}: VolumePool.{name}")
    assert "\n" not in said
    assert any(cure in said for cure in ("must be", "did you mean", "use "))


def test_a_misspelt_name_is_refused_with_the_right_one(user: Path) -> None:
    write_py(user, "c.VolumePool.max_volume = 3")
    with pytest.raises(ConfigError, match=r"did you mean max_volumes\?"):
        load_settings()


@pytest.mark.parametrize("suffix", ["py", "json"])
@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("VolumesPool", "VolumePool"),
        ("VolumePol", "VolumePool"),
        ("VolumePools", "VolumePool"),
        ("VOLUMEPOOL", "VolumePool"),
        ("Volumepool", "VolumePool"),
        ("VolumeProvisoner", "VolumeProvisioner"),
        ("VolumesProvisioner", "VolumeProvisioner"),
    ],
)
def test_a_misspelt_section_is_refused_with_the_right_one(
    user: Path, suffix: str, misspelt: str, meant: str
) -> None:
    if suffix == "py":
        path = write_py(user, f"c.{misspelt}.max_volumes = 3")
    else:
        path = write_json(user, {misspelt: {"max_volumes": 3}})
    for read in (load_settings, file_config):
        with pytest.raises(ConfigError) as caught:
            read()
        assert str(caught.value) == f"{path}: {misspelt} is not a section; did you mean {meant}?"


@pytest.mark.parametrize("name", ["LocalProvisioner", "SlurmProvisioner", "ServerApp", "Volumes"])
def test_a_section_of_another_program_is_no_error_but_one_warning(
    user: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = write_json(user, {name: {"x": 1}, "VolumePool": {"max_volumes": 7}})
    for _ in range(3):
        assert load_settings().max_volumes == 7
    (warning,) = (r.getMessage() for r in caplog.records)
    assert warning.startswith(f"{path}: {name} is not read from this file")
    assert "VolumePool" in warning
    assert "\n" not in warning


def test_a_section_that_a_file_only_reads_is_no_error(
    user: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_py(
        user, "if c.VolumesPool or c.ServerApp: raise RuntimeError", "c.VolumePool.headroom = 2"
    )
    assert load_settings().headroom == 2
    assert caplog.records == []


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("py", "c.VolumePool.max_volumes = "),
        ("py", "raise RuntimeError('no')"),
        ("py", "c.VolumePool = 3"),
        ("json", "{"),
        ("json", "[1]"),
        ("json", '{"VolumePool": 3}'),
        ("json", '{"VolumePool": ["root"]}'),
        ("json", '{"version": 99}'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(user: Path, suffix: str, content: str) -> None:
    path = user / f"jupyter_volumes_config.{suffix}"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_shows_no_values_of_variables(user: Path) -> None:
    write_py(user, "c.VolumePool.env = {'TOKEN': 'hush-hush', 'N': 1}")
    with pytest.raises(ConfigError, match="'TOKEN', 'N'") as caught:
        load_settings()
    assert "hush" not in str(caught.value)


# -- what is made of them ------------------------------------------------------------------------------------------


def test_the_summary_is_one_line_without_secrets(root: Path) -> None:
    settings = VolumePool(
        root=str(root),
        env={"TOKEN": "hush-hush"},
        backup_destination="s3://key:hush-hush@host/bucket",
        acquire_timeout="90s",
    )
    said = settings.summary()
    assert "hush" not in said
    assert "\n" not in said
    for part in ("TOKEN", "@host/bucket", "acquire_timeout=1m30s", f"root={str(root)!r}"):
        assert part in said


@pytest.mark.parametrize(
    ("written", "keep"),
    [
        (3, Keep(3, None)),
        ("30d", Keep(1, timedelta(days=30))),
        ("never", Keep(None, None)),
        ({"count": 2, "age": "1d"}, Keep(2, timedelta(days=1))),
        ({"age": "1d"}, Keep(1, timedelta(days=1))),
    ],
)
def test_keep_backups_has_three_forms(root: Path, written: object, keep: Keep) -> None:
    settings = load_settings(Config({"VolumePool": {"keep_backups": written}}))
    assert settings.policy("python3").keep == keep


def test_the_policy_of_a_kernelspec_overrides_only_the_settings_that_it_names(root: Path) -> None:
    own = {"r": {"prune_after": "30d", "backup_exclude": ["cache/**"]}}
    settings = load_settings(
        Config({"VolumePool": {"kernelspec_policy": own, "backup_after": "1m"}})
    )
    policy = settings.policy("r")
    assert policy.prune_after == timedelta(days=30)
    assert policy.backup_after == timedelta(minutes=1)
    assert policy.exclude == ("cache/**",)
    assert settings.policy("other").prune_after == timedelta(days=14)


def test_loading_settings_makes_no_directory(root: Path, tmp_path: Path) -> None:
    load_settings()
    assert not root.exists()
    assert sorted(os.listdir(tmp_path)) == ["config", "data", "ipython", "runtime"]


def test_a_refusal_survives_being_sent_to_another_process(user: Path) -> None:
    error = ConfigError("jupyter_volumes_config.py: VolumePool.root is 3;\nit must be text.")
    again = pickle.loads(pickle.dumps(error))
    assert (
        str(again)
        == str(error)
        == ("jupyter_volumes_config.py: VolumePool.root is 3; it must be text.")
    )
    assert again.code == "bad-setting"


# -- what a kernelspec declares ------------------------------------------------------------------------------------


def options_of(config: Config, /, **stanza: object) -> VolumeProvisioner:
    """Return a provisioner as jupyter_client makes it from a kernel.json with this `config` stanza."""
    return VolumeProvisioner(
        parent=KernelManager(config=config, kernel_name="own"),
        kernel_id="k",
        kernel_spec=KernelSpec(),
        **stanza,
    )


def fault_of(provisioner: VolumeProvisioner) -> str:
    """Return the message that the start will be refused with."""
    assert provisioner._fault is not None
    return str(provisioner._fault)


def test_kernel_json_overrides_the_command_line_and_that_the_files(user: Path) -> None:
    write_py(
        user, "c.VolumeProvisioner.env.update({'A': '1'})", "c.VolumeProvisioner.stale = 'warn'"
    )
    given = [
        f"--VolumeProvisioner.{o}" for o in ("overlay=False", "stale=fail", "workdir=notebook")
    ]
    provisioner = options_of(command_line(*given), workdir="volume")
    assert provisioner._fault is None
    options = provisioner.options
    assert (options.workdir, options.overlay, options.stale) == ("volume", False, "fail")
    assert options.env == {"A": "1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("launchr", "local-provisioner"),
        ("colour", "red"),
        ("launcher", 3),
        ("workdir", "home"),
        ("env", {"A": 1}),
        ("env", "A=1"),
        ("overlay", "maybe"),
        ("bootstrap_command", [1]),
        ("bootstrap_timeout", 0),
        ("requirements", 3),
        ("stale", "maybe"),
        ("log", "x"),
        ("config", {}),
    ],
)
def test_a_wrong_option_of_kernel_json_is_refused_with_its_name(
    root: Path, name: str, value: object
) -> None:
    said = fault_of(options_of(Config(), **{name: value}))
    assert f"kernel.json of 'own': config.{name}" in said
    assert "\n" not in said


def test_a_wrong_option_in_the_configuration_is_refused_when_a_kernel_starts(
    root: Path,
) -> None:
    said = fault_of(options_of(Config({"VolumeProvisioner": {"workdir": 3}})))
    assert said == "c.VolumeProvisioner.workdir is 3; it must be any of ['volume', 'notebook']."
