"""Hostile archives: their checksums are right, but no backup has such content."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import zstandard

from provisioner.backup.format import header
from provisioner.backup.format.header import Made
from provisioner.backup.format.manifest import Manifest
from provisioner.backup.format.trailer import Trailer
from provisioner.core.errors import BackupDamaged, DiskFull, VolumeError
from tests.support.trees import ABOUT, MOMENT, extracted, verified

Dialect = Literal[0, 1, 2]
"""The formats ustar, GNU and pax of tarfile."""
Content = tuple[tarfile.TarInfo, bytes]


def _member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "") -> Content:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), 0o755
    info.mtime = int(MOMENT.timestamp())
    return info, data


MEMORY = 200 << 20
"""How much memory a backup or a restore may use, including Python itself, in bytes."""

TOP = _member("./", tarfile.DIRTYPE)


def _manifest(members: list[Content]) -> Manifest:
    kinds = [info.type for info, _ in members]
    links = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE)
    return Manifest(
        about=ABOUT,
        files=sum(kind not in links for kind in kinds),
        directories=kinds.count(tarfile.DIRTYPE),
        symlinks=kinds.count(tarfile.SYMTYPE),
        hardlinks=kinds.count(tarfile.LNKTYPE),
        bytes=sum(len(data) for _, data in members),
        creator="a stranger",
    )


def _tar(members: list[Content], form: Dialect = 2) -> bytes:
    """Return an archive as tarfile writes it, but ``./`` and ``d/`` keep their slash."""
    stream = io.BytesIO()
    for info, data in members:
        block = info.tobuf(form, "utf-8", "surrogateescape")
        stream.write(_with_slash(block) if info.name == "./" else block)
        stream.write(data + bytes(-len(data) % 512))
    return stream.getvalue()


def _with_slash(ustar: bytes) -> bytes:
    block = bytearray(ustar)
    block[:3] = b"./\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def forge(members: list[Content], manifest: Manifest | None = None, form: Dialect = 2) -> bytes:
    """Return a file with a correct checksum and a manifest with correct counts."""
    return complete(_tar(members, form), manifest or _manifest(members))


def complete(body: bytes, manifest: Manifest) -> bytes:
    """Add the manifest to the members of an archive, compress them, and add the trailer."""
    text = manifest.to_json().encode()
    tar = body + _tar([_member(".volume-backup.json", data=text)], 0)
    tar += bytes(1024)
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(tar)
    digest = hashlib.sha256(frame).hexdigest()
    return frame + Trailer(digest, len(tar), len(body), manifest).to_frame()


def _device() -> Content:
    info, data = _member("device", tarfile.CHRTYPE)
    info.devmajor, info.devminor = 1, 3
    return info, data


def _pax(name: str, **records: str) -> Content:
    info, data = _member(name, data=b"x")
    info.pax_headers = {key.replace("__", "."): value for key, value in records.items()}
    return info, data


REASONS = {
    "write through a link": "contradicts",
    "directory over a link": "contradicts",
    "file over a link": "contradicts",
    "hard link to nothing": "contradicts",
    "hard link through a link": "contradicts",
    "hard link to a directory": "hard link to a directory",
    "same file twice": "contradicts",
    "no directory for a file": "contradicts",
    "device": "kind b'3'",
    "block device": "kind b'4'",
    "fifo": "kind b'6'",
    "unknown kind": "kind b'Q'",
    "no top directory": "own directory",
    "two top directories": "own directory",
    "empty symlink": "no possible target",
    "attribute of the system": "security.capability",
    "unknown record": "LIBARCHIVE",
    "size of no number": "a number",
    "holes out of order": "GNU.sparse",
}
"""Why each archive is refused; the others are refused because a path leads out of the volume."""

HOSTILE: dict[str, list[Content]] = {
    "absolute path": [TOP, _member("/tmp/escaped", data=b"x")],
    "path that goes up": [TOP, _member("../escaped", data=b"x")],
    "path that goes up later": [TOP, _member("a/../../escaped", data=b"x")],
    "path that stays": [TOP, _member("./file", data=b"x")],
    "path with an empty name": [TOP, _member("a//b", data=b"x")],
    "path in a record": [TOP, _pax("ok", path="../escaped")],
    "NUL in a record": [TOP, _pax("ok", path="a\0b")],
    "name of 256 bytes": [TOP, _member("n" * 256, data=b"x")],
    "write through a link": [
        TOP,
        _member("out", tarfile.SYMTYPE, link="/tmp"),
        _member("out/escaped", data=b"x"),
    ],
    "directory over a link": [
        TOP,
        _member("out", tarfile.SYMTYPE, link="/tmp"),
        _member("out/", tarfile.DIRTYPE),
        _member("out/escaped", data=b"x"),
    ],
    "file over a link": [
        TOP,
        _member("out", tarfile.SYMTYPE, link="/tmp/escaped"),
        _member("out", data=b"x"),
    ],
    "hard link outside": [TOP, _member("link", tarfile.LNKTYPE, link="/etc/passwd")],
    "hard link upwards": [TOP, _member("link", tarfile.LNKTYPE, link="../../etc/passwd")],
    "hard link to nothing": [TOP, _member("link", tarfile.LNKTYPE, link="nothing")],
    "hard link through a link": [
        TOP,
        _member("etc", tarfile.SYMTYPE, link="/etc"),
        _member("link", tarfile.LNKTYPE, link="etc/passwd"),
    ],
    "hard link to a directory": [
        TOP,
        _member("d/", tarfile.DIRTYPE),
        _member("d/link", tarfile.LNKTYPE, link="d"),
    ],
    "device": [TOP, _device()],
    "block device": [TOP, _member("device", tarfile.BLKTYPE)],
    "fifo": [TOP, _member("fifo", tarfile.FIFOTYPE)],
    "unknown kind": [TOP, _member("odd", b"Q")],
    "same file twice": [TOP, _member("a", data=b"1"), _member("a", data=b"2")],
    "no directory for a file": [TOP, _member("missing/file", data=b"x")],
    "no top directory": [_member("file", data=b"x")],
    "two top directories": [TOP, TOP],
    "empty symlink": [TOP, _member("link", tarfile.SYMTYPE)],
    "attribute of the system": [TOP, _pax("f", SCHILY__xattr__security__capability="x")],
    "unknown record": [TOP, _pax("f", LIBARCHIVE__something="x")],
    "size of no number": [TOP, _pax("f", size="-5")],
    "holes out of order": [TOP, _pax("f", GNU__sparse__major="1")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    escaped = [Path("/tmp/escaped"), tmp_path / "escaped", tmp_path.parent / "escaped"]
    with pytest.raises(BackupDamaged, match=REASONS.get(name, "leads out")) as found:
        extracted(forge(HOSTILE[name]), tmp_path / "restored")
    assert "\n" not in str(found.value)
    assert str(found.value).endswith("use another backup")
    assert os.listdir(tmp_path) == []
    assert not any(path.exists() for path in escaped)


def test_a_forged_archive_without_a_fault_is_accepted(tmp_path: Path) -> None:
    members = [TOP, _member("file", data=b"x"), _member("link", tarfile.SYMTYPE, link="/etc")]
    extracted(forge(members), tmp_path / "restored")
    assert sorted(os.listdir(tmp_path / "restored")) == ["file", "link"]


def test_gnus_dialect_of_tar_is_refused(tmp_path: Path) -> None:
    data = forge([TOP, _member("n" * 150, data=b"x")], form=tarfile.GNU_FORMAT)
    with pytest.raises(BackupDamaged):
        extracted(data, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_more_members_than_declared_are_refused_at_once(tmp_path: Path) -> None:
    block = _tar([_member("x")], 0)
    few = _manifest([TOP, _member("x")])
    many = _tar([TOP]) + block * 100_000
    seen: list[str] = []
    with pytest.raises(BackupDamaged, match=r"more than its manifest says|contradicts"):
        extracted(
            complete(many, few),
            tmp_path / "restored",
            on_step=seen.append,
        )
    assert not (tmp_path / "restored").exists()


MEASURED = """
import sys, threading
from pathlib import Path
from provisioner.backup.extractor import extract
from provisioner.backup.format import header
from provisioner.backup.archive import verify
from provisioner.core.errors import VolumeError
with open(sys.argv[1], "rb") as stream:
    try:
        if len(sys.argv) > 2:
            extract(stream, Path(sys.argv[2]), cancel=threading.Event())
        else:
            verify(stream, cancel=threading.Event())
        print("accepted")
    except VolumeError as error:
        print(error.code)
