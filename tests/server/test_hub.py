"""A real JupyterHub with the configuration of `docs/guides/jupyterhub.md`: two users, and a named server of one."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
import zstandard

from tests.support.serving import ENABLING, KERNEL, KERNELSPEC, eventually, execute, free_ports
from tests.support.tools import require

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "jupyterhub.md"


class Hub:
    """A running JupyterHub, and an administrator's requests to it."""

    def __init__(self, home: Path, swept: Path) -> None:
        self.homes = home / "homes"
        self.token = secrets.token_hex(16)
        self.port, hub_port, api_port = free_ports(3)
        proxy = require("configurable-http-proxy", "npm install -g configurable-http-proxy")
        block = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert block is not None
        own = f"""
c.JupyterHub.bind_url = "http://127.0.0.1:{self.port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services.append({{"name": "tests", "api_token": {self.token!r}}})
c.JupyterHub.load_roles = [
    {{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "tokens"]}}
]
for service in c.JupyterHub.services:
    if "command" in service:
        service["command"][-1] = "1s"
        service["environment"]["JUPYTER_CONFIG_DIR"] = {str(home / "config")!r}
c.Spawner.args += ["--allow-root", "--VolumePool.sweep_interval=never"]
c.Spawner.environment = {{"JUPYTER_CONFIG_DIR": {str(home / "config")!r}, "JUPYTER_PATH": {str(home / "share")!r}}}
c.Spawner.env_keep = ["PATH", "PYTHONPATH", "LANG"]
c.JupyterHub.cleanup_servers = True
"""
        config = home / "jupyterhub_config.py"
        config.write_text(block.group(1) + own)
        enabled = home / "config" / "jupyter_server_config.d"
        enabled.mkdir(parents=True)
        shutil.copy(ENABLING, enabled)
        settings = {"VolumePool": {"backup_after": "1s"}}
        (home / "config" / "jupyter_volumes_config.json").write_text(json.dumps(settings))
        shutil.copytree(KERNELSPEC, home / "share" / "kernels" / KERNEL)
        _nosy_kernelspec(home / "share" / "kernels" / "nosy")
        self.log_path = home / "hub.log"
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")},
            # The Hub starts `jupyterhub-singleuser` by its name.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "HUB_HOMES": str(self.homes),
            "HUB_SWEPT_ROOTS": str(swept),
        }
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(config)],
                cwd=home,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self.url = f"http://127.0.0.1:{self.port}"
        eventually(self._is_up, 60, "the hub is up")

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.admin("GET", "/hub/api/users").ok
        except requests.ConnectionError:
            return False

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def admin(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.ask(self.token, method, path, body)

    def ask(self, token: str, method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(
            method,
            self.url + path,
            json=body,
            headers={"Authorization": f"token {token}"},
            timeout=60,
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class User:
    """A user with a server on the hub."""

    def __init__(self, hub: Hub, name: str, server: str = "") -> None:
        self.hub = hub
        self.name = name
        self.server = server
        self.home = hub.homes / name
        self.base = f"/user/{name}/{server}".rstrip("/")
        hub.admin("POST", f"/hub/api/users/{name}")
        kind = f"servers/{server}" if server else "server"
        assert hub.admin("POST", f"/hub/api/users/{name}/{kind}").status_code in {201, 202}
        eventually(self._is_up, 60, f"the server of {name} is up")
        made = hub.admin("POST", f"/hub/api/users/{name}/tokens", {})
        assert made.ok, made.text
        self.token = str(made.json()["token"])

    def _is_up(self) -> bool:
        servers = self.hub.admin("GET", f"/hub/api/users/{self.name}").json()["servers"]
        return bool(servers.get(self.server, {}).get("ready"))

    def ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.hub.ask(self.token, method, self.base + path, body)

    def begin(self, path: str, kernel: str = KERNEL) -> dict[str, Any]:
        body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
        begun = self.ask("POST", "/api/sessions", body)
        assert begun.status_code == 201, begun.text
        session: dict[str, Any] = begun.json()
        return session

    def run(self, session: dict[str, Any], code: str) -> str:
        channel = websocket.create_connection(
            f"ws://127.0.0.1:{self.hub.port}{self.base}/api/kernels/{session['kernel']['id']}/channels",
            timeout=60,
            header=[f"Authorization: token {self.token}"],
            http_no_proxy=["127.0.0.1"],
        )
        try:
            return execute(channel, code, 60)
        finally:
            channel.close()

    def volumes(self) -> list[dict[str, Any]]:
        answer = self.ask("GET", "/api/volumes")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["volumes"]
        return found


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    home = tmp_path_factory.mktemp("hub")
    hub = Hub(home, home / "homes" / "bob" / ".local" / "share" / "jupyter" / "volumes")
    try:
        yield hub
    finally:
        hub.stop()


@pytest.fixture(scope="module")
def alice(hub: Hub) -> User:
    return User(hub, "alice")


@pytest.fixture(scope="module")
def bob(hub: Hub) -> User:
    return User(hub, "bob")


def test_users_have_their_own_volumes_and_cannot_reach_those_of_others(
    alice: User, bob: User
) -> None:
    for user in (alice, bob):
        user.run(user.begin("a.ipynb"), f"open('mine', 'w').write({user.name!r})")
    for user in (alice, bob):
        (volume,) = (v for v in user.volumes() if v["notebook"] == "a.ipynb")
        assert Path(volume["path"]).is_relative_to(user.home)
        assert Path(volume["path"], "mine").read_text() == user.name
    assert alice.hub.ask(alice.token, "GET", f"{bob.base}/api/volumes").status_code == 403
    stranger = requests.get(alice.hub.url + alice.base + "/api/volumes", timeout=20)
    assert stranger.status_code == 403 or "login" in stranger.url


def test_a_second_server_of_a_user_is_refused_with_the_kernel_that_holds_the_volume(
    hub: Hub, alice: User
) -> None:
    first = alice.begin("shared.ipynb")
    alice.run(first, "open('kept', 'w').close()")
    second = User(hub, "alice", "second")
    refused = second.begin("shared.ipynb")
    with pytest.raises(websocket.WebSocketBadStatusException):
        second.run(refused, "pass")
    reason = second.ask("GET", f"/api/kernels/{refused['kernel']['id']}").json()["reason"]
    assert first["kernel"]["id"] in reason
    alice.ask("DELETE", f"/api/sessions/{first['id']}")
    second.ask("DELETE", f"/api/sessions/{refused['id']}")
    eventually(lambda: _state(second, "shared.ipynb") == "stopped")
    assert "kept" in second.run(second.begin("shared.ipynb"), "import os; print(os.listdir())")


def test_no_hook_volume_backup_or_log_contains_a_token_of_the_hub(hub: Hub, bob: User) -> None:
    session = bob.begin("secret.ipynb", kernel="nosy")
    code = "import os; print(os.environ.get('JUPYTERHUB_API_TOKEN', ''), end='')"
    token = bob.run(session, code)
    # JupyterHub passes it to kernels; without it the checks below would prove nothing.
    assert len(token) >= 16
    bob.ask("DELETE", f"/api/sessions/{session['id']}")
    eventually(lambda: _backed_up(bob, "secret.ipynb"), 60, "the managed service backs it up")
    (volume,) = (v for v in bob.volumes() if v["notebook"] == "secret.ipynb")
    seen_by_hook = Path(volume["path"], "hook-env").read_text()
    assert "PATH=" in seen_by_hook
    assert "JUPYTERHUB" not in seen_by_hook
    written = [
        path for path in bob.home.glob(".local/share/jupyter/volumes/**/*") if path.is_file()
    ]
    backups = [path for path in written if path.name.endswith(".zst")]
    assert backups
    for path in written:
        assert token.encode() not in path.read_bytes(), path
    for path in backups:
        with open(path, "rb") as packed:
            content = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
            assert token.encode() not in content.read()
    assert token not in hub.log


def _nosy_kernelspec(directory: Path) -> None:
    """Write a kernelspec whose hook writes its environment into the volume."""
    spec = json.loads((KERNELSPEC / "kernel.json").read_text())
    spec["metadata"]["kernel_provisioner"]["config"] = {
        "bootstrap_command": ["sh", "-c", "env > hook-env"]
    }
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(json.dumps(spec))


def _state(user: User, path: str) -> str | None:
    return next((v["state"] for v in user.volumes() if v["notebook"] == path), None)


def _backed_up(user: User, path: str) -> bool:
    return any(v["notebook"] == path and v["backup"] is not None for v in user.volumes())
