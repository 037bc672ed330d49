"""The quick reader of small files accepts nothing that the careful one would read in another way."""

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
from provisioner.backup.format.header import HeaderWriter, Made
from provisioner.backup.usual import usual_files
from provisioner.backup.writer import write_archive
from provisioner.core.errors import BackupDamaged
from tests.support.trees import ABOUT

FILE = Made(0o100640, 1000, 100, 5, 1_700_000_000_123_456_789)
CONTENT = b"hello"


def _member(path: bytes = b"below/name.txt", status: Made = FILE) -> bytes:
    headers = HeaderWriter()
    headers.member(path, header.FILE, status, 0)  # the first of an owner is written the long way
    pieces = headers.file(path, status)
    assert len(pieces) == 6, "a usual file"
    return b"".join(pieces) + CONTENT + header.padding(len(CONTENT))


@pytest.fixture(scope="module")
def whole_backup(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    source = tmp_path_factory.mktemp("source")
    (source / "file").write_text("x")
    stream = io.BytesIO()
    write_archive(source, stream, ABOUT, cancel=threading.Event(), progress=lambda done: None)
    return stream.getvalue()


def _at_hand(whole_backup: bytes, archive: bytes) -> Decompressor:
    """Open a backup as if ``archive`` was what has been decompressed of it."""
    opened = Decompressor(io.BytesIO(whole_backup), threading.Event(), lambda done, total: None)
    opened.piece = archive
    return opened


def _quickly(whole_backup: bytes, archive: bytes) -> list[Entry]:
    return list(usual_files(_at_hand(whole_backup, archive), len(archive)))


def test_a_usual_file_comes_with_its_content(whole_backup: bytes) -> None:
    opened = _at_hand(whole_backup, _member() * 3)
    entries = list(usual_files(opened, len(opened.piece)))
    assert [entry.path for entry in entries] == [b"below/name.txt"] * 3
    assert {entry.content for entry in entries} == {CONTENT}
    assert {entry.mtime_ns for entry in entries} == {FILE.st_mtime_ns}
    assert {entry.mode for entry in entries} == {0o640}
    assert opened.offset == len(opened.piece)


def test_what_is_not_wholly_at_hand_is_left_for_later(whole_backup: bytes) -> None:
    member = _member()
    for missing in (1, 512, 513, 1024, len(member) - 1):
        opened = _at_hand(whole_backup, member + member[:-missing])
        assert len(list(usual_files(opened, len(opened.piece)))) == 1
        assert opened.at == len(member)


def test_no_member_is_begun_where_the_members_end(whole_backup: bytes) -> None:
    member = _member()
    opened = _at_hand(whole_backup, member * 3)
    assert len(list(usual_files(opened, len(member) * 2))) == 2


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
def test_a_path_that_leads_elsewhere_is_declined_and_refused(
    whole_backup: bytes, path: bytes
) -> None:
    assert not _quickly(whole_backup, _member(path))
    with pytest.raises(BackupDamaged):
        read_entry(_at_hand(whole_backup, _member(path)))


# Where the whole seconds stand that the record replaces: the careful reader wants digits even there.
_REPLACED = range(1024 + 136, 1024 + 148)


@given(data=st.data())
def test_whatever_is_changed_both_readers_agree_or_the_quick_one_declines(
    whole_backup: bytes, data: st.DataObject
) -> None:
    member = bytearray(_member())
    places = st.integers(0, 1535).filter(lambda place: place not in _REPLACED)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        member[place] = data.draw(st.sampled_from(b"\0 ./019_x") | st.integers(0, 255))
    if data.draw(st.booleans()):  # as whoever forges a backup would
        block = member[1024:1536]
        block[148:156] = b" " * 8
        member[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(block)
    quick = _quickly(whole_backup, bytes(member))
    if quick:
        careful = read_entry(_at_hand(whole_backup, bytes(member)))
        assert quick == [careful._replace(content=CONTENT[: careful.size])]


def test_a_real_archive_is_read_the_quick_way(whole_backup: bytes, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}").write_text("text")
    stream = io.BytesIO()
    write_archive(tmp_path, stream, ABOUT, cancel=threading.Event(), progress=lambda done: None)
    with Decompressor(stream, threading.Event(), lambda done, total: None) as opened:
        assert read_entry(opened).kind == header.DIRECTORY
        assert read_entry(opened).size == 4  # the first of an owner is written the long way
        opened.take(header.BLOCK)
        assert len(list(usual_files(opened, opened.trailer.manifest_at))) >= 18
