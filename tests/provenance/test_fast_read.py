"""Reading large files in pieces says word for word what the library says."""

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import pytest
from fast_media import DATA_HASHED, FILMS, KINDS, ONLY_READ, Desk, desk, make

from assaymark.provenance import fast_read, film, native, onepass
from assaymark.provenance.c2pa_context import context
from assaymark.provenance.fast_read import Unknown, manifest_holds, read_fast
from assaymark.provenance.film import sign_film
from assaymark.provenance.keys import Chain
from assaymark.provenance.onepass import LAYOUTS, sign_one_pass
from assaymark.provenance.plain import read_plain, sign_plain
from assaymark.provenance.trust import NOBODY


@pytest.fixture(scope="module")
def at_desk(chain: Chain) -> Desk:
    return desk(chain)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The states that our own way found; every file counts as a large one."""
    states: list[str] = []
    ours = fast_read._read_large

    def seen(*arguments: Any) -> Any:
        found = ours(*arguments)
        states.append(found.document["validation_state"])
        return found

    monkeypatch.setattr(fast_read, "_read_large", seen)
    for module, name in ((fast_read, "LARGE"), (film, "LARGE"), (onepass, "SMALL")):
        monkeypatch.setattr(module, name, 0)
    return states


def outcome(read: Callable[..., Any], path: Path, made: c2pa.Context) -> Any:
    """The whole report but for the time of day, or the error."""
    try:
        document = read(path, KINDS[path.suffix[1:]], made).document
    except c2pa.C2paError as error:
        return type(error), str(error)
    document["validation_results"].pop("validationTime", None)
    return document


def flip(share: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = int(len(data) * share)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return change


def second_store(data: bytes) -> bytes:
    """The same manifest twice, where a container lets it be."""
    at = data.find(b"caBX") - 4
    if at > 0:
        end = at + 12 + int.from_bytes(data[at : at + 4])
        return data[:end] + data[at:end] + data[end:]
    return data + data[-3000:]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "untouched": lambda data: data,
    **{f"flip at {share}": flip(share) for share in (0.0, 0.01, 0.2, 0.5, 0.8, 0.97, 0.999)},
    "appended": lambda data: data + b"0123456789",
    "cut": lambda data: data[:-50],
    "half": lambda data: data[: len(data) // 2],
    "assertion": lambda data: data.replace(b"c2pa.created", b"c2pa.creeted"),
    "certificate": lambda data: data.replace(b"Example Press", b"Example Pross"),
    "wrong algorithm": lambda data: data.replace(b"sha256", b"sha512"),
    "hash": lambda data: data.replace(b"dhashX ", b"dhashX\x21"),
    "two stores": second_store,
    "one byte before": lambda data: data[:2] + data[2:].replace(b"jumb", b"junb", 1),
}


@pytest.mark.parametrize("name", [*DATA_HASHED, *FILMS, *ONLY_READ])
def test_every_change_is_judged_as_the_library_judges_it(
    tmp_path: Path, at_desk: Desk, taken: list[str], name: str
) -> None:
    source = make(tmp_path, name)
    ways = (sign_plain, sign_film if name in FILMS else sign_one_pass)[
        : 1 if name in ONLY_READ else 2
    ]
    nobody = context(NOBODY)
    for way in ways:
        signed, changed = tmp_path / f"signed.{name}", tmp_path / f"changed.{name}"
        at_desk.sign(way, source, signed)
        for label, change in CHANGES.items():
            changed.write_bytes(change(signed.read_bytes()))
            for made in (at_desk.trusting, nobody):
                expected = outcome(read_plain, changed, made)
                assert outcome(read_fast, changed, made) == expected, (label, way.__name__)
    found = name in ("jpg", "png", *FILMS, *ONLY_READ)
    own = {"Trusted", "Valid"} | ({"Invalid"} if found else set())
    assert own <= set(taken)


def with_assertion(path: Path, at_desk: Desk, extra: dict[str, Any]) -> bytes:
    """A PNG whose signed data hash says something else than its file's."""
    data = path.read_bytes()
    with at_desk.builder() as builder, at_desk.signer() as signer:
        size = len(native.data_hash_placeholder(builder, signer, "image/png"))
        exclusions = extra.get("exclusions", lambda n: [(33, n)])(size)
        rest = hashlib.new(extra.get("alg", "sha256"))
        file = data[:33] + bytes(size) + data[33:]
        kept = [
            byte for at, byte in enumerate(file) if not any(s <= at < s + n for s, n in exclusions)
        ]
        rest.update(bytes(kept))
        import json

        assertion = {
            "exclusions": [{"start": start, "length": length} for start, length in exclusions],
            "name": "jumbf manifest",
            "alg": extra.get("alg", "sha256"),
            "hash": list(rest.digest()),
            "pad": [],
        }
        manifest = native._bytes(
            "c2pa_builder_sign_data_hashed_embeddable",
            builder._handle,
            signer._handle,
            json.dumps(assertion).encode(),
            b"image/png",
            None,
        )
    return data[:33] + manifest + data[33:]


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"alg": "sha384"},
        {"alg": "sha512"},
        {"exclusions": lambda size: [(33, size + 40)]},
        {"exclusions": lambda size: [(33, size), (33 + size + 60, 9)]},
        {"exclusions": lambda size: [(0, 33 + size)]},
        {"exclusions": lambda size: [(33, 10), (43, size - 10)]},
    ],
    ids=["as it is", "sha384", "sha512", "wider", "another", "from the start", "in two parts"],
)
def test_what_a_manifest_leaves_out_is_judged_as_the_library_judges_it(
    tmp_path: Path, at_desk: Desk, taken: list[str], extra: dict[str, Any]
) -> None:
    path = tmp_path / "signed.png"
    path.write_bytes(with_assertion(make(tmp_path, "png"), at_desk, extra))
    for change in (CHANGES["untouched"], flip(0.5), flip(0.97)):
        changed = tmp_path / "changed.png"
        changed.write_bytes(change(path.read_bytes()))
        expected = outcome(read_plain, changed, at_desk.trusting)
        assert outcome(read_fast, changed, at_desk.trusting) == expected
    assert bool(taken) is ("exclusions" not in extra)


