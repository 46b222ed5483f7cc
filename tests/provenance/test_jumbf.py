"""The reader of manifest stores: what c2pa writes is found, what nobody should write is refused."""

import hashlib
import io
import json
import time
from pathlib import Path

import c2pa
import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from manifest_stores import jpeg_store, jumb, signed_store

from assaymark.provenance.jumbf import Box, manifests, parse, superboxes
from assaymark.reports.errors import InputError

STORE = signed_store()[1]
CBOR = b"\0\0\0\x0acbor\xa0\xa0"


def test_every_manifest_of_c2pa_is_found() -> None:
    file, store = signed_store()
    found = manifests(store)
    with c2pa.Reader("image/jpeg", io.BytesIO(file)) as reader:
        told = json.loads(reader.json())
    (label,) = found
    assert label == told["active_manifest"]
    boxes = found[label]
    claim = cbor2.loads(boxes["c2pa.claim.v2"])
    assert claim["claim_generator_info"]["name"] == "assaymark test"
    for assertion in claim["created_assertions"]:
        assert boxes[assertion["url"].removeprefix("self#jumbf=")]
    assert cbor2.loads(boxes["c2pa.signature"]).tag == 18


def test_offsets_cover_every_byte_once() -> None:
    root = parse(STORE)
    assert (root.start, root.end, root.kind, root.label) == (0, len(STORE), "c2pa", "c2pa")
    for box in root.walk():
        assert box.start < box.content_start <= box.end
        at = box.content_start
        for child in box.children:
            assert child.start == at
            at = child.end
        assert not box.children or at == box.end
    signature = next(box for box in root.walk() if box.label == "c2pa.signature")
    content = signature.children[1]
    (boxes,) = manifests(STORE).values()
    assert STORE[content.content_start : content.end] == boxes["c2pa.signature"]
    assert content.kind == "cbor"
    assert signature.kind == "c2cs"


def test_a_hash_over_a_box_is_the_one_in_the_claim() -> None:
    """C2PA 2.2, section 8.4.2: an assertion's hash is over its superbox without the header."""
    (boxes,) = manifests(STORE).values()
    claim = cbor2.loads(boxes["c2pa.claim.v2"])
    by_label = {box.label: box for box in parse(STORE).walk()}
    for assertion in claim["created_assertions"]:
        box = by_label[assertion["url"].rpartition("/")[2]]
        content = STORE[box.content_start : box.end]
        assert hashlib.sha256(content).digest() == assertion["hash"]


def test_an_extended_size_is_read() -> None:
    plain = jumb(b"c2pa", "c2pa", jumb(b"c2ma", "m", jumb(b"c2cl", "c2pa.claim", CBOR)))
    long = b"\0\0\0\1cbor" + (18).to_bytes(8, "big") + b"\xa0\xa0"
    inner = jumb(b"c2ma", "m", jumb(b"c2cl", "c2pa.claim", long))
    assert manifests(jumb(b"c2pa", "c2pa", inner)) == manifests(plain)
    assert manifests(plain) == {"m": {"c2pa.claim": b"\xa0\xa0"}}


def nested(depth: int) -> bytes:
    box = CBOR
    for _ in range(depth):
        box = jumb(b"c2ma", "x", box)
    return box


def changed(at: int, value: bytes) -> bytes:
    return STORE[:at] + value + STORE[at + len(value) :]


