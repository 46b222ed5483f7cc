"""What may be said: vocabularies, sizes, and statements that need or contradict each other."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from assaymark.provenance.assertion_labels import check_assertion, check_label
from assaymark.provenance.claims import (
    NOTHING,
    OPT_OUT,
    Claims,
    Ingredient,
    ingredient,
    strange_texts,
)
from assaymark.provenance.source_types import SHORTHANDS, SOURCE_TYPES, source_type
from assaymark.reports.errors import InputError

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
C2PA = "http://c2pa.org/digitalsourcetype/"
# https://cv.iptc.org/newscodes/digitalsourcetype/ of 2024-09-17, less what is retired
CURRENT = [
    "digitalCapture",
    "computationalCapture",
    "negativeFilm",
    "positiveFilm",
    "print",
    "humanEdits",
    "compositeWithTrainedAlgorithmicMedia",
    "algorithmicallyEnhanced",
    "digitalCreation",
    "dataDrivenMedia",
    "trainedAlgorithmicMedia",
    "algorithmicMedia",
    "screenCapture",
    "virtualRecording",
    "composite",
    "compositeCapture",
    "compositeSynthetic",
]


def test_the_vocabulary_is_iptcs_and_two_words_of_c2pa() -> None:
    uris = {IPTC + word for word in CURRENT} | {C2PA + "empty", C2PA + "trainedAlgorithmicData"}
    assert {term.uri for term in SOURCE_TYPES.values()} == uris
    assert all(term.uri.endswith(f"/{name}") for name, term in SOURCE_TYPES.items())


def test_the_engine_knows_every_word(tmp_path: Path) -> None:
    import c2pa

    library = Path(c2pa.__file__).parent / "libs" / "libc2pa_c.so"
    if not library.is_file():
        pytest.skip("the library has another name on this system")
    data = library.read_bytes()
    assert all(term.uri.encode() in data for term in SOURCE_TYPES.values())


@pytest.mark.parametrize("term", SOURCE_TYPES.values(), ids=SOURCE_TYPES)
def test_a_source_type_is_named_by_word_or_uri(term: Any) -> None:
    for text in (term.name, term.uri, term.uri.replace("http:", "https:")):
        assert source_type(text) is term
    assert Claims(source_type=term.uri).source is term


def test_shorthands_stand_for_the_three_common_ones() -> None:
    assert {short: source_type(short).name for short in SHORTHANDS} == SHORTHANDS


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("aiGenerated!!", 'did you mean "generated"'),
        ("trainedAlgorithmicmedia", 'did you mean "trainedAlgorithmicMedia"'),
        (IPTC + "empty", "unknown digital source type"),
        (C2PA + "digitalCapture", "unknown digital source type"),
        ("http://example.com/digitalCapture", "unknown digital source type"),
        ("digitalArt", 'use "digitalCreation"'),
        (IPTC + "minorHumanEdits", 'use "humanEdits"'),
        ("", "unknown digital source type"),
        ("/", "unknown digital source type"),
    ],
)
def test_other_words_are_refused_with_the_nearest(text: str, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        Claims(source_type=text)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ({"actions": ("croped",)}, 'did you mean "c2pa.cropped"'),
        ({"actions": ("c2pa.created",)}, "unknown action"),
        ({"oversight": "human"}, "unknown human oversight"),
        ({"training": {"ai_traning": "notAllowed"}}, 'did you mean "cawg.ai_training"'),
        ({"training": {"cawg.new": "notAllowed"}}, "unknown use"),
        ({"training": {"ai_training": "no"}}, "no permission"),
        ({"training": {"ai_training": "allowed", "cawg.ai_training": "notAllowed"}}, "twice"),
        ({"training_terms": "ask us"}, "constrained"),
        ({"old_readers": True}, "repeats what is said"),
        ({"prompt_sha256": "12"}, "64 hexadecimal"),
        ({"prompt_sha256": "ab" * 32}, "generative AI"),
        ({"model": "m", "source_type": "captured"}, "generative AI"),
        ({"prompt": "p", "prompt_sha256": "ab" * 32, "source_type": "generated"}, "one of them"),
        ({"generator": "G"}, "say how"),
        ({"generator_version": "1", "source_type": "generated"}, "needs the generator's name"),
        ({"thumbnail": -1}, "expected 0"),
        ({"thumbnail": 1025}, "to 1024"),
        ({"title": "a\udcff"}, "not Unicode"),
        ({"author": "a" * 65_537}, "at most 65536"),
        ({"update": True, "source_type": "generated"}, "source_type belongs to a new version"),
        ({"update": True, "thumbnail": 9}, "thumbnail belongs to a new version"),
        ({"parent": Path("a\0b")}, "NUL"),
        ({"author": "J", "assertions": {"cawg.metadata": {"@context": {"a": "b"}}}}, "author"),
        ({"assertions": {"cawg.training-mining": {"entries": {}}}}, "reserved"),
        ({"actions": ("translated",)}, "unknown action"),
    ],
)
def test_what_cannot_be_said_is_refused(said: dict[str, Any], advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        Claims(**said)


@pytest.mark.parametrize(
    "label",
    ["com.litware.review", "net.fine-art.x_1", "cawg.metadata", "font.info", "1a.b"],
)
def test_labels_of_the_grammar_are_taken(label: str) -> None:
    check_label(label)


@pytest.mark.parametrize(
    "label",
    ["review", "", ".a", "a.", "a..b", "a.b__1", "a.é", "a b.c", "-a.b", "a.b/c", "a.b\n", "x." * 60,
     "c2pa.actions", "c2pa.actions.v2", "c2pa.hash.data", "c2pa.ingredient.v3", "c2pa.signature",
     "c2pa.thumbnail.claim", "c2pa.soft-binding", "c2pa.anything", "c2pa.metadata", "cawg.identity"],
)  # fmt: skip
def test_other_and_reserved_labels_are_refused(label: str) -> None:
    with pytest.raises(InputError, match=r"no assertion label|is reserved"):
        check_label(label)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ([], "must be an object"),
        ({}, "must be an object"),
        ({"a": float("nan")}, "finite"),
        ({"a": 2**63}, "64 bits"),
        ({"a": b"x"}, "holds a bytes"),
        ({"a": Path()}, "write dates and bytes as text"),
        ({1: 2}, "keys must be text"),
        ({"a": deep(40)}, "too large"),
        ({"a": [0] * 10_001}, "too large"),
        ({"a": "\ud800"}, "not Unicode"),
    ],
    ids=["list", "empty", "nan", "large", "bytes", "path", "key", "deep", "many", "surrogate"],
)
def test_an_assertion_is_json_of_sensible_size(value: Any, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        check_assertion("com.example.test", value)


def test_assertions_together_are_of_sensible_size() -> None:
    with pytest.raises(InputError, match="at most 1048576"):
        Claims(assertions={f"com.example.a{i}": {"text": "a" * 65_000} for i in range(17)})


def test_metadata_needs_its_namespaces() -> None:
    with pytest.raises(InputError, match="@context"):
        check_assertion("com.example.metadata", {"dc:title": "x"})


def test_ingredients_are_named_on_the_command_line() -> None:
    assert ingredient("a.jpg") == Ingredient(path=Path("a.jpg"))
    assert ingredient("inputTo:c:a.jpg") == Ingredient(path=Path("c:a.jpg"), relationship="inputTo")
    assert ingredient("inputTo:").path == Path("inputTo:")
    with pytest.raises(InputError, match="as the parent"):
        ingredient("parentOf:a.jpg")
    with pytest.raises(InputError, match='did you mean "inputTo"'):
        Ingredient(path=Path("a"), relationship="inputto")


def test_invisible_characters_are_told_and_kept() -> None:
    claims = Claims(title="a\u202eb\x07", author="Zoë 日本")
    assert claims.title == "a\u202eb\x07"
    (told,) = strange_texts(claims)
    assert "title" in told
    assert "U+202E, U+0007" in told


def test_claims_travel_to_other_processes() -> None:
    claims = Claims(source_type="generated", training=OPT_OUT, ingredients=(ingredient("a"),))
    assert pickle.loads(pickle.dumps(claims)) == claims
    assert pickle.loads(pickle.dumps(claims)).source is not None
    assert NOTHING.source is None
