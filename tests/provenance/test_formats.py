"""Which kind a file is: by its bytes, whatever it is called, and whatever the bytes are."""

import io
import struct
import zipfile
from pathlib import Path

import c2pa
import media
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance.formats import (
    FORMATS,
    HEAD,
    SIDECAR,
    Format,
    Route,
    first_entry,
    recognise,
)
from assaymark.provenance.routes import READS, SIGNS

BY_NAME = {kind.name: kind for kind in FORMATS}
TOLD_BY_NAME = {
    "DNG", "NEF", "ARW", "ZIP", "text", "Markdown", "XHTML", "XML", "Python", "CSS", "YAML", "TOML",
    "JavaScript", "C", "Java", "shell", "configuration", "INI", "SQL", "TeX", "JSON", "CSV", "Ogg",
    "Matroska", "file",
}  # fmt: skip


@pytest.mark.parametrize("name", media.MEDIA)
def test_a_kind_is_known_by_its_bytes_under_any_name(tmp_path: Path, name: str) -> None:
    path, head = media.write(tmp_path, name), media.media(name)[:HEAD]
    found = recognise(path, head)
    assert found is (SIDECAR if name == "file" else BY_NAME[name])
    if name not in TOLD_BY_NAME:
        for lie in ("a.jpg", "a.txt", "a", "a.JSON", "a.docx") if name != "HTML" else ("a",):
            assert recognise(Path(lie), head) is found
    assert found is not None
    assert recognise(path.with_suffix(path.suffix.upper()), head) is found


def test_every_kind_is_made_by_the_tests_and_has_a_way_in_and_out() -> None:
    assert set(media.MEDIA) == {kind.name for kind in FORMATS} - {"font", "manifest store"} | {
        "file"
    }
    assert len(BY_NAME) == len(FORMATS)
    assert set(SIGNS) == set(READS) == set(Route)
    for kind in FORMATS:
        assert kind.endings
        assert all(ending == ending.lower() and ending[0] == "." for ending in kind.endings)


# Types of the engine that are in no row of the table, and why.
LEFT_OUT = {
    "application/x-c2pa-manifest-store": "a manifest store alone, under an old name",
}


