"""C2PA's public test files against the official lists: every expected code is met, or the table says why.

The expectations are the files' own (manifest_store.json, by an older c2patool).
"""

import json
from pathlib import Path

import pytest

from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, Verification, examine

# What the older tool found, as the files' own documents say it, and what is found today instead.
EXPLAINED: dict[str, dict[str, str]] = {
    "adobe-20220124-E-clm-CAICAI": {
        "claim.missing": "the claim's box cannot be reached, so today's engine calls the manifest of the "
        "ingredient missing: ingredient.manifest.missing",
    },
    "adobe-20220124-E-sig-CA": {
        "timeStamp.mismatch": "a stamp that does not fit is no failure since C2PA 2.0, only information",
    },
    "nikon-20221019-building": {
        "claimSignature.mismatch": "the signature holds today; the older tool stopped at the expired "
        "certificate and called both failed",
    },
}
# Files without an expected failure that fail today.
FAIL_TODAY: dict[str, str] = {
    name: "the content does not match its hash; the second engine says the same"
    for name in (
        "truepic-20230212-camera",
        "truepic-20230212-landscape",
        "truepic-20230212-library",
    )
}
NO_MANIFEST = {"adobe-20220124-A", "adobe-20220124-I"}


def files() -> list[str]:
    """The names in the collection, so that the ids are the same with and without it."""
    adobe = "A C CA CACA CACAICAICICA CAI CAIAIIICAICIICAIICICA CAICA CAICAI CI CICA CICACACA CIE-sig-CA"
    bad = "CII E-clm-CAICAI E-dat-CA E-sig-CA E-uri-CA E-uri-CIE-sig-CA I XCA XCI"
    named = [f"adobe-20220124-{name}.jpg" for name in f"{adobe} {bad}".split()]
    truepic = [f"truepic-20230212-{name}.jpg" for name in ("camera", "landscape", "library")]
    return [*named, "nikon-20221019-building.jpeg", *truepic]


@pytest.fixture(scope="module")
def trust(shared: Path) -> Trust:
    lists = shared / "data" / "c2pa" / "trust-list"
    return Trust(
        signers=(lists / "C2PA-TRUST-LIST.pem").read_text(),
        time_stamps=(lists / "C2PA-TSA-TRUST-LIST.pem").read_text(),
    )


def expected(folder: Path, stem: str) -> set[str]:
    """The failure codes of the file's own document."""
    document = json.loads((folder / "manifests" / stem / "manifest_store.json").read_text())
    return {item["code"] for item in document.get("validation_status") or ()}


def failed(found: Verification) -> set[str]:
    return {code.removeprefix("ingredient:") for code in found.failures}


def test_the_whole_collection_is_walked(shared: Path) -> None:
    folder = shared / "data" / "c2pa" / "public-testfiles" / "image" / "jpeg"
    assert {
        path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".md"
    } == set(files())


@pytest.mark.parametrize("name", files())
def test_expected_codes_are_met_or_their_difference_is_explained(
    shared: Path, trust: Trust, name: str
) -> None:
    folder = shared / "data" / "c2pa" / "public-testfiles" / "image" / "jpeg"
    stem = name.rpartition(".")[0]
    found = examine(folder / name, trust)
    assert found.explanation
    if stem in NO_MANIFEST:
        assert found.state is State.NO_MANIFEST
        return
    wanted = expected(folder, stem)
    missing = wanted - failed(found) - {"signingCredential.untrusted"}
    assert missing == set(EXPLAINED.get(stem, ())), (wanted, found.failures)
    own = {code for code in found.failures if not code.startswith("ingredient:")}
    fails = own - {"signingCredential.untrusted"}
    assert (found.state is State.INVALID) == bool(fails)
    if not wanted:
        assert bool(fails) == (stem in FAIL_TODAY), found.failures
    if not fails:
        # C2PA's test root is not in the official list
        assert found.state is State.UNTRUSTED


def test_every_explanation_is_needed(shared: Path, trust: Trust) -> None:
    folder = shared / "data" / "c2pa" / "public-testfiles" / "image" / "jpeg"
    for stem, codes in EXPLAINED.items():
        (path,) = folder.glob(f"{stem}.*")
        assert set(codes) <= expected(folder, stem)
        assert not set(codes) & failed(examine(path, trust))


def test_a_pdf_and_a_font_end_in_a_state(shared: Path, trust: Trust) -> None:
    folder = shared / "data" / "c2pa" / "public-testfiles"
    others = [path for path in folder.rglob("*") if path.suffix in (".pdf", ".ttf")]
    for path in others:
        found = examine(path, trust)
        assert found.state in (
            State.UNTRUSTED,
            State.UNSUPPORTED,
            State.NO_MANIFEST,
            State.UNREADABLE,
        )
        assert found.explanation


def test_the_official_lists_are_read_whole(trust: Trust) -> None:
    from assaymark.provenance.chains import certificates

    assert len(certificates(trust.signers)) == 30
    assert len(certificates(trust.time_stamps)) == 22
