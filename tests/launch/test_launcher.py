"""What kernel.json declares, and the launchers that it names."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from provisioner.core.errors import ConfigError, LauncherUnusable
from provisioner.core.event import Kind
from provisioner.hydration.step import Launch
from provisioner.launch.launcher import kernel_within
from provisioner.pool.pool import Pool
from tests.support.kernels import (
    MUTE,
    REAL,
    ask,
    client_of,
    environment,
    install,
    kernel,
    process_of,
    provisioner_of,
    require_free,
)
from tests.support.overlaid import site_packages
from tests.support.pools import wait_for

# -- what kernel.json declares -------------------------------------------------------------------------------------


def test_the_kernelspec_is_never_changed_in_place(here: Pool) -> None:
    manager = KernelManager(kernel_name=REAL)
    spec = manager.kernel_spec
    assert spec is not None
    before = copy.deepcopy(spec.to_dict())
    manager.start_kernel(env=environment("a"))
    manager.restart_kernel(now=True)
    manager.shutdown_kernel(now=True)
    assert spec.to_dict() == before
    assert KernelSpecManager().get_kernel_spec(REAL).to_dict() == before


def test_the_working_directory_may_be_the_notebooks(here: Pool, tmp_path: Path) -> None:
    install("beside", MUTE, workdir="notebook")
    with kernel("beside", cwd=str(tmp_path)) as manager:
        assert process_of(manager).cwd() == str(tmp_path)
        assert process_of(manager).environ()["JUPYTER_VOLUME"] == provisioner_of(manager).volume
    with kernel("mute", cwd=str(tmp_path)) as manager:
        assert process_of(manager).cwd() == provisioner_of(manager).volume


def test_variables_are_added_and_may_refer_to_others(
    here: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {
        "PATH": "/opt/tool/bin:${PATH}",
        "OWN": "$HOME costs $5 ${NONE}",
        "JUPYTER_VOLUME": "/etc",
    }
    install("varied", MUTE, env=declared)
    env = environment("a", HOME="/home/me", POOLS="no", JUPYTER_VOLUME_NOTEBOOK="n.ipynb")
    here.settings.env = {}
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", os.environ["JUPYTER_CONFIG_DIR"])
    config = Path(os.environ["JUPYTER_CONFIG_DIR"]) / "jupyter_volumes_config.json"
    config.write_text(json.dumps({"VolumePool": {"env": {"POOLS": "yes", "OWN": "overridden"}}}))
    with kernel("varied", env=env) as manager:
        found = process_of(manager).environ()
        assert found["PATH"] == f"/opt/tool/bin:{os.environ['PATH']}"
        assert found["OWN"] == "/home/me costs $5 ${NONE}"
        assert found["POOLS"] == "yes"
        assert found["JUPYTER_VOLUME"] == provisioner_of(manager).volume
        assert "JUPYTER_VOLUME_NOTEBOOK" not in found


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("launchr", "x"),
        ("workdir", "home"),
        ("env", {"A": 1}),
        ("env", []),
        ("env", {"A B=": "x"}),
        ("env", {"A": "x\0y"}),
        ("env", {"": "x"}),
        ("launcher", None),
        ("launcher_config", []),
        ("overlay", 3),
    ],
)
def test_a_kernel_json_that_makes_no_sense_is_refused_in_one_line(
    here: Pool, option: str, value: object
) -> None:
    install("senseless", MUTE, **{option: value})
    manager = KernelManager(kernel_name="senseless")
    with pytest.raises(
        ConfigError, match=rf"kernel\.json of 'senseless': config\.{option}"
    ) as caught:
        manager.start_kernel(env=environment("a"))
    assert "\n" not in str(caught.value)
    assert here.volumes() == []


def test_a_kernel_of_another_language_has_a_volume_and_no_overlay(here: Pool) -> None:
    command = f'exec {sys.executable} -m ipykernel_launcher -f "$1"'
    install("other", ["bash", "-c", command, "kernel", "{connection_file}"], "bash")
    with kernel("other") as manager, client_of(manager) as client:
        volume = provisioner_of(manager).volume
        assert ask(client, "os.getcwd()", "import os, sys") == volume
        assert ask(client, "sys.prefix") == sys.prefix
        assert not (Path(str(volume)) / ".volume" / "env").exists()


def test_a_default_provisioner_gives_volumes_to_kernelspecs_that_know_nothing_of_them(
    here: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = install("plain", MUTE)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "metadata": {}}))
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "volume-provisioner")
    KernelProvisionerFactory.clear_instance()
    try:
        with kernel("plain") as manager:
            assert process_of(manager).cwd() == provisioner_of(manager).volume
    finally:
        KernelProvisionerFactory.clear_instance()
    require_free(here)


# -- launchers -----------------------------------------------------------------------------------------------------


LAUNCHERS = '''
import asyncio, os, subprocess
from jupyter_client.connect import port_names
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from provisioner.kernel.provisioner import VolumeProvisioner
from traitlets import Unicode


class Distant(KernelProvisionerBase):
    """Starts processes itself and accepts no arguments of Popen."""

    process = None
    queue = Unicode("default").tag(config=True)

    @property
    def has_process(self):
        return self.process is not None

    async def poll(self):
        return None if self.process is None else self.process.poll()

    async def wait(self):
        while self.process is not None and self.process.poll() is None:
            await asyncio.sleep(0.01)
        self.process = None
        return 0

    async def send_signal(self, signum):
        self.process.send_signal(signum)

    async def kill(self, restart=False):
        self.process.kill()

    async def terminate(self, restart=False):
        self.process.terminate()

    async def cleanup(self, restart=False):
        pass

    async def pre_launch(self, **kwargs):
        self.parent.write_connection_file()
        self.connection_info = self.parent.get_connection_info()
        return await super().pre_launch(cmd=list(self.kernel_spec.argv), **kwargs)

    async def launch_kernel(self, cmd, *, env, cwd, **kwargs):
        assert not kwargs, kwargs
        self.process = subprocess.Popen(cmd, env={**env, "QUEUE": self.queue}, cwd=cwd)
        self.pid = self.process.pid
        return self.connection_info


class Nested(VolumeProvisioner):
    pass


class Wrapping(LocalProvisioner):
    """Starts the command line under another program."""

    async def pre_launch(self, **kwargs):
        prepared = await super().pre_launch(**kwargs)
        return {**prepared, "cmd": ["env", "WRAPPED=yes", *prepared["cmd"], "--log-level=30"]}


class OtherPython(LocalProvisioner):
    """Chooses the interpreter itself."""

    interpreter = Unicode().tag(config=True)

    async def pre_launch(self, **kwargs):
        prepared = await super().pre_launch(**kwargs)
        return {**prepared, "cmd": [self.interpreter, *prepared["cmd"][1:]]}


class OwnEnvironment(LocalProvisioner):
    """Ignores the environment that the caller gives."""

    async def pre_launch(self, **kwargs):
        return await super().pre_launch(**{**kwargs, "env": {"PATH": os.environ["PATH"], "OWN": "yes"}})


class OwnPath(LocalProvisioner):
    """Changes a variable that hydration changes, too."""

    async def pre_launch(self, **kwargs):
        prepared = await super().pre_launch(**kwargs)
        prepared["env"]["PATH"] = "/own/bin:" + prepared["env"]["PATH"]
        return prepared


class OwnPorts(LocalProvisioner):
    """Chooses the ports in its own way."""

    async def pre_launch(self, **kwargs):
        for number, name in enumerate(port_names):
            setattr(self.parent, name, 4700 + number)
        self.ports_cached = True
        return await super().pre_launch(**kwargs)
'''


LAUNCHER_NAMES = (
    "Distant", "Nested", "Wrapping", "OtherPython", "OwnEnvironment", "OwnPath", "OwnPorts",
)  # fmt: skip


@pytest.fixture
def launchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's provisioners, installed where Python looks."""
    package = tmp_path / "site"
    (package / "launchers-1.0.dist-info").mkdir(parents=True)
    (package / "launchers.py").write_text(LAUNCHERS)
    (package / "launchers-1.0.dist-info" / "METADATA").write_text("Name: launchers\nVersion: 1.0\n")
    (package / "launchers-1.0.dist-info" / "entry_points.txt").write_text(
        "[jupyter_client.kernel_provisioners]\n"
        + "".join(f"{name.lower()} = launchers:{name}\n" for name in LAUNCHER_NAMES)
    )
    monkeypatch.syspath_prepend(str(package))


