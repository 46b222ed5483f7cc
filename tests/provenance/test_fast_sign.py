"""Signing in one pass: both engines accept every container, and nothing but the manifest is new."""

import errno
import resource
import signal
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import pytest
from fast_media import DATA_HASHED, FILMS, KINDS, Desk, decoded, desk, make, write_film, write_wav
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance import film, layout, native, onepass, sink
from assaymark.provenance.bmff import Box, boxes
from assaymark.provenance.film import sign_film
from assaymark.provenance.job import Job
from assaymark.provenance.keys import Chain
from assaymark.provenance.onepass import LAYOUTS, sign_by_streams, sign_one_pass
from assaymark.provenance.plain import sign_plain
from assaymark.reports.errors import InputError


@pytest.fixture(scope="module")
def at_desk(chain: Chain) -> Desk:
    return desk(chain)


@pytest.fixture(autouse=True)
def small_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file takes the way of a large one."""
    monkeypatch.setattr(onepass, "SMALL", 0)
    monkeypatch.setattr(film, "LARGE", 0)


@pytest.mark.parametrize("name", DATA_HASHED)
def test_the_copy_is_the_source_and_a_manifest(tmp_path: Path, at_desk: Desk, name: str) -> None:
    source, target = make(tmp_path, name), tmp_path / f"signed.{name}"
    before = source.read_bytes()
    at_desk.sign(sign_one_pass, source, target)
    assert at_desk.accepted(target)
    assert source.read_bytes() == before
    assert target.stat().st_size - len(before) <= 4096
    bare = without_manifest(target)
    if KINDS[name].route.value == "riff":
        assert int.from_bytes(target.read_bytes()[4:8], "little") == target.stat().st_size - 8
        bare = bare[:4] + before[4:8] + bare[8:]
    assert bare == before


@pytest.mark.parametrize("name", DATA_HASHED)
def test_the_library_puts_a_manifest_into_the_same_place(
    tmp_path: Path, at_desk: Desk, name: str
) -> None:
    """At least after the same bytes and before the same ones, whoever wrote it."""
    source = make(tmp_path, name)
    ours, theirs = tmp_path / f"ours.{name}", tmp_path / f"theirs.{name}"
    at_desk.sign(sign_one_pass, source, ours)
    at_desk.sign(sign_plain, source, theirs)
    assert manifest_of(ours).found[0][0] == manifest_of(theirs).found[0][0]


@pytest.mark.parametrize("name", DATA_HASHED)
def test_a_manifest_that_is_there_is_replaced(tmp_path: Path, at_desk: Desk, name: str) -> None:
    source = make(tmp_path, name)
    for way in (sign_plain, sign_one_pass):
        first, again = tmp_path / f"first.{name}", tmp_path / f"again.{name}"
        at_desk.sign(way, source, first)
        at_desk.sign(sign_one_pass, first, again)
        assert at_desk.accepted(again)
        assert without_manifest(again)[8:] == source.read_bytes()[8:]


@pytest.mark.parametrize("name", FILMS)
def test_a_film_plays_as_before(tmp_path: Path, at_desk: Desk, name: str) -> None:
    source, target = make(tmp_path, name), tmp_path / f"signed.{name}"
    at_desk.sign(sign_film, source, target)
    assert at_desk.accepted(target)
    assert decoded(target) == decoded(source) != []
    kinds = [box.kind for box in top(target)]
    assert kinds[:2] == [b"ftyp", b"uuid"]  # before moov and mdat, C2PA 2.4, A.5.3


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}], ids=["moov last", "first"])
def test_every_chunk_offset_points_to_the_same_samples(
    tmp_path: Path, at_desk: Desk, options: dict[str, str]
) -> None:
    source, target = tmp_path / "source.mp4", tmp_path / "signed.mp4"
    write_film(source, **options)
    at_desk.sign(sign_film, source, target)
    old, new = chunk_offsets(source), chunk_offsets(target)
    assert len(old) == len(new) > 0
    before, after = source.read_bytes(), target.read_bytes()
    for a, b in zip(old, new, strict=True):
        assert before[a : a + 64] == after[b : b + 64]
        assert a != b
    assert at_desk.accepted(target)


@pytest.mark.parametrize("boxes_of_samples", [1, 2, 3])
@pytest.mark.parametrize("most", [8192, 3])
def test_every_sample_is_hashed_once(
    tmp_path: Path, at_desk: Desk, monkeypatch: pytest.MonkeyPatch, most: int, boxes_of_samples: int
) -> None:
    """Many leaves, or none for a film of several boxes, which c2pa-rs 0.91 mixes up every other time."""
    for module in (film, sink):
        monkeypatch.setattr(module, "BLOCK", 1024)
    monkeypatch.setattr(film, "_LEAVES", most)
    source, target = make(tmp_path, "mp4"), tmp_path / "signed.mp4"
    more = struct.pack(">I4s", 3080, b"mdat") + bytes(3072)
    source.write_bytes(source.read_bytes() + more * (boxes_of_samples - 1))
    at_desk.sign(sign_film, source, target)
    assert {at_desk.accepted(target) for _ in range(8)} == {True}
    changed = tmp_path / "changed.mp4"
    for box in top(target):
        if box.kind == b"mdat":
            for at in (box.start + 17, box.end - 1):
                changed.write_bytes(resized(at, b"\xaa")(target.read_bytes()))
                assert at_desk.state(changed) == "Invalid"
                assert at_desk.second(changed)[0] == "invalid"


def test_a_long_manifest_gets_the_room_that_it_needs(
    tmp_path: Path, at_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[int] = []
    copy = film._copy

    def counted(*arguments: Any) -> Any:
        copies.append(arguments[-1])
        return copy(*arguments)

    monkeypatch.setattr(film, "_copy", counted)
    monkeypatch.setattr(film, "SPARE", 1024)
    source, target = make(tmp_path, "mp4"), tmp_path / "signed.mp4"
    at_desk.sign(sign_film, source, target)
    assert at_desk.accepted(target)
    assert decoded(target) == decoded(source)
    assert len(copies) == 2
    assert copies[1] < 8000


def test_a_flipped_sample_is_found(tmp_path: Path, at_desk: Desk) -> None:
    source, target = make(tmp_path, "mp4"), tmp_path / "signed.mp4"
    at_desk.sign(sign_film, source, target)
    for box in top(target):
        if box.kind not in (b"mdat", b"moov"):
            continue
        data = bytearray(target.read_bytes())
        data[box.end - 5] ^= 1
        changed = tmp_path / "changed.mp4"
        changed.write_bytes(data)
        assert at_desk.state(changed) == "Invalid"
        assert at_desk.second(changed)[0] == "invalid"


def test_a_film_needs_a_context_that_signs(tmp_path: Path, at_desk: Desk) -> None:
    """Without one, the library writes the film; the result is as good."""
    from dataclasses import replace

    unsigned = replace(at_desk, signing=at_desk.trusting)
    source, target = make(tmp_path, "mp4"), tmp_path / "signed.mp4"
    unsigned.sign(sign_film, source, target)
    assert at_desk.accepted(target)


@pytest.mark.parametrize("hidden", [*native.FUNCTIONS, "version"])
def test_without_a_function_the_plain_way_gives_the_same(
    tmp_path: Path, at_desk: Desk, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    native.available.cache_clear()
    if hidden == "version":
        monkeypatch.setattr(native, "KNOWN", "1.0.")
    else:
        missing = {**native.FUNCTIONS, f"{hidden}_gone": native.FUNCTIONS[hidden]}
        monkeypatch.setattr(native, "FUNCTIONS", missing)
    try:
        assert not native.available()
        for name, way in (("png", sign_one_pass), ("png", sign_by_streams), ("mp4", sign_film)):
            target = tmp_path / f"signed.{name}"
            at_desk.sign(way, make(tmp_path, name), target)
            assert at_desk.accepted(target)
    finally:
        monkeypatch.undo()
        native.available.cache_clear()
    assert native.available()


def resized(at: int, size: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + size + data[at + len(size) :]


HOSTILE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "jpeg without SOI": ("jpg", lambda data: data[2:]),
    "jpeg cut in a segment": ("jpg", lambda data: data[:30]),
    "jpeg with something behind it": ("jpg", lambda data: data + b"more"),
    "png with something behind it": ("png", lambda data: data + b"more"),
    "film of two riff chunks": (
        "avi",
        lambda data: data + b"RIFF\x18\0\0\0AVIXJUNK\x0c\0\0\0" + b"0123456789ab",
    ),
    "jpeg segment of no length": ("jpg", resized(4, b"\0\0")),
    "png without IHDR": ("png", lambda data: data[:8] + data[33:]),
    "png without IEND": ("png", lambda data: data[:-12]),
    "png chunk beyond the end": ("png", resized(33, b"\x7f\xff\xff\xff")),
    "riff that is shorter": ("wav", lambda data: data[:-100]),
    "riff that is longer": ("wav", lambda data: data + bytes(7)),
    "riff of no length": ("wav", resized(4, bytes(4))),
    "riff with something behind it": ("wav", lambda data: data + b"more"),
    "riff chunk beyond the end": ("wav", resized(16, b"\xff\xff\xff\x7f")),
    "box of seven bytes": ("mp4", resized(28, b"\0\0\0\7")),
    "box beyond the end": ("mp4", resized(36, b"\x7f\xff\xff\xff")),
    "film cut in moov": ("mp4", lambda data: data[:-200]),
    "chunk offset to nowhere": (
        "mp4",
        lambda data: resized(data.index(b"stco") + 12, b"\x7f\xff\xff\xff")(data),
    ),
    "mdat without an end": ("mp4", resized(36, bytes(4))),
}


@pytest.mark.parametrize("small", [0, 1 << 18], ids=["large", "small"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_wrong_structure_is_refused_or_signed_right(
    tmp_path: Path, at_desk: Desk, case: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library alone would sign a WAV without its samples, where its header is wrong."""
    monkeypatch.setattr(onepass, "SMALL", small)
    name, change = HOSTILE[case]
    source, target = make(tmp_path, name), tmp_path / f"signed.{name}"
    data = change(source.read_bytes())
    source.write_bytes(data)
    way = sign_film if name == "mp4" else sign_one_pass
    try:
        at_desk.sign(way, source, target)
    except (c2pa.C2paError, InputError):
        pass
    else:
        assert at_desk.state(target) == "Trusted"
        assert data[-30:] in target.read_bytes()
    assert source.read_bytes() == data


