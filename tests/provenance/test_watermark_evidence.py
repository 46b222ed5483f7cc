"""Our own watermark, and credentials that were removed, as evidence."""

from pathlib import Path

import numpy
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from assaymark.provenance.binding_store import BindingStore
from assaymark.provenance.claims import Claims
from assaymark.provenance.detectors import Look
from assaymark.provenance.evidence import Evidence, Says
from assaymark.provenance.keys import Chain
from assaymark.provenance.marked_files import mark_file
from assaymark.provenance.material import Material, open_material
from assaymark.provenance.recover import remember
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.watermark_evidence import look_binding, look_watermark
from assaymark.reports.errors import InputError

KEY = b"a key of 32 bytes for tests only"
OTHER = b"another key of 32 bytes for test"
PHOTOGRAPH = Image.fromarray(load_sample_image("china.jpg")).crop((100, 20, 500, 404))
FLOWER = Image.fromarray(load_sample_image("flower.jpg")).crop((200, 20, 500, 320))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, chain: Chain) -> Path:
    """A generated picture, marked, and a captured one: signed, remembered, and stripped of credentials."""
    made = tmp_path_factory.mktemp("made")
    PHOTOGRAPH.save(made / "plain.png")
    FLOWER.save(made / "photo.png")
    mark_file(made / "plain.png", made / "fox.png", 7, KEY)
    with BindingStore(made / "store.db", create=True) as store:
        for name, kind, key in (("fox", "generated", KEY), ("photo", "captured", None)):
            signed = made / f"{name}-signed.png"
            sign(made / f"{name}.png", signed, chain.credentials, Claims(source_type=kind))
            remember(signed, store, key=key)
            with Image.open(signed) as opened:
                pixels = numpy.asarray(opened.convert("RGB"))
            Image.fromarray(pixels).save(made / f"{name}-stripped.jpg", quality=85)
    return made


def watermark(path: Path, **options: object) -> Evidence:
    (one,) = look_watermark(open_material(path, options))
    return one


def binding(path: Path, **options: object) -> Evidence:
    (one,) = look_binding(open_material(path, options))
    return one


def test_the_mark_of_the_key_says_what_its_holder_says(folder: Path) -> None:
    path = folder / "fox-stripped.jpg"
    one = watermark(path, watermark_key=KEY, watermark_says="generated")
    assert (one.says, one.details["payload"]) == (Says.GENERATED, "00000007")
    assert one.details["p_value"] < 1e-6
    assert watermark(path, watermark_key=KEY).says is Says.NOTHING


def test_another_key_and_an_unmarked_picture_have_no_mark(folder: Path) -> None:
    for name, key in (("fox.png", OTHER), ("plain.png", KEY)):
        with Image.open(folder / name) as opened:
            opened.crop((0, 0, 140, 140)).save(folder / "small.png")
        one = watermark(folder / "small.png", watermark_key=key, watermark_says="generated")
        assert (one.says, one.details) == (Says.NOTHING, {})


def test_without_a_key_or_a_store_nothing_was_looked_at(folder: Path) -> None:
    assert watermark(folder / "plain.png").says is Says.ABSTAINS
    assert binding(folder / "plain.png").says is Says.ABSTAINS


def test_removed_credentials_are_found_again_and_repeat_what_they_said(
    folder: Path, chain: Chain
) -> None:
    store, trust = folder / "store.db", Trust(signers=chain.trust_anchor_pem)
    one = binding(folder / "fox-stripped.jpg", binding_store=store, watermark_key=KEY, trust=trust)
    assert (one.says, one.details["stated"], one.details["signer_trusted"]) == (
        Says.GENERATED, "generated", True,
    )  # fmt: skip
    assert "were removed" in one.summary
    assert set(one.details["found_by"]) == {"watermark", "fingerprint"}
    one = binding(folder / "fox-stripped.jpg", binding_store=str(store))
    assert (one.says, one.details["signer_trusted"]) == (Says.GENERATED, False)
    assert one.details["found_by"] == ["fingerprint"]


def test_a_capture_that_was_found_again_is_a_lead_and_never_authentic(
    folder: Path, chain: Chain
) -> None:
    trust = Trust(signers=chain.trust_anchor_pem)
    one = binding(folder / "photo-stripped.jpg", binding_store=folder / "store.db", trust=trust)
    assert (one.says, one.details["stated"]) == (Says.NOTHING, "authentic")


def test_a_file_with_its_own_credentials_and_an_unknown_one(folder: Path, tmp_path: Path) -> None:
    with BindingStore(folder / "store.db") as store:
        one = binding(folder / "fox-signed.png", binding_store=store)
        assert (one.says, "own Content Credentials" in one.summary) == (Says.NOTHING, True)
        Image.fromarray(numpy.asarray(PHOTOGRAPH)[::-1, ::-1]).rotate(40).save(tmp_path / "a.png")
        one = binding(tmp_path / "a.png", binding_store=store)
        assert (one.says, "no manifest" in one.summary) == (Says.NOTHING, True)


BAD: dict[str, tuple[Look, dict[str, object], str]] = {
    "watermark_key": (look_watermark, {"watermark_key": "text"}, "watermark_key is a str"),
    "short key": (look_watermark, {"watermark_key": b"short"}, "16"),
    "watermark_says": (
        look_watermark,
        {"watermark_key": KEY, "watermark_says": "manipulated"},
        "watermark_says is 'manipulated'",
    ),
    "binding_store": (look_binding, {"binding_store": 7}, "binding_store is a int"),
    "no store": (look_binding, {"binding_store": "/nowhere/store.db"}, "there is no store"),
    "trust": (look_binding, {"trust": 7}, "trust is a int"),
}


@pytest.mark.parametrize("name", BAD)
def test_options_of_the_wrong_kind_are_input_errors(name: str, folder: Path) -> None:
    look, options, sentence = BAD[name]
    told: dict[str, object] = {"binding_store": folder / "store.db", **options}
    material: Material = open_material(folder / "plain.png", told)
    with pytest.raises(InputError, match=sentence):
        look(material)