def test_a_film_hashed_as_one_is_read_in_pieces(
    tmp_path: Path, at_desk: Desk, taken: list[str]
) -> None:
    signed = tmp_path / "signed.mp4"
    at_desk.sign(sign_plain, make(tmp_path, "mp4"), signed)
    assert (
        read_fast(signed, KINDS["mp4"], at_desk.trusting).document["validation_state"] == "Trusted"
    )
    assert taken == ["Trusted"]


@pytest.mark.parametrize(
    "item",
    [
        {"xpath": "/moov/trak"},
        {"xpath": "/moov[1]"},
        {"xpath": "/mdat", "subset": [{"offset": 16, "length": 0}]},
        {"xpath": "/mdat", "length": 7},
        {"xpath": "/uuid", "data": [{"offset": 8, "value": ""}, {"offset": 9, "value": ""}]},
        {"xpath": ""},
        {},
    ],
    ids=["inner", "index", "subset", "length", "two values", "no path", "nothing"],
)
def test_an_exclusion_that_is_not_a_whole_box_is_for_the_library(item: dict[str, Any]) -> None:
    with pytest.raises(Unknown):
        fast_read._exclusion(item)


@pytest.mark.parametrize("name", ["jpg", "mp4"])
def test_a_manifest_is_judged_without_its_file(tmp_path: Path, at_desk: Desk, name: str) -> None:
    signed = tmp_path / f"signed.{name}"
    at_desk.sign(sign_plain, make(tmp_path, name), signed)
    store = store_of(signed)
    found = manifest_holds(store, KINDS[name], at_desk.trusting)
    assert found.document["validation_state"] == "Trusted"
    assert outcome(read_plain, signed, at_desk.trusting) == {
        **found.document,
        "validation_results": {
            key: value
            for key, value in found.document["validation_results"].items()
            if key != "validationTime"
        },
    }
    broken = store.replace(b"c2pa.created", b"c2pa.creeted")
    with pytest.raises(ValueError, match="only the whole file can tell"):
        manifest_holds(broken, KINDS[name], at_desk.trusting)


def store_of(path: Path) -> bytes:
    data = path.read_bytes()
    start = data.index(b"jumb") - 4
    return data[start : start + struct.unpack(">I", data[start : start + 4])[0]]


@pytest.mark.parametrize("name", ["jpg", "png", "wav", "mp4"])
def test_no_file_stays_open(tmp_path: Path, at_desk: Desk, taken: list[str], name: str) -> None:
    signed = tmp_path / f"signed.{name}"
    at_desk.sign(sign_film if name == "mp4" else sign_one_pass, make(tmp_path, name), signed)
    bare = make(tmp_path, name)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read_fast(signed, KINDS[name], at_desk.trusting)
        with pytest.raises(c2pa.C2paError.ManifestNotFound):
            read_fast(bare, KINDS[name], at_desk.trusting)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileNotFoundError):
        read_fast(tmp_path / f"none.{name}", KINDS[name], at_desk.trusting)


def test_a_store_in_many_segments(tmp_path: Path, at_desk: Desk, taken: list[str]) -> None:
    """A JPEG's segment holds 64 KiB; a larger manifest goes on in the next one."""
    signed = tmp_path / "signed.jpg"
    large = Desk(chain=at_desk.chain, trusting=at_desk.trusting, signing=at_desk.signing)
    object.__setattr__(large, "builder", lambda: with_text(at_desk.builder(), "x" * 150_000))
    large.sign(sign_one_pass, make(tmp_path, "jpg"), signed)
    data = signed.read_bytes()
    found = LAYOUTS[KINDS["jpg"].route](lambda at, size: data[at : at + size], len(data)).found
    assert len(found) == 3
    for change in (CHANGES["untouched"], flip(0.999)):
        signed.write_bytes(change(data))
        expected = outcome(read_plain, signed, at_desk.trusting)
        assert outcome(read_fast, signed, at_desk.trusting) == expected
    assert taken == ["Trusted", "Invalid"]


def with_text(builder: c2pa.Builder, text: str) -> c2pa.Builder:
    builder.add_action({"action": "c2pa.edited", "parameters": {"org.example.text": text}})
    return builder


@pytest.mark.parametrize("name", ONLY_READ)
def test_every_byte_around_a_store_is_read_as_the_library_reads_it(
    tmp_path: Path, at_desk: Desk, taken: list[str], name: str
) -> None:
    signed, changed = tmp_path / f"signed.{name}", tmp_path / f"changed.{name}"
    at_desk.sign(sign_plain, make(tmp_path, name), signed)
    data = signed.read_bytes()
    for at in range(data.index(b"jumdc2pa") + 32):
        changed.write_bytes(data[:at] + bytes([data[at] ^ (1, 128, 0x55)[at % 3]]) + data[at + 1 :])
        expected = outcome(read_plain, changed, at_desk.trusting)
        assert outcome(read_fast, changed, at_desk.trusting) == expected, at
    assert taken