@settings(max_examples=12)
@given(
    samples=st.binary(min_size=0, max_size=40),
    chunks=st.lists(
        st.tuples(st.sampled_from([b"LIST", b"note", b"junk"]), st.binary(max_size=9)), max_size=3
    ),
)
def test_any_riff_file_keeps_its_chunks(
    tmp_path_factory: pytest.TempPathFactory,
    at_desk: Desk,
    samples: bytes,
    chunks: list[tuple[bytes, bytes]],
) -> None:
    folder = tmp_path_factory.mktemp("riff")
    source, target = folder / "source.wav", folder / "signed.wav"
    write_wav(source, samples + samples)
    data = source.read_bytes()
    for name, body in chunks:
        data += name + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)
    source.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    at_desk.sign(sign_one_pass, source, target)
    assert at_desk.state(target) == "Trusted"
    assert without_manifest(target)[8:] == data[8:]
    with wave.open(str(target), "rb") as stream:
        assert stream.readframes(stream.getnframes()) == samples + samples


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "buffered"])
@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 22) - 1, 1 << 22, (1 << 23) + 4097])
def test_a_file_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, direct: bool
) -> None:
    monkeypatch.setattr(sink, "DIRECT", 0 if direct else 1 << 40)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(251)) * (size // 251 + 1))
    data = source.read_bytes()[:size]
    target.touch()
    with source.open("rb") as stream, sink.Sink(target, size) as file:
        file.write(b"before")
        assert b"".join(bytes(part) for part in file.copied(stream.fileno(), 0, size)) == data
        file.write(b"after")
        file.patch(b"BE", 0)
        with pytest.raises(OSError, match="became shorter"):
            list(file.copied(stream.fileno(), size, 1 << 30))
    assert target.read_bytes() == b"BEfore" + data + b"after"


@pytest.mark.parametrize("way", [sign_by_streams, sign_one_pass])
def test_a_full_disk_is_an_error_of_the_system(
    tmp_path: Path, at_desk: Desk, way: Callable[[Job], None]
) -> None:
    source = make(tmp_path, "png")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            at_desk.sign(way, source, tmp_path / "signed.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG


# what the tests look at


def manifest_of(path: Path) -> layout.Layout:
    data = path.read_bytes()
    return LAYOUTS[KINDS[path.suffix[1:]].route](
        lambda start, size: data[start : start + size], len(data)
    )


def without_manifest(path: Path) -> bytes:
    data, found = path.read_bytes(), manifest_of(path).found
    assert found
    end = found[-1][1]
    if KINDS[path.suffix[1:]].route.value == "riff":
        end += end & 1
    return data[: found[0][0]] + data[end:]


def top(path: Path) -> list[Box]:
    data = path.read_bytes()
    return list(boxes(lambda start, size: data[start : start + size], 0, len(data)))


def chunk_offsets(path: Path) -> list[int]:
    """Of every stco table, found by its name alone."""
    data, start = path.read_bytes(), 0
    found: list[int] = []
    while (start := data.find(b"stco", start + 1)) > 0:
        (count,) = struct.unpack(">I", data[start + 8 : start + 12])
        found += struct.unpack(f">{count}I", data[start + 12 : start + 12 + 4 * count])
    return found
