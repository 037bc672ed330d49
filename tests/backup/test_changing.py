"""Backups of trees that change or cannot be read, cancelled work, and exclusions."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from provisioner.backup.destinations.urls import destination_for
from provisioner.backup.format.manifest import Manifest
from provisioner.backup.writer import Written, write_archive
from provisioner.core.errors import BackupFailed, Cancelled, ConfigError
from tests.support.children import Child
from tests.support.trees import ABOUT, archive_of, back_up, bring_back, extracted, see, verified

NOBODY = 65534


def _checked(data: bytes, into: Path) -> Manifest:
    """Verify and restore an archive; return its manifest."""
    manifest = verified(data)
    return extracted(data, into) and manifest


def _archive_with(top: Path, change: Callable[[], None]) -> tuple[bytes, Written]:
    """Back up; call `change` after the first directory."""
    waiting = [change]
    return archive_of(top, on_step=lambda step: waiting.pop()() if waiting else None)


def _as_nobody(work: Callable[[], None]) -> None:
    """Run `work` in a child process without root's right to read everything."""

    def unprivileged() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        work()

    with Child(unprivileged) as child:
        assert child.said() == "None"


def test_unreadable_files_and_directories_are_named_and_make_the_backup_partial(
    tmp_path: Path,
) -> None:
    top = tmp_path / "volume"
    (top / "closed").mkdir(parents=True)
    (top / "closed" / "inside").write_bytes(b"x")
    (top / "secret").write_bytes(b"x")
    (top / "readable").write_bytes(b"r")
    for path in (tmp_path, top, top / "closed", top / "secret", *tmp_path.parents[:3]):
        os.chmod(path, 0o755)
    archive = tmp_path / "archive"
    archive.touch()
    archive.chmod(0o666)
    (top / "secret").chmod(0)
    (top / "closed").chmod(0)
    if os.getuid() == 0:
        for path in (top / "secret", top / "closed"):
            os.chown(path, NOBODY, NOBODY)

    def work() -> None:
        archive.write_bytes(archive_of(top)[0])

    _as_nobody(work)
    (top / "closed").chmod(0o700)
    manifest = _checked(archive.read_bytes(), tmp_path / "restored")
    assert manifest.partial
    assert set(manifest.unreadable.paths) == {"secret", "closed"}
    restored = see(tmp_path / "restored")
    assert restored[b"readable"].content == b"r"
    assert restored[b"closed"].mode & 0o777 == 0
    assert b"secret" not in restored


def test_what_vanishes_during_the_backup_is_named(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    (top / "later" / "deeper").mkdir(parents=True)
    (top / "stays").write_bytes(b"s")

    def vanish() -> None:
        (top / "later" / "deeper").rmdir()
        (top / "later").rmdir()

    data, written = _archive_with(top, vanish)
    assert written.manifest.vanished.paths == ("later",)
    assert _checked(data, tmp_path / "restored").partial


def test_a_directory_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    (top / "later").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"not in the volume")

    def replace() -> None:
        (top / "later").rmdir()
        (top / "later").symlink_to(tmp_path / "outside")

    data, written = _archive_with(top, replace)
    assert written.manifest.vanished.paths == ("later",)
    assert written.manifest.files == 0
    assert _checked(data, tmp_path / "restored").partial