def test_all_that_the_engine_writes_is_in_the_table() -> None:
    """Names and media types that c2pa-rs 0.91 can embed in."""
    ours = {kind.media_type for kind in FORMATS}
    ours |= {ending[1:] for kind in FORMATS for ending in kind.endings}
    other_names = {
        "application/mp4": "video/mp4", "application/svg+xml": "image/svg+xml",
        "application/x-troff-msvideo": "video/x-msvideo", "audio/mp3": "audio/mpeg",
        "audio/mpeg3": "audio/mpeg", "audio/vnd.wave": "audio/wav", "audio/wave": "audio/wav",
        "audio/x-mp3": "audio/mpeg", "audio/x-wav": "audio/wav", "image/dng": "image/x-adobe-dng",
        "image/x-webp": "image/webp", "video/avi": "video/x-msvideo",
        "video/msvideo": "video/x-msvideo",
    }  # fmt: skip
    written = set(c2pa.Builder.get_supported_mime_types())
    assert len(written) >= 92
    assert {name for name in written if other_names.get(name, name) not in ours} == set(LEFT_OUT)
    read_only = set(c2pa.Reader.get_supported_mime_types()) - written
    assert read_only == {"nef", "arw", "image/x-nikon-nef", "image/x-sony-arw"}
    embedded = {kind.media_type for kind in FORMATS if kind.route in (Route.LIBRARY, Route.ZIP)}
    assert embedded <= written


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.svg", b"<svg/>", "SVG"),
        ("a.bin", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a > b -->\n<svg xmlns='x'>", "SVG"),
        ("a", b"<!DOCTYPE svg PUBLIC '-//W3C' 'x'>\n<svg >", "SVG"),
        ("a", b"<!DOCTYPE svg [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]><svg:svg xmlns:svg='x'>", "SVG"),
        ("a.xml", b"<?xml version='1.0'?><svgs>", "XML"),
        ("a.xml", b"<a><svg></svg></a>", "XML"),
        ("a.txt", b"the tag <svg> is for pictures", "text"),
        ("a", b"<!-- <svg> -->", "file"),
        ("a", b"<!-- never closed <svg>", "file"),
        ("a", b"<!DOCTYPE HTML>\n<html>", "HTML"),
        ("a.php", b"<html><?php", "file"),
        ("a.md", b"<html>", "Markdown"),
        ("a.tif", b"MM\0+\0\x08\0\0", "BigTIFF"),
        ("a.mp3", b"\xff\xfb\x90\x64" + b"\0" * 400, "MP3"),
        ("a.mp3", b"\xff\xf1\x50\x80", "file"),  # AAC
        ("a.flac", b"ID3\4\0\0\0\0\x02\1" + b"\0" * 257 + b"fLaC", "FLAC"),
        ("a", b"ID3\4\0\0\0\0\x02\1" + b"\0" * 257 + b"fLaC", "FLAC"),
        ("a.ts", b"G\x40\0" + b"\0" * 200, "file"),  # a broadcast stream, not TypeScript
        ("a.mp4", b"\0\0\0\x18ftypXXXX\0\0\0\0isommp42", "MP4"),
        ("a.heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        ("a.mp4", b"\0\0\0\x10ftypXXXX\0\0\0\0isom", "file"),  # the box ends before the brand
        ("a.npz", b"PK\3\4" + b"\0" * 40, "file"),  # never packed anew
        ("a.docx", b"PK\3\4" + b"\0" * 40, "DOCX"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "file"),  # encrypted, or before 2007
        ("a.gguf", b"GGUF\3\0\0\0", "file"),
        ("a.c2pa", b"\0\0\x10\0jumb", "manifest store"),
        ("a.txt", "caf\u00e9".encode()[:-1], "text"),  # cut in a character
        ("a.txt", "caf\u00e9".encode("utf-16"), "file"),
        ("a.txt", b"caf\xe9 au lait", "file"),
        ("a.txt", b"", "text"),
        ("a.py", b"", "Python"),
        ("a.jpg", b"", None),
        ("a", b"", None),
        ("a.csv", b"a,b\n", "CSV"),
        (".bashrc", b"alias", "file"),
        ("a.svg", b"<?xml version='1.0'?><!--" + b"-long" * 2000, "SVG"),  # the root is out of sight
        ("a.svg", b"no picture", "file"),
    ],
)  # fmt: skip
def test_heads_that_are_easily_mistaken(name: str, head: bytes, expected: str | None) -> None:
    found = recognise(Path(name), head[:HEAD])
    assert (found.name if found else None) == expected


MAGICS = [media.media(name)[:64] for name in ("JPEG", "MP4", "MP3", "DOCX", "SVG", "TIFF", "HEIF")]


@settings(max_examples=300)
@given(
    ending=st.sampled_from(sorted({e for kind in FORMATS for e in kind.endings} | {"", ".x"})),
    start=st.sampled_from([*MAGICS, b"PK\3\4", b"<?xml ", b"<!--", b"ID3", b""]),
    cut=st.integers(0, 64),
    rest=st.binary(max_size=300),
)
def test_a_hostile_head_never_raises(ending: str, start: bytes, cut: int, rest: bytes) -> None:
    found = recognise(Path(f"a{ending}"), start[:cut] + rest)
    assert found is None or isinstance(found, Format)
    assert (found is None) <= (not start[:cut] + rest)


@pytest.mark.parametrize(
    "part", [b"<!--", b"<?", b"<!DOCTYPE ", b" ", b"<!DOCTYPE a[", b"<?a?>", b"<!---->"]
)
def test_a_head_made_to_be_slow_is_not(part: bytes) -> None:
    import time

    start = time.process_time()
    recognise(Path("a"), (part * HEAD)[:HEAD])
    assert time.process_time() - start < 0.5


def test_a_first_entry_that_explodes_is_cut() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("[Content_Types].xml", b"\0" * 50_000_000)
    name, content = first_entry(stream.getvalue()[:HEAD])
    assert name == "[Content_Types].xml"
    assert len(content) <= 1 << 16
    lying = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, 8, 65535
    )
    assert first_entry(lying + b"mimetype") == ("mimetype", b"")