CLAIM = jumb(b"c2cl", "c2pa.claim", CBOR)
REFUSED = {
    "empty": (b"", "0 bytes are left"),
    "text": (b"hello world, no boxes", "bytes: expected"),
    "another box": (CBOR, "expected one JUMBF superbox"),
    "truncated": (STORE[:-1], "says that it has"),
    "bytes after it": (STORE + b"\0", "nothing else"),
    "size 0": (changed(0, bytes(4)), "says that it has 0 bytes"),
    "size 7": (changed(0, b"\0\0\0\7"), "says that it has 7 bytes"),
    "size of 2^63": (b"\0\0\0\1jumb" + b"\x7f" + b"\xff" * 7 + STORE[16:], "says that it has"),
    "no description": (b"\0\0\0\x12jumb" + CBOR, "expected jumd"),
    "a superbox of nothing": (b"\0\0\0\x08jumb", "0 bytes are left"),
    "no label's end": (changed(16 + 17, b"xxxxx"), ""),
    "toggles": (changed(16 + 16, b"\xff"), "toggles"),
    "deep": (nested(17), "nested deeper than 16"),
    "deep without end": (nested(20_000), "nested deeper than 16"),
    "not a store": (jumb(b"json", "x", CBOR), 'of type "json"'),
    "the same manifest twice": (
        jumb(b"c2pa", "c2pa", jumb(b"c2ma", "m", CLAIM), jumb(b"c2ma", "m", CLAIM)),
        'two manifests are labelled "m"',
    ),
    "the same box twice": (
        jumb(b"c2pa", "c2pa", jumb(b"c2ma", "m", CLAIM, CLAIM)),
        'two boxes are labelled "c2pa.claim"',
    ),
    "compressed": (jumb(b"c2pa", "c2pa", jumb(b"c2cm", "m", CBOR)), "is compressed"),
    "a path as a label": (jumb(b"c2pa", "c2pa", jumb(b"c2ma", "a/b", CBOR)), "without / ; ? #"),
    "a control character": (jumb(b"c2pa", "c2pa", jumb(b"c2ma", "a\x1b[2J", CBOR)), "printable"),
    "many boxes": (jumb(b"c2pa", "c2pa", CBOR * 100_001), "more than 100000 boxes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_store_is_refused_with_a_reason(case: str) -> None:
    store, expected = REFUSED[case]
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        manifests(store)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.process_time() - start < 2


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, len(STORE)), st.binary(max_size=6)), max_size=4),
    st.integers(0, len(STORE)),
)
@example([], len(STORE))
def test_no_change_raises_anything_else(changes: list[tuple[int, bytes]], end: int) -> None:
    data = bytearray(STORE[: end if end % 3 == 0 else None])
    for at, value in changes:
        data[at : at + len(value)] = value
    try:
        root = parse(bytes(data))
    except InputError:
        return
    assert root.end == len(data)
    assert all(0 <= box.start < box.content_start <= box.end <= len(data) for box in root.walk())


label = st.text("abc.", min_size=1, max_size=6)
content = st.binary(max_size=20).map(
    lambda data: (8 + len(data)).to_bytes(4, "big") + b"bidb" + data
)
boxes = st.recursive(
    content,
    lambda inner: st.builds(
        lambda name, items: jumb(b"c2ma", name, *items), label, st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=40)
@given(st.lists(boxes, max_size=4))
def test_what_is_written_is_read(items: list[bytes]) -> None:
    store = jumb(b"c2pa", "c2pa", *items)
    root = parse(store)
    assert b"".join(store[box.start : box.end] for box in root.children[1:]) == b"".join(items)

    def again(box: Box) -> bytes:
        if not box.is_superbox:
            return store[box.start : box.end]
        return jumb(b"c2ma", box.label, *map(again, box.children[1:]))

    assert b"".join(map(again, root.children[1:])) == b"".join(items)
    assert all(box.is_superbox for box in superboxes(root))


def test_reading_is_linear() -> None:
    def seconds(count: int) -> float:
        store = jumb(b"c2pa", "c2pa", *(jumb(b"c2ma", f"m{i}", CLAIM) for i in range(count)))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            assert len(manifests(store)) == count
            best = min(best, time.process_time() - start)
        return best

    assert seconds(2000) < 12 * seconds(500) + 0.05


def test_every_public_test_file_is_read(shared: Path) -> None:
    count = 0
    for path in sorted((shared / "data/c2pa/public-testfiles").rglob("*.jp*g")):
        store = jpeg_store(path.read_bytes())
        if store is None:
            continue
        found = manifests(store)
        count += 1
        try:
            with c2pa.Reader("image/jpeg", io.BytesIO(path.read_bytes())) as reader:
                told = json.loads(reader.json())
        except c2pa.C2paError:
            continue
        assert set(told["manifests"]) <= set(found)
        assert told["active_manifest"] == list(found)[-1]
    assert count >= 20