# Not ru_maxrss, which on Linux begins with the peak of the parent process.
(line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l]
print(int(line.split()[1]) << 10)
"""


def _outcome_and_peak(data: bytes, path: Path, *into: Path) -> tuple[str, int]:
    """Verify or extract in another process; return the outcome and its peak of memory."""
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, path, *into],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    outcome, peak = done.stdout.split()
    return outcome, int(peak)


def _repeated(member: bytes, count: int) -> bytes:
    """Return a file with the top directory and many copies of one member, all declared."""
    head = _tar([TOP])
    manifest = Manifest(**{**vars(_manifest([TOP])), "files": count})
    text = manifest.to_json().encode()
    end = _tar([_member(".volume-backup.json", data=text)], 0) + bytes(1024)
    context = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    pieces = [context.compress(head)]
    pieces += [context.compress(member * 1000) for _ in range(count // 1000)]
    pieces += [context.compress(end), context.flush()]
    frame = b"".join(pieces)
    at = len(head) + len(member) * count
    digest = hashlib.sha256(frame).hexdigest()
    return frame + Trailer(digest, at + len(end), at, manifest).to_frame()


def test_a_million_members_take_bounded_memory_to_verify(tmp_path: Path) -> None:
    status = Made(0o644, 0, 0, 0, 1_700_000_000_500_000_000)
    data = _repeated(b"".join(header.small_file(b"x", status)), 1_000_000)
    outcome, peak = _outcome_and_peak(data, tmp_path / "file")
    assert outcome == "accepted"
    assert peak < MEMORY


def test_a_million_members_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    data = _repeated(_tar([_member("x")], 0), 1_000_000)
    outcome, peak = _outcome_and_peak(data, tmp_path / "file", tmp_path / "restored")
    assert outcome == BackupDamaged.code
    assert peak < MEMORY
    assert os.listdir(tmp_path) == ["file"]


def _bomb(declared: int) -> bytes:
    """Return a frame that unpacks to 4 GiB of zeros, as one file."""
    size = 4 << 30
    info, _ = _member("bomb")
    info.size = size
    head = _tar([TOP]) + info.tobuf(0, "utf-8", "strict")
    manifest = Manifest(**{**vars(_manifest([TOP, _member("bomb")])), "bytes": declared})
    context = zstandard.ZstdCompressor(level=1).compressobj()
    pieces = [context.compress(head)]
    zeros = bytes(64 << 20)
    pieces += [context.compress(zeros) for _ in range(size // len(zeros))]
    pieces.append(context.flush())
    frame = b"".join(pieces)
    digest = hashlib.sha256(frame).hexdigest()
    total = declared + 4096
    return frame + Trailer(digest, total, total - 2048, manifest).to_frame()


def test_a_bomb_that_declares_little_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    data = _bomb(declared=1000)
    for into in ((), (tmp_path / "restored",)):
        outcome, peak = _outcome_and_peak(data, tmp_path / "file", *into)
        assert outcome == BackupDamaged.code
        assert peak < MEMORY
    assert os.listdir(tmp_path) == ["file"]


def test_a_bomb_that_declares_more_than_the_disk_holds_is_refused(tmp_path: Path) -> None:
    manifest = Manifest(**{**vars(_manifest([TOP, _member("bomb")])), "bytes": 1 << 60})
    data = b"x" + Trailer("0" * 64, 1 << 60, 1 << 59, manifest).to_frame()
    with pytest.raises(DiskFull, match="bytes free"):
        extracted(data, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_frame_that_wants_a_huge_window_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    context = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = _tar([TOP, _member("f", data=os.urandom(9 << 20))])
    frame = context.compress(body) + context.flush()
    manifest = _manifest([TOP, _member("f", data=bytes(9 << 20))])
    data = (
        frame
        + Trailer(
            hashlib.sha256(frame).hexdigest(), len(body) + 2048, len(body), manifest
        ).to_frame()
    )
    with pytest.raises(BackupDamaged, match="zstd says"):
        extracted(data, tmp_path / "restored")


def _json(change: Callable[[str], str]) -> bytes:
    """Return a trailer in which only the JSON is wrong."""
    manifest = _manifest([TOP])
    text = change(manifest.to_json())

    class Changed(Manifest):
        def to_json(self) -> str:
            return text

    changed = Changed(**vars(manifest))
    return b"x" + Trailer("0" * 64, 2048, 512, changed).to_frame()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"files": 0', '"files": -1'),
        ('"files": 0', '"files": true'),
        ('"files": 0', '"files": "0"'),
        ('"files": 0', '"files": 1e3'),
        ('"files": 0', '"files": 99999999999999999999'),
        ('"files": 0, ', ""),
        ('"files": 0', '"files": 0, "more": 1'),
        ('"format": 1', '"format": 2'),
        ('"format": 1', '"format": "1"'),
        ('"partial": false', '"partial": true'),
        ('"skipped": {"count": 0', '"skipped": {"count": 3'),
        (
            '"skipped": {"count": 0, "paths": []}',
            '"skipped": {"count": 1, "paths": ["\\u001b[2J"]}',
        ),
        ('"created": "2026', '"created": "20x6'),
        ("+00:00", ""),
        ('"volume": "vol-1"', '"volume": null'),
    ],
)
def test_a_hostile_manifest_is_refused(old: str, new: str, tmp_path: Path) -> None:
    data = _json(lambda text: text.replace(old, new))
    with pytest.raises(VolumeError) as found:
        verified(data)
    assert isinstance(found.value, BackupDamaged)
    assert "\n" not in str(found.value)
