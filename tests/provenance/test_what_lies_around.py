"""What lies around a signed file: pipes, other manifests beside it, boxes that no hash covers."""

import os
import time
from pathlib import Path

import pytest
from media import write
from tampering import find_store

from assaymark.provenance.case import Case
from assaymark.provenance.check import check_provenance
from assaymark.provenance.checked import Demands
from assaymark.provenance.keys import Chain
from assaymark.provenance.rules import judge
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, Verification, examine

HIDDEN = b"what nobody signed" * 9


@pytest.fixture
def film(tmp_path: Path, chain: Chain) -> Path:
    signed = tmp_path / "signed.mp4"
    sign(write(tmp_path, "MP4"), signed, chain.credentials)
    return signed


def trust(chain: Chain) -> Trust:
    return Trust(signers=chain.trust_anchor_pem)


def free_bytes_rule(found: Verification) -> bool:
    return not judge(Case(found=found), {"no_free_bytes": True})


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path, make: object) -> None:
    path = tmp_path / "x.jpg"
    make(path)  # type: ignore[operator]
    found = check_provenance("c", (str(path),), Demands(), folder=tmp_path)
    assert {finding.measure for finding in found.findings} == {"unreadable_files", "trusted_files"}
    assert "no regular file" in str(found.findings[0].error)


@pytest.mark.parametrize("beside", [b"", b"no manifest"])
def test_what_lies_beside_a_good_file_does_not_break_it(
    film: Path, chain: Chain, beside: bytes
) -> None:
    film.with_name("signed.mp4.c2pa").write_bytes(beside)
    found = examine(film, trust(chain))
    assert found.state is State.TRUSTED
    assert "signed.mp4.c2pa cannot be read" in found.notes[0]


def test_free_boxes_are_found_where_the_manifest_is_beside_the_film(
    film: Path, chain: Chain
) -> None:
    data = film.read_bytes()
    store = find_store(data)
    hidden = (HIDDEN * len(data))[: store.end - store.start]
    film.write_bytes(data[: store.start].replace(b"uuid", b"free") + hidden + data[store.end :])
    film.with_name("signed.mp4.c2pa").write_bytes(store.store)
    found = examine(film, trust(chain))
    # no hash covers the box, so the library holds the film for unchanged
    assert (found.state, found.where) == (State.TRUSTED, "sidecar")
    assert not free_bytes_rule(found)


@pytest.mark.parametrize("kind", [b"ftyp", b"free"])
def test_a_box_behind_a_film_is_no_explained_one(film: Path, chain: Chain, kind: bytes) -> None:
    assert free_bytes_rule(examine(film, trust(chain)))
    with film.open("ab") as stream:
        stream.write((8 + len(HIDDEN)).to_bytes(4) + kind + HIDDEN)
    found = examine(film, trust(chain))
    assert found.state is State.TRUSTED
    assert not free_bytes_rule(found)


@pytest.mark.parametrize("inside", [False, True])
def test_a_film_of_very_many_boxes_is_not_waited_for(
    film: Path, chain: Chain, inside: bool
) -> None:
    # c2pa needs 7 seconds for 40,000 of them, and four times that for twice as many
    data, boxes = film.read_bytes(), b"\0\0\0\x08free" * 200_000
    at = data.index(b"moov") - 4
    size = int.from_bytes(data[at : at + 4])
    moov = (size + len(boxes)).to_bytes(4) + data[at + 4 : at + size] + boxes
    film.write_bytes(data[:at] + moov + data[at + size :] if inside else data + boxes)
    began = time.process_time()
    found = examine(film, trust(chain))
    assert (found.state, "boxes" in found.explanation) == (State.UNREADABLE, True)
    assert time.process_time() - began < 3