def test_another_packages_launcher_starts_the_process_and_the_volume_is_the_same(
    here: Pool, another_process: Pool, launchers: None
) -> None:
    install("far", MUTE, launcher="distant", launcher_config={"queue": "gpu"})
    with kernel("far") as manager:
        process = process_of(manager)
        assert process.cwd() == provisioner_of(manager).volume
        assert process.environ()["QUEUE"] == "gpu"
        assert process.environ()["JUPYTER_VOLUME_SESSION"] == "a"
        assert another_process.leases.is_held(another_process.find("a"))
        manager.restart_kernel(now=True)
        assert process_of(manager) != process
    require_free(here)


@pytest.mark.parametrize(
    ("launcher", "cure"),
    [
        ("of-no-package", "is not installed; install its package or use one of"),
        ("volume-provisioner", "gives volumes itself; name one that starts the process"),
        ("nested", "gives volumes itself; name one that starts the process"),
    ],
)
def test_a_launcher_that_cannot_start_a_process_is_refused_and_nothing_is_kept(
    here: Pool, launchers: None, launcher: str, cure: str
) -> None:
    install("wrong", MUTE, launcher=launcher)
    manager = KernelManager(kernel_name="wrong")
    with pytest.raises(LauncherUnusable) as caught:
        manager.start_kernel(env=environment("a"))
    assert repr(launcher) in str(caught.value)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)
    require_free(here)


