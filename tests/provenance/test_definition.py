"""Each statement is read back out of the signed file by two engines, in the shape of its schema."""

import io
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import c2pa
import numpy
import pytest
from both_engines import JPEG, assertion, by_c2pa, by_encypher, codes, open_signer, signed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from assaymark.provenance.c2pa_context import context, shared_context
from assaymark.provenance.claim_thumbnail import LIMIT, thumbnail
from assaymark.provenance.claims import ACTIONS, OPT_OUT, Claims, Ingredient
from assaymark.provenance.definition import Standing, new_builder, standing
from assaymark.provenance.formats import FORMATS, SIDECAR, Format, Route
from assaymark.provenance.ingredients import own_past
from assaymark.provenance.job import Reading
from assaymark.provenance.keys import Chain, new_chain
from assaymark.provenance.routes import READS
from assaymark.provenance.source_types import SOURCE_TYPES
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import examine
from assaymark.reports.errors import InputError

PIXELS = numpy.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=numpy.uint8)
TAM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
EDITED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
GENERATED = Claims(source_type="generated")


@pytest.fixture(scope="module")
def maker() -> Chain:
    return new_chain("Example Press", algorithm="ed25519")


@pytest.fixture(scope="module")
def signer(maker: Chain) -> Iterator[c2pa.Signer]:
    with open_signer(maker.credentials) as opened:
        yield opened


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("works") / "photo.jpg"
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.fixture(scope="module")
def signed_photo(photo: Path, signer: c2pa.Signer) -> Path:
    path = photo.with_name("signed.jpg")
    path.write_bytes(signed(photo, Claims(source_type="captured"), signer))
    return path


# Shapes of C2PA 2.4, chapter 18, and CAWG training and data mining 1.1 (CDDL), as these manifests
# use them: "?" may be absent, "*" any other text key; bytes are base64 text in the library's report.
HASHED_URI = {"url": r"self#jumbf=[\w\d/][\w\d./:-]+[\w\d]", "?alg": r".+", "hash": r"[\w+/]+=*"}
GENERATOR = {"name": r"(?s).+", "?version": r"(?s).+"}
ACTION = {
    "action": r"([\da-zA-Z_-]+\.)+[\da-zA-Z_-]+",
    "?softwareAgent": GENERATOR,
    "?digitalSourceType": "|".join(re.escape(term.uri) for term in SOURCE_TYPES.values()),
    "?parameters": {"ingredients": [HASHED_URI]},
}
CODE = {"code": r"[\w.]+", "?url": r".+", "?explanation": r".+"}
CODES = {"success": [CODE], "informational": [CODE], "failure": [CODE]}
DELTA = {"ingredientAssertionURI": r".+", "validationDeltas": CODES}
SHAPES: dict[str, Any] = {
    "c2pa.actions.v2": {"actions": [ACTION], "?allActionsIncluded": bool},
    "c2pa.ingredient.v3": {
        "?dc:title": r"(?s).+",
        "?dc:format": r"\w+/[-+.\w]+",
        "relationship": "parentOf|componentOf|inputTo",
        "?validationResults": {
            "activeManifest": CODES,
            "?ingredientDeltas": [DELTA],
            "?specVersion": r"\d+\.\d+\.\d+",
            "?validationTime": r"[\dT:.+Z-]+",
        },
        "?instanceID": r".+",
        "?data": HASHED_URI,
        "?dataTypes": [{"type": r"c2pa\.types\.[\w.]+"}],
        "?activeManifest": HASHED_URI,
        "?claimSignature": HASHED_URI,
    },
    "cawg.training-mining": {
        "entries": {"*": {"use": "allowed|notAllowed|constrained", "?constraint_info": r"(?s).+"}}
    },
    "c2pa.ai-disclosure": {
        "modelType": r"c2pa\.types\.model(\.\w+)*",
        "?modelName": r"(?s).+",
        "?modelIdentifier": r"(?s).+",
        "?contentProfile": {
            "?humanOversightLevel": "fully_autonomous|prompt_guided|human_validated"
        },
    },
    "cawg.metadata": {"@context": {"*": r"http://.+/"}, "*": object},
}


