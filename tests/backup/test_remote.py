"""Backups at real servers, over loopback: an OpenSSH sftp server and an S3 server."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.sftp import SFTPFileSystem

from provisioner.backup.destinations.destination import Destination
from provisioner.backup.destinations.remote import PARTIAL_AGE, RemoteDestination
from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.operation import read_summary, verify_backup
from provisioner.core.errors import (
    BackupDamaged,
    BackupFailed,
    BackupMissing,
    Cancelled,
    ConfigError,
)
from tests.support.tools import require
from tests.support.trees import ABOUT, MOMENT, back_up, bring_back, plant_everything, see


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(command: list[str | Path], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a directory on an sftp server."""
    sshd = require("sshd", "install the package openssh-server")
    home = tmp_path_factory.mktemp("sshd")
    home.chmod(0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True
        )
    (home / "authorized").write_bytes((home / "user.pub").read_bytes())
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port = _free_port()
    (home / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {home}/host\nPidFile {home}/pid\n"
        f"AuthorizedKeysFile {home}/authorized\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nUsePAM no\nSubsystem sftp internal-sftp\n"
    )
    with _running([sshd, "-D", "-e", "-f", home / "config"], port, home / "log"):
        # Other packages (sshfs) replace fsspec's own sftp, which uses paramiko.
        fsspec.register_implementation("sftp", SFTPFileSystem, clobber=True)
        # A URL cannot contain the key; fsspec reads it from its configuration files.
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(fsspec.config.conf, "sftp", {"key_filename": str(home / "user")})
            yield f"sftp://{getpass.getuser()}@127.0.0.1:{port}{home}/backups"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a prefix in a bucket of an S3 server."""
    port = _free_port()
    log = tmp_path_factory.mktemp("s3") / "log"
    code = "from moto.server import main; main()"
    command = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)]
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "loopback",
        "AWS_SECRET_ACCESS_KEY": "loopback",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with _running([*command], port, log), pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        import s3fs  # type: ignore[import-untyped]  # has no types

        s3fs.S3FileSystem().mkdir("a-bucket")
        yield "s3://a-bucket/backups"


@pytest.fixture(params=["directory", "memory", "local", "sftp", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Return an empty destination of each kind."""
    backups, unique = tmp_path / "backups", uuid.uuid4().hex
    urls = {
        "directory": f"file://{backups}",
        "memory": f"memory://{unique}/backups",
        "local": f"local://{backups}",
    }
    return destination_for(
        urls.get(request.param) or f"{request.getfixturevalue(request.param)}/{unique}"
    )


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    plant_everything(tmp_path / "volume")
    (tmp_path / "volume" / "several pieces").write_bytes(os.urandom(11 << 20))
    return tmp_path / "volume"


def test_a_backup_comes_back_from_any_destination(
    place: Destination, volume: Path, tmp_path: Path
) -> None:
    assert place.backups() == []
    backup = back_up(volume, place)
    assert [(b.name, b.size) for b in place.backups()] == [(ABOUT.name, backup.size)]
    with place.open(ABOUT.name) as stream:
        assert stream.seek(0, os.SEEK_END) == backup.size
    assert read_summary(place, ABOUT.name) == backup.manifest
    assert verify_backup(place, ABOUT.name, cancel=threading.Event()) == backup.manifest
    bring_back(place, tmp_path / "restored")
    assert see(tmp_path / "restored") == see(volume)
    with pytest.raises(BackupFailed, match="exists already"):
        back_up(volume, place)
    place.delete(ABOUT.name)
    place.delete(ABOUT.name)
    assert place.backups() == []
    with pytest.raises(BackupMissing, match="has no backup"):
        read_summary(place, ABOUT.name)


@pytest.mark.parametrize("last", ["backup:directory", "put:flushed"])
def test_a_cancelled_backup_leaves_nothing_there(
    place: Destination, volume: Path, last: str
) -> None:
    cancel = threading.Event()

    def on_step(step: str) -> None:
        if step == last:
            cancel.set()

    with pytest.raises(Cancelled):
        back_up(volume, place, cancel=cancel, on_step=on_step)
    if isinstance(place, RemoteDestination):
        assert place._infos() == []
    else:
        assert os.listdir(str(place)) == []


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_backup_that_changed_on_the_way_never_gets_its_final_name(
    volume: Path, tmp_path: Path, scheme: str
) -> None:
    def spoil(step: str) -> None:
        if step == "put:flushed":
            (partial,) = (tmp_path / "backups").iterdir()
            with partial.open("r+b") as file:
                file.seek(partial.stat().st_size // 2)
                byte = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1]))

    with pytest.raises(BackupDamaged):
        back_up(volume, destination_for(f"{scheme}://{tmp_path}/backups"), on_step=spoil)
    assert os.listdir(tmp_path / "backups") == []


def test_a_sweep_deletes_only_partial_files_that_are_old(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    place = RemoteDestination(f"local://{backups}")
    for stamp in ("20260304T050607Z", "20260302T050606Z"):
        (backups / f".partial-{stamp}-{'0' * 16}-x").touch()
    (backups / ".partial-of-somebody-else").touch()
    assert place.sweep_partials(MOMENT) == [f".partial-20260302T050606Z-{'0' * 16}-x"]
    assert place.sweep_partials(MOMENT) == []
    assert len(place.sweep_partials(MOMENT + PARTIAL_AGE + timedelta(seconds=1))) == 1
    assert os.listdir(backups) == [".partial-of-somebody-else"]


def test_a_server_that_is_gone_is_refused_in_one_line() -> None:
    with pytest.raises(BackupFailed, match=r"cannot reach sftp://me:\*\*\*@127\.0\.0\.1") as found:
        destination_for(f"sftp://me:secret@127.0.0.1:{_free_port()}/backups")
    assert "secret" not in str(found.value)
    assert "\n" not in str(found.value)


def test_an_unknown_scheme_is_refused_with_what_to_use() -> None:
    with pytest.raises(ConfigError, match="sftp://, s3://"):
        destination_for("nonsense://x")


def test_a_missing_package_is_named_with_its_cure(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from provisioner.backup.destinations.urls import destination_for\n"
        "from provisioner.core.errors import ConfigError\n"
        "try: destination_for('sftp://x/y')\n"
        "except ConfigError as e: sys.exit('jupyter-volumes[remote]' not in str(e))\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
