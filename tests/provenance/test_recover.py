"""The loop: mark, sign, remember, strip and change, recover; and what a lead is worth."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import c2pa
import numpy
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from assaymark.provenance.binding_store import BindingStore
from assaymark.provenance.c2pa_context import context
from assaymark.provenance.fingerprint import fingerprint
from assaymark.provenance.keys import Chain
from assaymark.provenance.marked_files import mark_file, read_pixels
from assaymark.provenance.recover import recover, remember
from assaymark.provenance.soft_binding import (
    agrees,
    fingerprint_binding,
    fingerprints,
    soft_binding,
    soft_bindings,
    watermark_binding,
    watermarks,
)
from assaymark.provenance.stores import store_of
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import examine
from assaymark.provenance.watermark_lattice import ALGORITHM, LatticeWatermark
from assaymark.reports.errors import InputError, IntegrityError

KEY = b"a key of 32 bytes for tests only"
PHOTOGRAPH = Image.fromarray(load_sample_image("china.jpg")).crop((100, 20, 500, 404))
FLOWER = Image.fromarray(load_sample_image("flower.jpg")).crop((200, 20, 500, 320))


def signed(source: Path, target: Path, chain: Chain, *assertions: dict[str, Any]) -> Path:
    """A copy signed by the library itself, with these assertions."""
    held = chain.credentials
    info = c2pa.C2paSignerInfo(
        held.algorithm.encode(), held.chain_pem.encode(), held.key_pem.encode(), None
    )
    manifest = {
        "claim_generator_info": [{"name": "test", "version": "1"}],
        "title": source.name,
        "assertions": list(assertions),
    }
    kind = c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
    with (
        context() as settings,
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder(manifest, context=settings) as builder,
        source.open("rb") as read,
        target.open("w+b") as write,
    ):
        builder.set_intent(c2pa.C2paBuilderIntent.CREATE, kind)
        builder.sign(signer, "image/jpeg", read, write)
    return target


@dataclass(frozen=True)
class Work:
    """A marked and signed picture, and the store that remembers it and another one."""

    file: Path
    store: Path
    payload: int


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, chain: Chain) -> Work:
    folder = tmp_path_factory.mktemp("work")
    PHOTOGRAPH.save(folder / "a.jpg", quality=92)
    FLOWER.save(folder / "flower.jpg", quality=92)
    with BindingStore(folder / "store.db", create=True) as store:
        payload = store.new_payload(ALGORITHM, 32)
        mark_file(folder / "a.jpg", folder / "marked.jpg", payload, KEY)
        code = fingerprint(read_pixels(folder / "marked.jpg"))
        assert code is not None
        bindings = (watermark_binding(payload), fingerprint_binding(code))
        file = signed(folder / "marked.jpg", folder / "signed.jpg", chain, *bindings)
        kept = remember(file, store, key=KEY)
        assert (kept.watermarks, kept.fingerprint) == (((ALGORITHM, payload),), code)
        remember(signed(folder / "flower.jpg", folder / "other.jpg", chain), store)
    return Work(file, folder / "store.db", payload)


def copy_of(work: Work, path: Path, box: tuple[int, int, int, int] | None = None) -> Path:
    """What a platform makes of it: no credentials, another size or part, JPEG."""
    with Image.open(work.file) as picture:
        (picture.crop(box) if box else picture.resize((340, 326))).save(path, quality=80)
    assert examine(path).state == "no-manifest"
    return path


def test_a_stripped_copy_leads_back_to_its_manifest(
    work: Work, tmp_path: Path, chain: Chain
) -> None:
    trust = Trust(signers=chain.trust_anchor_pem)
    with BindingStore(work.store) as store:
        found = recover(copy_of(work, tmp_path / "a.jpg"), store, key=KEY, trust=trust)
    (lead,) = found.candidates
    assert lead.entry.manifest == store_of(examine(work.file))
    assert lead.found_by == ("watermark", "fingerprint")
    assert lead.p_value is not None
    assert lead.p_value < 1e-9
    assert lead.distance is not None
    assert lead.distance <= 20
    assert (lead.signer, lead.signature_holds, lead.trusted) == ("Example Press", True, True)
    assert lead.agrees is True
    assert lead.explanation.startswith("a lead, not proof: signed by Example Press, whose chain")


def test_each_binding_leads_there_alone(work: Work, tmp_path: Path) -> None:
    with BindingStore(work.store) as store:
        cropped = recover(copy_of(work, tmp_path / "a.jpg", (80, 70, 380, 370)), store, key=KEY)
        (lead,) = cropped.candidates
        assert lead.found_by == ("watermark",)
        assert not lead.trusted
        assert "looks unlike what was signed" in lead.explanation
        without_key = recover(copy_of(work, tmp_path / "b.jpg"), store)
    (lead,) = without_key.candidates
    assert lead.found_by == ("fingerprint",)
    assert lead.p_value is None
    assert "no key was given" in without_key.searched[0]


def test_none_found_is_an_answer(work: Work, tmp_path: Path) -> None:
    FLOWER.rotate(180).save(tmp_path / "a.png")
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "flat.png")
    with BindingStore(work.store) as store:
        found = recover(tmp_path / "a.png", store, key=KEY)
        assert found.candidates == ()
        assert found.searched[0] == "watermark: none of this key"
        assert found.searched[1].startswith("fingerprint: 0 stored within")
        flat = recover(tmp_path / "flat.png", store)
    assert flat.candidates == ()
    assert "too flat" in flat.searched[1]


def test_a_watermark_copied_onto_another_picture_is_told(work: Work, tmp_path: Path) -> None:
    """What anybody with the key, or with marked and unmarked pixels, can do."""
    forged = LatticeWatermark().embed(numpy.asarray(FLOWER), work.payload, KEY)
    Image.fromarray(forged).save(tmp_path / "forged.png")
    with BindingStore(work.store) as store:
        leads = recover(tmp_path / "forged.png", store, key=KEY).candidates
    by_mark = next(lead for lead in leads if "watermark" in lead.found_by)
    assert by_mark.distance is not None
    assert by_mark.distance > 60
    assert "the watermark of that picture was copied onto another" in by_mark.explanation
    assert [lead.found_by for lead in leads if lead is not by_mark] == [("fingerprint",)]


@pytest.mark.parametrize("change", ["title", "cut", "noise"])
def test_a_stored_manifest_that_does_not_hold_is_not_believed(
    change: str, work: Work, tmp_path: Path
) -> None:
    manifest = store_of(examine(work.file))
    changed = {
        "title": manifest.replace(b"marked.jpg", b"market.jpg"),
        "cut": manifest[: len(manifest) // 2],
        "noise": b"no manifest at all",
    }[change]
    assert changed != manifest
    code = fingerprint(read_pixels(work.file))
    assert code is not None
    with BindingStore(tmp_path / "store.db", create=True) as store:
        store.add(changed, signer="Example Press", fingerprints=[code])
        (lead,) = recover(work.file, store).candidates
    assert not lead.signature_holds
    assert not lead.trusted
    assert "does not hold" in lead.explanation or "cannot be read" in lead.explanation


def test_only_signed_pictures_that_hold_are_remembered(
    work: Work, tmp_path: Path, chain: Chain
) -> None:
    data = bytearray(work.file.read_bytes())
    data[-200] ^= 1
    (tmp_path / "broken.jpg").write_bytes(data)
    PHOTOGRAPH.save(tmp_path / "unsigned.jpg")
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.jpg")
    flat = signed(tmp_path / "grey.jpg", tmp_path / "flat.jpg", chain)
    with BindingStore(tmp_path / "store.db", create=True) as store:
        with pytest.raises(IntegrityError, match="its manifest is not stored"):
            remember(tmp_path / "broken.jpg", store)
        with pytest.raises(InputError, match="is no-manifest"):
            remember(tmp_path / "unsigned.jpg", store)
        with pytest.raises(InputError, match="nothing could lead back"):
            remember(flat, store)
        assert store.size.manifests == 0


def test_bindings_read_back_from_a_signed_file(work: Work) -> None:
    found = soft_bindings(examine(work.file).active)
    code = fingerprint(read_pixels(work.file))
    assert watermarks(found) == ((ALGORITHM, work.payload),)
    assert fingerprints(found) == (code,)
    assert [item.alg for item in found] == [ALGORITHM, "io.iscc.v0"]
    assert agrees(found, mark=(ALGORITHM, work.payload), code=None, farthest=0) is True
    assert agrees(found, mark=(ALGORITHM, work.payload + 1), code=None, farthest=0) is False
    assert agrees(found, mark=("another", 1), code=None, farthest=0) is None
    assert agrees((), mark=(ALGORITHM, 1), code=code, farthest=0) is None


def test_a_second_engine_accepts_the_assertions(work: Work, chain: Chain) -> None:
    encypher_c2pa = pytest.importorskip("encypher_c2pa")
    verdict = encypher_c2pa.verify(
        work.file, trust_pem=chain.trust_anchor_pem, no_default_trust=True, telemetry=False, online=False
    )  # fmt: skip
    assert verdict["validation_state"] == "Trusted"
    assert verdict["validation_results"]["failure"] == []


@pytest.mark.parametrize(
    "block",
    [None, 5, {}, {"value": None}, {"value": []}, {"value": {"a": 1}}, {"value": "", "scope": 3}],
    ids=["none", "number", "empty", "null", "list", "map", "blank"],
)
def test_malformed_bindings_are_left_out(block: object) -> None:
    data = {"alg": 5, "blocks": [block, {"scope": {}, "value": "2*0010"}]}
    manifest = {"assertions": [{"label": "c2pa.soft-binding__2", "data": data}]}
    (only,) = soft_bindings(manifest)  # TrustMark's value is text
    assert only.value == b"2*0010"
    assert soft_bindings({"assertions": [{"label": "c2pa.soft-binding", "data": [1]}]}) == ()


def test_a_binding_without_a_value_is_refused() -> None:
    with pytest.raises(InputError, match="one of them is empty"):
        soft_binding("io.iscc.v0", b"")


def test_what_is_no_picture_is_refused(work: Work, tmp_path: Path) -> None:
    stream = io.BytesIO()
    PHOTOGRAPH.save(stream, "GIF")
    (tmp_path / "a.gif").write_bytes(stream.getvalue())
    with BindingStore(work.store) as store, pytest.raises(InputError, match="cannot be decoded"):
        recover(tmp_path / "a.gif", store, key=KEY)