@pytest.mark.parametrize("size", [10, 1 << 20, 40 << 20])
@pytest.mark.parametrize("grow", [True, False])
def test_a_file_that_grows_or_shrinks_is_named_and_the_archive_well_formed(
    tmp_path: Path, size: int, grow: bool
) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    path = top / "busy"
    path.write_bytes(b"x" * size)
    stop = threading.Event()

    def keep_changing() -> None:
        while not stop.is_set():
            os.truncate(path, size + 1 if grow else size // 2)
            os.truncate(path, size)

    changer = threading.Thread(target=keep_changing)
    changer.start()
    try:
        for _ in range(500):
            data, written = archive_of(top)
            if written.manifest.changed.count:
                break
        else:
            pytest.fail("500 backups of a file that changes all the time saw no change")
    finally:
        stop.set()
        changer.join()
    assert written.manifest.changed.paths == ("busy",)
    assert _checked(data, tmp_path / "restored").partial


def test_a_skipped_socket_does_not_make_a_backup_partial(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    for number in range(60):
        os.mkfifo(top / f"fifo {number:02}")
    _, written = archive_of(top)
    assert written.manifest.skipped.count == 60
    assert len(written.manifest.skipped.paths) == 50
    assert not written.manifest.partial


def test_cancelling_a_backup_takes_effect_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    (top / "large").write_bytes(os.urandom(32 << 20))
    cancel = threading.Event()
    done: list[int] = []

    def progress(now: int, total: int | None) -> None:
        done.append(now)
        cancel.set()

    with pytest.raises(Cancelled):
        back_up(top, destination_for(tmp_path / "backups"), cancel=cancel, progress=progress)
    assert len(done) == 1
    assert os.listdir(tmp_path / "backups") == []


def test_a_backup_that_fails_leaves_no_thread_for_a_forked_process_to_wait_for(
    tmp_path: Path,
) -> None:
    class Full(BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    (tmp_path / "large").write_bytes(os.urandom(8 << 20))
    threads = psutil.Process().num_threads()
    with pytest.raises(OSError, match="No space") as caught:
        write_archive(tmp_path, Full(), ABOUT, cancel=threading.Event())
    assert caught.tb is not None, "which holds all that the failed call had"
    assert psutil.Process().num_threads() == threads


def test_cancelling_a_restore_leaves_nothing(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    for number in range(50):
        (top / f"directory {number}").mkdir(parents=True)
        (top / f"directory {number}" / "file").write_bytes(os.urandom(200_000))
    place = destination_for(tmp_path / "backups")
    back_up(top, place)
    cancel = threading.Event()
    steps: list[str] = []

    def on_step(step: str) -> None:
        steps.append(step)
        if steps.count("restore:directory") == 3:
            cancel.set()

    started = time.monotonic()
    with pytest.raises(Cancelled):
        bring_back(place, tmp_path / "restored", cancel=cancel, on_step=on_step)
    assert time.monotonic() - started < 60
    assert not (tmp_path / "restored").exists()
    assert steps.count("restore:directory") < 51


def test_a_source_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    place = destination_for(tmp_path / "backups")
    with pytest.raises(BackupFailed, match="no directory"):
        back_up(tmp_path / "missing", place)
    assert not (tmp_path / "backups").exists()


CACHE_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# a cache"


def test_only_the_content_of_a_tagged_cache_is_left_out(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    for name in ("cache", "fake"):
        (top / name / "below").mkdir(parents=True)
        (top / name / "file").write_bytes(b"x")
    (top / "cache" / "CACHEDIR.TAG").write_text(CACHE_SIGNATURE)
    (top / "fake" / "CACHEDIR.TAG").write_text("no signature")
    (top / "CACHEDIR.TAG").write_text(CACHE_SIGNATURE)
    data, written = archive_of(top)
    assert written.manifest.excluded.paths == ("cache",)
    assert not _checked(data, tmp_path / "restored").partial
    restored = see(tmp_path / "restored")
    assert b"cache/CACHEDIR.TAG" in restored
    assert b"cache/file" not in restored
    assert b"cache/below" not in restored
    assert b"fake/file" in restored
    assert b"fake/below" in restored


@pytest.mark.parametrize(
    ("glob", "left_out"),
    [
        ("*.tmp", {"a.tmp", "d/b.tmp", "d/e/c.tmp"}),
        ("/*.tmp", {"a.tmp"}),
        ("d/*.tmp", {"d/b.tmp"}),
        ("d/**/*.tmp", {"d/b.tmp", "d/e/c.tmp"}),
        ("**/c.tmp", {"d/e/c.tmp"}),
        ("d/**", {"d/b.tmp", "d/e"}),
        ("e", {"d/e", "e"}),
        ("e/", {"d/e"}),
        ("?.t[lm]p", {"a.tmp", "d/b.tmp", "d/e/c.tmp"}),
        ("[!a].tmp", {"d/b.tmp", "d/e/c.tmp"}),
        ("[", {"["}),
        ("d", {"d"}),
    ],
)
def test_exclude_globs_mean_what_they_say(tmp_path: Path, glob: str, left_out: set[str]) -> None:
    top = tmp_path / "volume"
    (top / "d" / "e").mkdir(parents=True)
    for name in ("a.tmp", "d/b.tmp", "d/e/c.tmp", "e", "["):
        (top / name).write_bytes(b"x")
    assert set(archive_of(top, exclude=(glob,))[1].manifest.excluded.paths) == left_out


@pytest.mark.parametrize("glob", ["", "/", "!keep", "../x", "a//b", "./x", "[z-a]"])
def test_globs_that_mean_nothing_are_refused(tmp_path: Path, glob: str) -> None:
    with pytest.raises(ConfigError, match="backup_exclude"):
        archive_of(tmp_path, exclude=(glob,))
