"""The fast reader of small files accepts nothing that the general reader would read differently."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.backup.decompressor import Decompressor
from provisioner.backup.format import header
from provisioner.backup.format.entry import Entry, read_entry
from provisioner.backup.format.header import Made
from provisioner.backup.small_files import read_small_files
from provisioner.core.errors import BackupDamaged
from provisioner.core.progress import no_progress
from tests.support.trees import archive_of

FILE = Made(0o100640, 1000, 100, 5, 1_700_000_000_123_456_789)
CONTENT = b"hello"


def _member(path: bytes = b"below/name.txt", status: Made = FILE) -> bytes:
    pieces = header.small_file(path, status)
    assert len(pieces) == 6, "a plain file"
    return b"".join(pieces) + CONTENT + header.padding(len(CONTENT))


@pytest.fixture(scope="module")
def whole_backup(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    source = tmp_path_factory.mktemp("source")
    (source / "file").write_text("x")
    return archive_of(source)[0]


def _decompressed(whole_backup: bytes, archive: bytes) -> Decompressor:
    """Open a backup as if ``archive`` was the part of it that was decompressed."""
    opened = Decompressor(io.BytesIO(whole_backup), threading.Event(), no_progress)
    opened.piece = archive
    return opened


def _read_fast(whole_backup: bytes, archive: bytes) -> list[Entry]:
    return list(read_small_files(_decompressed(whole_backup, archive), len(archive)))


def test_a_plain_file_is_returned_with_its_content(whole_backup: bytes) -> None:
    opened = _decompressed(whole_backup, _member() * 3)
    entries = list(read_small_files(opened, len(opened.piece)))
    assert [entry.path for entry in entries] == [b"below/name.txt"] * 3
    assert {entry.content for entry in entries} == {CONTENT}
    assert {entry.mtime_ns for entry in entries} == {FILE.st_mtime_ns}
    assert {entry.mode for entry in entries} == {0o640}
    assert opened.offset == len(opened.piece)


def test_a_member_that_is_not_completely_decompressed_is_left_to_the_general_reader(
    whole_backup: bytes,
) -> None:
    member = _member()
    for missing in (1, 512, 513, 1024, len(member) - 1):
        opened = _decompressed(whole_backup, member + member[:-missing])
        assert len(list(read_small_files(opened, len(opened.piece)))) == 1
        assert opened.at == len(member)


def test_the_reader_stops_where_the_members_end(whole_backup: bytes) -> None:
    member = _member()
    opened = _decompressed(whole_backup, member * 3)
    assert len(list(read_small_files(opened, len(member) * 2))) == 2


@pytest.mark.parametrize(
    "path",
    [
        b"../x",
        b"./x",
        b"/x",
        b"a/../x",
        b"a//x",
        b"a/.",
        b"a/..",
        b"..",
        b".",
        b"a/./b",
        b"//",
        b"a/",
    ],
)
def test_a_path_out_of_the_volume_is_declined_and_then_refused(
    whole_backup: bytes, path: bytes
) -> None:
    assert not _read_fast(whole_backup, _member(path))
    with pytest.raises(BackupDamaged):
        read_entry(_decompressed(whole_backup, _member(path)))


# The whole seconds that the record replaces: only the general reader wants digits there.
_REPLACED = range(1024 + 136, 1024 + 148)


@given(data=st.data())
def test_after_any_change_both_readers_agree_or_the_fast_one_declines(
    whole_backup: bytes, data: st.DataObject
) -> None:
    member = bytearray(_member())
    places = st.integers(0, 1535).filter(lambda place: place not in _REPLACED)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        member[place] = data.draw(st.sampled_from(b"\0 ./019_x") | st.integers(0, 255))
    if data.draw(st.booleans()):  # as somebody who forges a backup would
        block = member[1024:1536]
        block[148:156] = b" " * 8
        member[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(block)
    fast = _read_fast(whole_backup, bytes(member))
    if fast:
        general = read_entry(_decompressed(whole_backup, bytes(member)))
        assert fast == [general._replace(content=CONTENT[: general.size])]


def test_the_small_files_of_a_real_archive_are_read_fast(
    whole_backup: bytes, tmp_path: Path
) -> None:
    for number in range(20):
        (tmp_path / f"{number}").write_text("text")
    stream = io.BytesIO(archive_of(tmp_path)[0])
    with Decompressor(stream, threading.Event(), no_progress) as opened:
        assert read_entry(opened).kind == header.DIRECTORY
        assert len(list(read_small_files(opened, opened.trailer.manifest_at))) == 20
