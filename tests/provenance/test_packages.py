"""Packages with packed entries are stored anew without a loss, and never at any price."""

import io
import struct
import zipfile
from pathlib import Path

import media
import pytest

from assaymark.provenance.keys import Chain
from assaymark.provenance.packages import MAX_RATIO
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine
from assaymark.reports.errors import InputError

PACKAGES = [
    name for name in media.MEDIA if media.media(name).startswith(b"PK") and name not in ("ZIP",)
]
CREDENTIAL = "META-INF/content_credential.c2pa"


def entries(data: bytes) -> list[tuple[object, ...]]:
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        return [
            (
                entry.filename, entry.date_time, entry.external_attr, entry.create_system,
                entry.comment, package.read(entry),
            )
            for entry in package.infolist()
            if entry.filename not in (CREDENTIAL, "META-INF/")
        ]  # fmt: skip


def build(folder: Path, name: str, *entries: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as package:
        for entry, content in entries:
            package.writestr(entry, content)
    return folder / name


def entry(name: str, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, (2025, 6, 7, 8, 9, 10))
    made.compress_type, made.external_attr = method, 0o640 << 16
    return made


@pytest.mark.parametrize("name", [*PACKAGES, "ZIP"])
def test_a_signed_package_holds_the_same_entries(tmp_path: Path, chain: Chain, name: str) -> None:
    source = media.write(tmp_path, name)
    out = tmp_path / f"out{source.suffix}"
    sign(source, out, chain.credentials)
    assert entries(out.read_bytes()) == entries(source.read_bytes())
    with zipfile.ZipFile(out) as package:
        assert package.testzip() is None
        assert {item.compress_type for item in package.infolist()} == {zipfile.ZIP_STORED}
        if "mimetype" in package.namelist():
            first = package.infolist()[0]
            assert (first.filename, first.extra, first.header_offset) == ("mimetype", b"", 0)
            assert out.read_bytes()[38:].startswith(package.read("mimetype"))


def test_comments_attributes_and_awkward_names_stay(tmp_path: Path, chain: Chain) -> None:
    noted = entry("with a note.txt")
    noted.comment, noted.extra = b"a note", b"\x99\x99\x02\0ab"
    link = entry("a link")
    link.external_attr = 0o120777 << 16
    made = build(
        tmp_path, "a.zip", (noted, b"x" * 900), (entry("caf\u00e9/\u4e2d.txt"), b"y" * 900),
        (entry("empty/"), b""), (link, b"target"), (entry("stored", zipfile.ZIP_STORED), b"z"),
        (entry("lzma", zipfile.ZIP_LZMA), b"l" * 900), (entry("bz2", zipfile.ZIP_BZIP2), b"b" * 900),
    )  # fmt: skip
    with zipfile.ZipFile(made, "a") as package:
        package.comment = b"of the whole"
    sign(made, tmp_path / "b.zip", chain.credentials)
    assert entries((tmp_path / "b.zip").read_bytes()) == entries(made.read_bytes())
    found = examine(tmp_path / "b.zip", Trust(signers=chain.trust_anchor_pem))
    assert found.state is State.TRUSTED


def test_the_type_comes_first_even_where_it_did_not(tmp_path: Path, chain: Chain) -> None:
    made = build(
        tmp_path,
        "a.epub",
        (entry("b.xhtml"), b"<p/>"),
        (entry("mimetype"), b"application/epub+zip"),
    )
    sign(made, tmp_path / "b.epub", chain.credentials)
    with zipfile.ZipFile(tmp_path / "b.epub") as package:
        assert package.namelist()[0] == "mimetype"
    assert sorted(map(str, entries((tmp_path / "b.epub").read_bytes()))) == sorted(
        map(str, entries(made.read_bytes()))
    )


def encrypted(folder: Path) -> Path:
    path = build(folder, "a.docx", (entry("a.xml"), b"x" * 50))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    return path


def damaged(folder: Path) -> Path:
    path = build(folder, "a.docx", (entry("a.xml"), b"x" * 5000))
    data = bytearray(path.read_bytes())
    data[40] ^= 255
    path.write_bytes(data)
    return path


def bomb(folder: Path) -> Path:
    return build(folder, "a.zip", (entry("a"), b"\0" * (20 << 20)))


def lying(folder: Path) -> Path:
    """An entry that says it unpacks to 10 bytes, and would to 50 million."""
    path = build(folder, "a.zip", (entry("a"), b"\0" * 50_000_000))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        start = data.index(mark) + at
        data[start : start + 4] = struct.pack("<I", 10)
    path.write_bytes(data)
    return path


def twice(folder: Path) -> Path:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return build(folder, "a.zip", (entry("a"), b"1"), (entry("a"), b"2"))


def outside(folder: Path) -> Path:
    return build(folder, "a.zip", (entry("../a"), b"1"))


def cut(folder: Path) -> Path:
    path = build(folder, "a.zip", (entry("a"), b"1" * 500))
    path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (encrypted, "is encrypted"),
        (damaged, "cannot be unpacked"),
        (bomb, f"{MAX_RATIO} times its size"),
        (lying, "cannot be unpacked"),
        (twice, 'two entries "a"'),
        (outside, 'entry "../a" that points out'),
        (cut, "do not hold"),
    ],
)
def test_a_package_better_not_unpacked_is_refused(
    tmp_path: Path, chain: Chain, make: object, expected: str
) -> None:
    source = make(tmp_path)  # type: ignore[operator]
    before = source.read_bytes()
    with pytest.raises(InputError, match=expected):
        sign(source, tmp_path / f"b{source.suffix}", chain.credentials)
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_which_bytes_of_a_signed_package_nothing_covers(tmp_path: Path, chain: Chain) -> None:
    """c2pa leaves the old directory behind, and hashes no header of the entries that it adds.

    No reader shows those bytes; every byte of an entry and of the directory counts.
    """
    source = media.write(tmp_path, "ODT")
    path = tmp_path / "b.odt"
    sign(source, path, chain.credentials)
    data, trust = path.read_bytes(), Trust(signers=chain.trust_anchor_pem)
    with zipfile.ZipFile(path) as package:
        offsets = {item.filename: item.header_offset for item in package.infolist()}
        last = package.infolist()[-3]
        left = last.header_offset + 30 + len(last.filename) + last.file_size
    old = source.read_bytes().count(b"PK\1\2")
    assert data[left : offsets["META-INF/"]].count(b"PK\1\2") == old
    start = offsets[CREDENTIAL] + 30 + len(CREDENTIAL)
    directory = data.rindex(b"PK\1\2", 0, data.rindex(CREDENTIAL.encode()))
    for at in [*range(0, left, 37), *range(directory, len(data), 11)]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert examine(path, trust).state is not State.TRUSTED, at
    for at in range(left, start, 9):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert examine(path, trust).explanation


