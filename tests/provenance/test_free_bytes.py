"""Every byte of a signed file that can change unseen is named, and text hidden in one is found."""

import io
from pathlib import Path

import c2pa
import pytest
from authorities import EMAIL, authority, pem
from media import MEDIA, media, write
from raw_signing import signed

from assaymark.provenance.c2pa_context import context
from assaymark.provenance.formats import FORMATS, Route
from assaymark.provenance.free_bytes import FreeBytes, cose_item, free_bytes
from assaymark.provenance.keys import new_chain
from assaymark.provenance.sign import sign
from assaymark.provenance.stores import store_of
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine
from assaymark.reports.errors import InputError

ROOT = authority("a root", ca=True)
LEAF = authority("a signer", ROOT, purposes=EMAIL, critical=False)
TRUST = Trust(signers=pem(ROOT))
KINDS = [
    kind
    for kind in FORMATS
    if kind.name in MEDIA and kind.route in (Route.JPEG, Route.PNG, Route.RIFF, Route.BMFF, Route.LIBRARY)
]  # fmt: skip


def look(path: Path) -> FreeBytes:
    found = examine(path, TRUST)
    assert found.state is State.TRUSTED
    return free_bytes(store_of(found), found.label, path)


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return signed(media("JPEG"), LEAF)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_clean_file_has_padding_of_zeros_and_nothing_unexplained(
    tmp_path: Path, kind: object
) -> None:
    name, media_type = kind.name, kind.media_type  # type: ignore[attr-defined]
    path = tmp_path / f"a{kind.endings[0]}"  # type: ignore[attr-defined]
    path.write_bytes(signed(media(name), LEAF, media_type=media_type))
    free = look(path)
    assert free.unexplained == ()
    pads = [item for item in free.ranges if item.what == "COSE pad"]
    assert all(item.zero for item in pads)
    assert sum(item.end - item.start for item in pads) > 500
    pad = pads[0]
    assert free.unknown == ()
    if name == "SVG":  # base64: the ranges count in the store
        assert pad.place == "store"
    else:
        assert pad.place == "file"
        if name != "GIF":  # whose sub-blocks split it
            assert not any(path.read_bytes()[pad.start : pad.end])


def test_text_in_the_padding_is_found(tmp_path: Path, jpeg: bytes) -> None:
    """Trap 8: some 980 bytes fit, and neither engine says a word."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg)
    (pad,) = (item for item in look(path).ranges if item.what == "COSE pad")
    text = (b"meet me at midnight " * 60)[: pad.end - pad.start]
    assert len(text) >= 980
    path.write_bytes(jpeg[: pad.start] + text + jpeg[pad.end :])
    (hidden,) = look(path).unexplained  # and the file is still trusted
    assert (hidden.what, hidden.zero, hidden.start, hidden.end) == (
        "COSE pad", False, pad.start, pad.end,
    )  # fmt: skip


def still_trusted(data: bytes, media_type: str, positions: range) -> list[int]:
    """By the library alone: positions where a flipped bit changes nothing."""
    found = []
    with context(TRUST) as settings:
        for at in positions:
            changed = bytearray(data)
            changed[at] ^= 1
            try:
                with c2pa.Reader(media_type, io.BytesIO(changed), context=settings) as reader:
                    state = reader.get_validation_state()
            except c2pa.C2paError:
                continue
            if state == "Trusted":
                found.append(at)
    return found


EVERY = [pytest.param(name, 1, marks=pytest.mark.long) for name in ("JPEG", "MP4", "WAV", "GIF")]
SAMPLE = [("JPEG", 11), ("MP4", 23), ("WAV", 23), ("GIF", 23)]


@pytest.mark.parametrize(("name", "step"), [*SAMPLE, *EVERY])
def test_each_byte_that_can_change_unseen_is_covered(tmp_path: Path, name: str, step: int) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    data = signed(media(name), LEAF, media_type=kind.media_type)
    start = data.index(b"jumdc2pa") - 200
    end = min(len(data), start + 200 + 4200)
    path = tmp_path / f"a{kind.endings[0]}"
    free = still_trusted(data, kind.media_type, range(max(0, start), end, step))
    assert len(free) > 900 // step
    for at in free:
        changed = bytearray(data)
        changed[at] ^= 1
        path.write_bytes(changed)
        found = examine(path, TRUST)
        told = free_bytes(store_of(found), found.label, path)
        assert any(item.start <= at < item.end for item in told.ranges), (at, told)
        # what is not a number of the format itself is unexplained once it is changed
        (item, *_) = (item for item in told.ranges if item.start <= at < item.end)
        assert not item.explained or item.known


def test_bytes_beside_the_store_are_found(tmp_path: Path, jpeg: bytes) -> None:
    """A second box beside the first segment, where an old exclusion would cover it."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg)
    found = examine(path, TRUST)
    store = store_of(found)
    # a box after the last: the engine ignores it, a strict reader does not
    longer = (len(store) + 16).to_bytes(4, "big") + store[4:] + b"\0\0\0\x10free" + b"SECRETS!"
    (stranger,) = (item for item in free_bytes(longer, found.label).ranges if "free" in item.what)
    assert not stranger.explained
    (broken,) = free_bytes(store[:-1], found.label).ranges
    assert not broken.explained
    assert "not JUMBF" in broken.what


def test_a_manifest_that_nothing_refers_to_is_found(tmp_path: Path, jpeg: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg)
    store = store_of(examine(path, TRUST))
    (tmp_path / "b.jpg").write_bytes(signed(media("JPEG"), LEAF))
    other = examine(tmp_path / "b.jpg", TRUST)
    added = store_of(other)
    head = 8 + int.from_bytes(added[8:12], "big")  # of the store's own description
    both = (len(store) + len(added) - head).to_bytes(4, "big") + store[4:] + added[head:]
    (found,) = (
        item for item in free_bytes(both, examine(path, TRUST).label).ranges if not item.explained
    )
    assert "which nothing refers to" in found.what
    assert found.end - found.start == len(added) - head


@pytest.mark.parametrize(
    "data", [b"", b"\x5f", b"\x9f\x01\xff", b"\x82\x01", b"\xd2" * 40, b"\x58"]
)
def test_cbor_that_cannot_be_followed_is_refused(data: bytes) -> None:
    with pytest.raises((InputError, IndexError)):
        cose_item(data, 0)


@pytest.mark.parametrize("name", ["HTML", "Python", "CSS", "XML"])
def test_a_store_in_text_is_framed_by_its_delimiters_alone(tmp_path: Path, name: str) -> None:
    source, target = write(tmp_path, name), tmp_path / "out"
    chain = new_chain("Example Press")
    sign(source, target / source.name, chain.credentials)
    found = examine(target / source.name)
    free = free_bytes(
        store_of(found), found.label, found.path if found.where == "embedded" else None
    )
    assert (free.unexplained, free.unknown) == ((), ())


def test_a_file_too_large_to_search_is_not_called_clean(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg)
    monkeypatch.setattr("assaymark.provenance.free_bytes.MAX_FILE", len(jpeg) - 1)
    assert look(path).unknown == (f"the file has more than {len(jpeg) - 1} bytes",)