def test_the_information_for_persisting_a_kernel_names_its_session_and_its_launchers_process(
    here: Pool,
) -> None:
    with kernel() as manager:
        info = asyncio.run(provisioner_of(manager).get_provisioner_info())
        assert info["session"] == "a"
        assert info["launcher"]["pid"] == process_of(manager).pid


DECLARED = Launch(("python", "-m", "kernel"), {"A": "1"})


@pytest.mark.parametrize(
    ("command", "kernels_own"),
    [
        (["srun", "-n1", *DECLARED.argv, "--quiet"], [*DECLARED.argv, "--quiet"]),
        (["/other/python", "-m", "kernel"], ["/other/python", "-m", "kernel"]),
        ([], []),
    ],
)
def test_the_kernel_is_what_follows_the_program_that_it_runs_under(
    command: list[str], kernels_own: list[str]
) -> None:
    found = kernel_within(DECLARED, {"cmd": command, "env": {"OWN": "1"}})
    assert found == Launch(tuple(kernels_own), {"OWN": "1"})


# -- launchers that change what the kernelspec declares --------------------------------------------------------------


PYTHON = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def test_a_launcher_that_wraps_the_command_line_starts_the_volumes_environment(
    here: Pool, launchers: None
) -> None:
    install("snake", PYTHON, "python", launcher="wrapping")
    with kernel("snake") as manager:
        for _ in range(2):
            with client_of(manager) as client:
                prefix = f"{provisioner_of(manager).volume}/.volume/env"
                assert ask(client, "sys.prefix", "import os, sys") == prefix
                assert ask(client, "os.environ['WRAPPED']") == "yes"
                path = ask(client, "os.environ['PATH']").split(os.pathsep)
                assert path.count(f"{prefix}/bin") == 1
            assert process_of(manager).cmdline()[-1] == "--log-level=30"
            manager.restart_kernel(now=True)


def test_a_launcher_that_chooses_the_interpreter_starts_the_volumes_environment_of_that_one(
    here: Pool, launchers: None, tmp_path: Path
) -> None:
    prefix = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (prefix / site_packages() / "otherside.py").touch()
    code = (
        "import importlib.util, pathlib, time\n"
        "found = importlib.util.find_spec('otherside') is not None\n"
        "pathlib.Path('found').write_text(str(found))\n"
        "time.sleep(600)"
    )
    config = {"interpreter": str(prefix / "bin" / "python")}
    install(
        "snake", ["python", "-c", code], "python", launcher="otherpython", launcher_config=config
    )
    with kernel("snake") as manager:
        volume = Path(str(provisioner_of(manager).volume))
        for _ in range(2):
            assert volume / ".volume" in Path(process_of(manager).cmdline()[0]).parents
            wait_for(lambda: (volume / "found").is_file() and (volume / "found").read_text() != "")
            assert (volume / "found").read_text() == "True"
            (volume / "found").unlink()
            manager.restart_kernel(now=True)