def test_a_store_under_another_name_in_the_header_is_told(tmp_path: Path, chain: Chain) -> None:
    """One reader of packages goes by the directory, another by the header."""
    source = media.write(tmp_path, "DOCX")
    path = tmp_path / "b.docx"
    sign(source, path, chain.credentials)
    path.write_bytes(path.read_bytes().replace(CREDENTIAL.encode(), b"X" * len(CREDENTIAL), 1))
    found = examine(path, Trust(signers=chain.trust_anchor_pem))
    assert found.state in (State.UNREADABLE, State.INVALID)


@pytest.mark.parametrize("name", ["ZIP", "DOCX", "EPUB"])
@pytest.mark.parametrize("before", ["another package", "an entry's head"])
def test_a_package_behind_other_bytes_is_not_trusted(
    tmp_path: Path, chain: Chain, name: str, before: str
) -> None:
    signed = tmp_path / f"signed{media.write(tmp_path, name).suffix}"
    sign(media.write(tmp_path, name), signed, chain.credentials)
    trust = Trust(signers=chain.trust_anchor_pem)
    assert examine(signed, trust).state is State.TRUSTED
    front = media.other(name) if before == "another package" else b"PK\3\4" + b"unsigned" * 99
    signed.write_bytes(front + signed.read_bytes())
    # a package is read from its end: what stands in front is skipped, and no hash covers it
    found = examine(signed, trust)
    assert found.state is State.UNREADABLE
    assert "in two ways" in found.explanation