def fits(shape: Any, value: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(value, dict) and _fits_map(shape, value)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(shape[0], item) for item in value)
    if isinstance(shape, str):
        return isinstance(value, str) and re.fullmatch(shape, value) is not None
    return isinstance(value, shape)


def _fits_map(shape: dict[str, Any], value: dict[str, Any]) -> bool:
    needed = {key for key in shape if key[0] not in "?*"}
    rules = {key.removeprefix("?"): rule for key, rule in shape.items()}
    return needed <= set(value) and all(
        fits(rules.get(key, rules.get("*", type(None))), inner) for key, inner in value.items()
    )


def test_the_shapes_are_strict() -> None:
    assert fits(SHAPES["cawg.training-mining"], {"entries": {"a.b": {"use": "allowed"}}})
    mistakes: list[Any] = [
        {},
        {"entries": {"a.b": {"use": "maybe"}}},
        {"entries": {"a.b": {}}},
        {"entries": {}, "more": 1},
    ]
    for wrong in mistakes:
        assert not fits(SHAPES["cawg.training-mining"], wrong)


SAID: dict[str, Claims] = {
    "nothing": Claims(),
    "generated": GENERATED,
    "generator": Claims(source_type="generated", generator="Ex Diffusion", generator_version="3"),
    "people": Claims(
        author="Jane Example",
        organization="Example Press",
        copyright="© 2026 Jane Example",
        usage_terms="https://example.com/terms",
        description="A fox",
    ),
    "opt-out": Claims(training=OPT_OUT),
    "constrained": Claims(
        training={"data_mining": "constrained", "com.example.sale": "allowed"},
        training_terms="https://example.com/licence",
    ),
    "old readers": Claims(
        training={"data_mining": "notAllowed", "com.example.x": "allowed"}, old_readers=True
    ),
    "model": Claims(source_type="generated", model="pkg:x/y@1", oversight="prompt_guided"),
    "prompt digest": Claims(source_type="generated", prompt_sha256="ab" * 32),
    "prompt": Claims(source_type="generated", prompt="a red fox", prompt_writer="Jane Example"),
    "assertions": Claims(assertions={"com.example.review": {"score": 1.5, "by": [None, True, -1]}}),
}
EXPECTED: dict[str, list[tuple[str, tuple[str | int, ...], Any]]] = {
    "nothing": [("c2pa.actions.v2", ("actions", 0, "action"), "c2pa.opened"),
                ("c2pa.actions.v2", ("allActionsIncluded",), True)],
    "generated": [("c2pa.actions.v2", ("actions",),
                   [{"action": "c2pa.created", "digitalSourceType": TAM}])],
    "generator": [("c2pa.actions.v2", ("actions", 0, "softwareAgent"),
                   {"name": "Ex Diffusion", "version": "3"})],
    "people": [("cawg.metadata", (), {
        "@context": {"dc": "http://purl.org/dc/elements/1.1/",
                     "xmpRights": "http://ns.adobe.com/xap/1.0/rights/"},
        "dc:creator": ["Jane Example"],
        "dc:publisher": ["Example Press"],
        "dc:rights": "© 2026 Jane Example",
        "dc:description": "A fox",
        "xmpRights:UsageTerms": "https://example.com/terms"})],
    "opt-out": [("cawg.training-mining", ("entries",), {
        "cawg.ai_generative_training": {"use": "notAllowed"},
        "cawg.ai_training": {"use": "notAllowed"},
        "cawg.data_mining": {"use": "notAllowed"}})],
    "constrained": [("cawg.training-mining", ("entries",), {
        "cawg.data_mining": {"use": "constrained",
                             "constraint_info": "https://example.com/licence"},
        "com.example.sale": {"use": "allowed"}})],
    "old readers": [("cawg.training-mining", ("entries",), {
        "cawg.data_mining": {"use": "notAllowed"}, "com.example.x": {"use": "allowed"}}),
        ("c2pa.training-mining", ("entries",), {"c2pa.data_mining": {"use": "notAllowed"}})],
    "model": [("c2pa.ai-disclosure", (), {
        "modelType": "c2pa.types.model", "modelIdentifier": "pkg:x/y@1",
        "contentProfile": {"humanOversightLevel": "prompt_guided"}})],
    "prompt digest": [("c2pa.actions.v2", ("actions", 0, "parameters", "ingredients", 0, "url"),
                       "self#jumbf=c2pa.assertions/c2pa.ingredient.v3")],
    "prompt": [("cawg.metadata", ("Iptc4xmpExt:AIPromptInformation",), "a red fox"),
               ("cawg.metadata", ("Iptc4xmpExt:AIPromptWriterName",), "Jane Example"),
               ("cawg.metadata", ("@context", "Iptc4xmpExt"),
                "http://iptc.org/std/Iptc4xmpExt/2008-02-29/")],
    "assertions": [("com.example.review", (), {"score": 1.5, "by": [None, True, -1]})],
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_two_engines_read_back_what_was_said(
    name: str, photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    data = signed(photo, SAID[name], signer)
    first, second = by_c2pa(data, maker), by_encypher(data, maker)
    for report in (first, second):
        assert report["state"] == "Trusted"
        assert codes(report["results"], "failure") == []
        assert report["title"] == "photo.jpg"
        assert report["claim_generator_info"] is not None
        for label, path, value in EXPECTED[name]:
            found = assertion(report, label)
            for step in path:
                found = found[step]
            assert found == value
    for label, box in first["boxes"].items():
        if label.partition("__")[0] in SHAPES:
            assert fits(SHAPES[label.partition("__")[0]], box), (label, box)
    # the actions are the signer's own statement, everything else was gathered (section 10.3.2.1)
    created = {item["url"].rsplit("/")[-1] for item in first["claim"]["created_assertions"]}
    assert "c2pa.actions.v2" in created


def openssl_digest(data: bytes) -> str:
    """The RFC 6920 name of data, by openssl and base64 of coreutils."""
    digest = subprocess.run(
        ["openssl", "dgst", "-sha256", "-binary"], input=data, capture_output=True, check=True
    ).stdout
    text = subprocess.run(["base64", "-w0"], input=digest, capture_output=True, check=True).stdout
    return "ni:///sha-256;" + text.decode().rstrip("=").replace("+", "-").replace("/", "_")


def test_a_prompt_is_known_by_its_digest(photo: Path, signer: c2pa.Signer, maker: Chain) -> None:
    claims = Claims(source_type="generated", prompt="ein roter Füchs")
    report = by_c2pa(signed(photo, claims, signer), maker)
    assert report["boxes"]["c2pa.ingredient.v3"] == {
        "relationship": "inputTo",
        "dc:format": "text/plain",
        "instanceID": openssl_digest("ein roter Füchs".encode()),
        "dataTypes": [{"type": "c2pa.types.generator.prompt"}],
    }


@pytest.mark.parametrize("old_readers", [False, True])
def test_growth_of_a_disclosed_file_is_below_4_kb(
    old_readers: bool, photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    claims = Claims(
        source_type="generated",
        generator="Example Diffusion",
        generator_version="3.1",
        author="Jane Example",
        organization="Example Press",
        training=OPT_OUT,
        old_readers=old_readers,
    )
    data = signed(photo, claims, signer)
    assert by_encypher(data, maker)["state"] == "Trusted"
    assert len(data) - photo.stat().st_size <= 4096


OTHER = Path("other.jpg")
REFUSED = "refused"


@pytest.mark.parametrize(
    ("said", "alone", "with_parent", "over_history"),
    [
        ({}, Standing.OPENED, Standing.EDITED, Standing.OPENED),
        ({"author": "J"}, Standing.OPENED, Standing.EDITED, Standing.OPENED),
        ({"actions": ("cropped",)}, REFUSED, Standing.EDITED, Standing.EDITED),
        ({"source_type": "generated"}, Standing.CREATED, REFUSED, REFUSED),
        ({"source_type": "captured"}, Standing.CREATED, REFUSED, REFUSED),
        ({"source_type": "empty"}, Standing.CREATED, REFUSED, REFUSED),
        ({"source_type": "edited-with-ai"}, Standing.CREATED, Standing.EDITED, Standing.EDITED),
        ({"source_type": "composite"}, Standing.CREATED, Standing.EDITED, Standing.EDITED),
        ({"source_type": "humanEdits", "actions": ("cropped",)},
         Standing.CREATED, Standing.EDITED, Standing.EDITED),
    ],
)  # fmt: skip
def test_a_work_has_one_beginning(
    said: dict[str, Any], alone: str, with_parent: str, over_history: str
) -> None:
    def outcome(claims: Claims, *, history: bool) -> str:
        try:
            return standing(claims, Path("w.jpg"), history=history)
        except InputError:
            return REFUSED

    claims, edit = Claims(**said), Claims(**said, parent=OTHER)
    assert outcome(claims, history=False) == alone
    assert outcome(edit, history=False) == with_parent
    assert outcome(claims, history=True) == over_history
    assert outcome(edit, history=True) == REFUSED  # a second parent would lose the first


def test_an_update_needs_something_to_update() -> None:
    update = Claims(update=True, author="J")
    assert standing(update, OTHER, history=True) is Standing.UPDATE
    with pytest.raises(InputError, match="no credentials that could be updated"):
        standing(update, OTHER, history=False)


def test_an_edit_with_ai_keeps_the_signed_original(
    photo: Path, signed_photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    claims = Claims(
        source_type="edited-with-ai", actions=("cropped",), generator="Ex", parent=signed_photo
    )
    data = signed(photo, claims, signer)
    for report in (by_c2pa(data, maker), by_encypher(data, maker)):
        assert report["state"] == "Trusted"
        opened, edited, cropped = assertion(report, "c2pa.actions.v2")["actions"]
        assert opened["action"] == "c2pa.opened"
        assert "c2pa.ingredient.v3" in opened["parameters"]["ingredients"][0]["url"]
        assert edited == {
            "action": "c2pa.edited",
            "digitalSourceType": EDITED,
            "softwareAgent": {"name": "Ex"},
        }
        assert cropped == {"action": "c2pa.cropped"}
    report = by_c2pa(data, maker)
    assert len(report["manifests"]) == 2
    (parent,) = report["ingredients"]
    assert parent["relationship"] == "parentOf"
    assert parent["title"] == "signed.jpg"
    assert "claimSignature.validated" in codes(parent["validation_results"], "success")
    assert fits(SHAPES["c2pa.ingredient.v3"], report["boxes"]["c2pa.ingredient.v3"])


def test_every_action_is_accepted_by_both_engines(
    photo: Path, signed_photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    claims = Claims(source_type="humanEdits", actions=ACTIONS, parent=signed_photo)
    data = signed(photo, claims, signer)
    for report in (by_c2pa(data, maker), by_encypher(data, maker)):
        assert report["state"] == "Trusted"
        assert codes(report["results"], "failure") == []
        done = [item["action"] for item in assertion(report, "c2pa.actions.v2")["actions"]]
        assert done == ["c2pa.opened", "c2pa.edited", *ACTIONS]


def test_signing_again_keeps_every_signature(
    signed_photo: Path, signer: c2pa.Signer, maker: Chain, tmp_path: Path
) -> None:
    path = signed_photo
    for count, claims in enumerate(
        (Claims(), Claims(update=True, author="J"), Claims(source_type="edited-with-ai")), 2
    ):
        data = signed(path, claims, signer, history=True)
        report = by_c2pa(data, maker)
        assert len(report["manifests"]) == count
        assert report["state"] == by_encypher(data, maker)["state"] == "Trusted"
        path = tmp_path / f"{count}.jpg"
        path.write_bytes(data)


def test_an_update_manifest_has_no_hash_of_the_work(
    signed_photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    data = signed(
        signed_photo, Claims(update=True, author="Jane", training=OPT_OUT), signer, history=True
    )
    report = by_c2pa(data, maker)
    assert set(report["boxes"]) == {
        "c2pa.actions.v2",
        "c2pa.ingredient.v3",
        "cawg.metadata",
        "cawg.training-mining",
    }
    assert by_encypher(data, maker)["state"] == "Trusted"
    assert assertion(report, "cawg.metadata")["dc:creator"] == ["Jane"]
    with pytest.raises(InputError, match="cannot be part of an update"):
        signed(
            signed_photo, Claims(update=True, author="J"), signer, history=True, watermarked=True
        )


KINDS = {kind.name: kind for kind in FORMATS}


@pytest.mark.parametrize("name", ["PNG", "GIF", "WebP", "TIFF"])
def test_only_what_two_engines_accept_is_updated(
    name: str, tmp_path: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    """The library also updates WebP and TIFF, and then does not accept its own work."""
    kind, path = KINDS[name], tmp_path / "work"
    Image.fromarray(PIXELS).save(path, name)
    path.write_bytes(signed(path, GENERATED, signer, kind=kind))
    update = Claims(update=True, author="Jane")
    if name in ("WebP", "TIFF"):
        with pytest.raises(InputError, match=f"an update of {name} does not verify"):
            signed(path, update, signer, kind=kind, history=True)
        return
    data = signed(path, update, signer, kind=kind, history=True)
    first, second = by_c2pa(data, maker, kind=kind), by_encypher(data, maker, kind=kind)
    assert first["state"] == second["state"] == "Trusted"


def test_ingredients_are_placed_or_taken_as_input(
    photo: Path, signed_photo: Path, signer: c2pa.Signer, maker: Chain, tmp_path: Path
) -> None:
    sketch = tmp_path / "sketch.gif"
    Image.fromarray(PIXELS).save(sketch)
    claims = Claims(
        source_type="generated",
        ingredients=(
            Ingredient(path=signed_photo, title="the original"),
            Ingredient(path=sketch, relationship="inputTo"),
        ),
    )
    data = signed(photo, claims, signer)
    report = by_c2pa(data, maker)
    assert report["state"] == by_encypher(data, maker)["state"] == "Trusted"
    created, placed = assertion(report, "c2pa.actions.v2")["actions"]
    by_title = {item["title"]: item for item in report["ingredients"]}
    component, given = by_title["the original"], by_title["sketch.gif"]
    for action, item in ((placed, component), (created, given)):
        (reference,) = action["parameters"]["ingredients"]
        assert reference["url"].endswith(f"/{item['label']}")
    assert component["relationship"] == "componentOf"
    assert component["active_manifest"] in report["manifests"]
    assert given["relationship"] == "inputTo"
    assert given["instance_id"] == openssl_digest(sketch.read_bytes())
    assert report["boxes"][given["label"]].get("validationResults") is None
    Image.fromarray(PIXELS[::-1]).save(sketch)  # a changed file is read again
    report = by_c2pa(signed(photo, claims, signer), maker)
    assert openssl_digest(sketch.read_bytes()) in {
        i.get("instance_id") for i in report["ingredients"]
    }


def test_broken_ingredients_are_refused_or_recorded(
    photo: Path, signed_photo: Path, signer: c2pa.Signer, maker: Chain, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    data = bytearray(signed_photo.read_bytes())
    data[-30] ^= 1
    broken.write_bytes(data)
    claims = Claims(source_type="generated", ingredients=(Ingredient(path=broken),))
    with pytest.raises(InputError, match=r"do not hold .*assertion\.dataHash\.mismatch"):
        signed(photo, claims, signer)
    with pytest.raises(InputError, match="do not hold"):
        signed(photo, Claims(parent=broken), signer)
    made = signed(photo, claims, signer, broken_ingredients=True)
    (item,) = by_c2pa(made, maker)["ingredients"]
    assert "assertion.dataHash.mismatch" in codes(item["validation_results"], "failure")
    out = tmp_path / "out.jpg"
    out.write_bytes(made)
    found = examine(out, Trust(signers=maker.trust_anchor_pem))
    assert "a work it was made from does not hold" in found.explanation
    broken.write_bytes(bytes(data[:600]))
    for path in (broken, tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(InputError, match=r"cannot be an ingredient|cannot read ingredient"):
            signed(photo, Claims(parent=path), signer, broken_ingredients=True)


def test_a_past_outside_the_file_is_carried_along(
    signer: c2pa.Signer, maker: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the library does not find a manifest by itself, our reader's store is handed over."""
    work = tmp_path / "weights.bin"
    work.write_bytes(bytes(range(256)) * 8)

    def store_of(builder: c2pa.Builder) -> bytes:
        with builder, work.open("rb") as stream:
            builder.set_no_embed()
            store: bytes = builder.sign(signer, SIDECAR.media_type, stream, io.BytesIO())
            return store

    def read(store: bytes) -> dict[str, Any]:
        with (
            context(Trust(signers=maker.trust_anchor_pem)) as settings,
            work.open("rb") as stream,
            c2pa.Reader(SIDECAR.media_type, stream, store, context=settings) as reader,
        ):
            found: dict[str, Any] = json.loads(reader.json())
            return found

    first = store_of(new_builder(GENERATED, work, SIDECAR, history=False))

    def reads(path: Path, kind: Format, settings: c2pa.Context) -> Reading:
        return Reading(document=read(first), store=first, where="sidecar")

    monkeypatch.setitem(READS, Route.SIDECAR, reads)
    second = read(store_of(new_builder(Claims(author="J"), work, SIDECAR, history=True)))
    assert second["validation_state"] == "Trusted"
    assert set(read(first)["manifests"]) < set(second["manifests"])
    monkeypatch.setitem(
        READS, Route.SIDECAR, lambda *_: Reading(document=read(first), where="sidecar")
    )
    with pytest.raises(InputError, match="cannot be carried along"):
        own_past(work, SIDECAR, history=True)


def test_soft_bindings_and_a_watermark_are_recorded(
    photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    binding = {"alg": "com.example.mark", "blocks": [{"scope": {}, "value": "c29mdA=="}]}
    data = signed(photo, GENERATED, signer, soft_bindings=[binding, binding], watermarked=True)
    report = by_c2pa(data, maker)
    assert report["state"] == by_encypher(data, maker)["state"] == "Trusted"
    assert [item["action"] for item in assertion(report, "c2pa.actions.v2")["actions"]] == [
        "c2pa.created",
        "c2pa.watermarked.bound",
    ]
    assert {"c2pa.soft-binding", "c2pa.soft-binding__1"} <= set(report["boxes"])


def test_a_thumbnail_is_small_and_only_there_when_asked(
    tmp_path: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    noise = numpy.random.default_rng(1).integers(0, 256, (700, 900, 3), dtype=numpy.uint8)
    source = tmp_path / "noise.jpg"
    Image.fromarray(noise).save(source, quality=95)
    plain = by_c2pa(signed(source, GENERATED, signer), maker)
    assert "thumbnail" not in plain
    data = signed(source, Claims(source_type="generated", thumbnail=512), signer)
    report = by_c2pa(data, maker)
    assert report["state"] == by_encypher(data, maker)["state"] == "Trusted"
    assert "c2pa.thumbnail.claim" in report["boxes"]
    stream = io.BytesIO()
    with c2pa.Reader(JPEG.media_type, io.BytesIO(data), context=shared_context()) as reader:
        reader.resource_to_stream(report["thumbnail"]["identifier"], stream)
    assert len(stream.getvalue()) <= LIMIT
    with Image.open(io.BytesIO(stream.getvalue())) as small:
        assert small.format == "JPEG"
        assert max(small.size) <= 512
        assert small.size[0] / small.size[1] == pytest.approx(900 / 700, abs=0.02)


def test_a_thumbnail_is_never_enlarged_and_keeps_what_is_seen(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 0, 255))
    clear.save(tmp_path / "clear.png")
    data = thumbnail(tmp_path / "clear.png", 512)
    assert data is not None
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (40, 20)
        assert min(numpy.asarray(small)[10, 30]) > 250  # transparent red is white, not red
    (tmp_path / "text.jpg").write_text("no picture")
    assert thumbnail(tmp_path / "text.jpg", 64) is None
    Image.fromarray(PIXELS).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    with pytest.raises(InputError, match="cannot be decoded"):
        thumbnail(tmp_path / "cut.png", 64)
    with pytest.raises(InputError, match="fits into 100 bytes"):
        thumbnail(tmp_path / "clear.png", 64, limit=100)


FIELDS: Mapping[str, Any] = {
    "title": lambda text, path: Claims(title=text),
    "author": lambda text, path: Claims(author=text),
    "description": lambda text, path: Claims(description=text),
    "generator": lambda text, path: Claims(source_type="generated", generator=text),
    "ingredient": lambda text, path: Claims(ingredients=(Ingredient(path=path, title=text),)),
}


def read_field(field: str, report: dict[str, Any]) -> Any:
    if field == "title":
        return report["title"]
    if field == "generator":
        return assertion(report, "c2pa.actions.v2")["actions"][0]["softwareAgent"]["name"]
    if field == "ingredient":
        (item,) = (i for i in report["ingredients"] if i["relationship"] == "componentOf")
        return item["title"]
    found = assertion(report, "cawg.metadata")
    return found["dc:description"] if field == "description" else found["dc:creator"][0]


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_strings_come_back_verbatim(
    field: str, shared: Path, photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    """C2PA's own attack strings: 34 in each of 5 fields."""
    files = sorted((shared / "data" / "c2pa" / "attacks").glob("*.attack"))
    lines = [line for path in files for line in path.read_text("utf-8", "replace").splitlines()]
    assert len(lines) == 34
    for line in filter(None, lines):
        data = signed(photo, FIELDS[field](line, photo), signer)
        first, second = by_c2pa(data, maker), by_encypher(data, maker)
        assert first["state"] == second["state"] == "Trusted"
        assert read_field(field, first) == line
        if field != "ingredient":
            assert read_field(field, second) == line


@given(text=st.text(min_size=1, max_size=200))
@settings(
    max_examples=15, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_comes_back_verbatim(
    text: str, photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    claims = Claims(title=text, author=text, source_type="generated", generator=text)
    report = by_c2pa(signed(photo, claims, signer), maker)
    assert report["state"] == "Trusted"
    assert {read_field(field, report) for field in ("title", "author", "generator")} == {text}


def test_a_name_that_is_not_unicode_is_spelled_out(
    tmp_path: Path, photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    path = tmp_path / "a\udcff.jpg"
    path.write_bytes(photo.read_bytes())
    report = by_c2pa(signed(path, Claims(), signer), maker)
    assert report["title"] == report["ingredients"][0]["title"] == "a\\udcff.jpg"


def test_what_the_library_would_take_is_refused_here(
    photo: Path, signer: c2pa.Signer, maker: Chain
) -> None:
    """The trap: an invented word is signed and trusted, unless somebody checks it."""
    target = io.BytesIO()
    action = {"action": "c2pa.created", "digitalSourceType": "aiGenerated!!"}
    invented = {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]}
    with c2pa.Builder(invented, context=shared_context()) as builder, photo.open("rb") as stream:
        builder.sign(signer, JPEG.media_type, stream, target)
    assert by_c2pa(target.getvalue(), maker)["state"] == "Trusted"
    assert not fits(ACTION, action)
    with pytest.raises(InputError, match="unknown digital source type"):
        Claims(source_type="aiGenerated!!")


def test_the_parent_of_an_unsigned_file_is_not_read_twice(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", None)
    assert own_past(photo, JPEG, history=False).stream is None