def test_only_the_interpreter_that_the_launcher_chose_need_exist_and_its_environment_is_made_once(
    here: Pool, launchers: None
) -> None:
    config = {"interpreter": sys.executable}
    sleeping = ["/opt/cluster/bin/python", "-c", "import time; time.sleep(600)"]
    install("there", sleeping, "python", launcher="otherpython", launcher_config=config)
    hits: list[bool] = []
    here.events.subscribe(
        lambda event: hits.append(event.details["hit"]) if event.kind is Kind.HYDRATED else None
    )
    with kernel("there") as manager:
        volume = Path(str(provisioner_of(manager).volume))
        assert volume / ".volume" in Path(process_of(manager).cmdline()[0]).parents
        manager.restart_kernel(now=True)
        assert volume / ".volume" in Path(process_of(manager).cmdline()[0]).parents
    assert hits == [False, True]


def test_a_launcher_with_an_environment_of_its_own_keeps_it_and_gets_variables_that_may_refer_to_it(
    here: Pool, launchers: None
) -> None:
    install("own", MUTE, launcher="ownenvironment", env={"SCRATCH": "/scratch/${OWN}"})
    with kernel("own", env=environment("a", GIVEN="yes")) as manager:
        found = process_of(manager).environ()
        assert found["OWN"] == "yes"
        assert found["SCRATCH"] == "/scratch/yes"
        assert "GIVEN" not in found
        assert found["JUPYTER_VOLUME"] == provisioner_of(manager).volume
        assert found["JUPYTER_VOLUME_SESSION"] == "a"


def test_a_variable_that_launcher_and_hydration_both_change_has_both_changes(
    here: Pool, launchers: None
) -> None:
    install("both", MUTE, launcher="ownpath", env={"PATH": "/declared/bin:${PATH}"})
    with kernel("both") as manager:
        path = process_of(manager).environ()["PATH"]
        assert path == f"/declared/bin:/own/bin:{os.environ['PATH']}"


def test_a_launcher_that_chooses_ports_in_its_own_way_does(here: Pool, launchers: None) -> None:
    install("own", MUTE, launcher="ownports")
    with kernel("own") as manager:
        assert manager.shell_port in range(4700, 4705)


def test_ports_are_chosen_after_the_environment_was_built(here: Pool, tmp_path: Path) -> None:
    connection = tmp_path / "connection.json"
    install("slow", MUTE, bootstrap_command=["test", "!", "-e", str(connection)])
    manager = KernelManager(kernel_name="slow", connection_file=str(connection))
    manager.start_kernel(env=environment("a"))
    manager.shutdown_kernel(now=True)
    assert manager.shell_port


def test_ports_that_the_user_has_chosen_are_left_alone(here: Pool) -> None:
    manager = KernelManager(kernel_name="mute", cache_ports=False, shell_port=4711)
    manager.start_kernel(env=environment("a"))
    try:
        assert manager.shell_port == 4711
    finally:
        manager.shutdown_kernel(now=True)


def test_a_kernel_that_its_launcher_refuses_can_be_shut_down(here: Pool) -> None:
    """jupyter_client recognizes local addresses by their numbers, and refuses this one."""
    manager = KernelManager(kernel_name="mute", ip="localhost")
    with pytest.raises(RuntimeError, match="local interface"):
        manager.start_kernel(env=environment("a"))
    require_free(here)
    manager.shutdown_kernel(now=True)


def test_the_kernelspecs_templates_and_further_arguments_reach_the_kernel(here: Pool) -> None:
    templates = ["{prefix}", "{resource_dir}", "{connection_file}"]
    path = install("templates", ["bash", "-c", "sleep 600; :", *templates])
    content = {**json.loads(path.read_bytes()), "env": {"SPEC": "${GIVEN}:spec"}}
    path.write_text(json.dumps(content))
    env = environment("a", GIVEN="given")
    with kernel("templates", env=env, extra_arguments=["--further"]) as manager:
        for _ in range(2):
            expected = [sys.prefix, str(path.parent), os.path.realpath(manager.connection_file)]
            assert process_of(manager).cmdline()[3:] == [*expected, "--further"]
            assert process_of(manager).environ()["SPEC"] == "given:spec"
            manager.restart_kernel(now=True)
