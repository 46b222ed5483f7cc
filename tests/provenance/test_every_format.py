"""Every format signs and reads back, and no attack on any of them leaves it trusted."""

from collections.abc import Callable
from pathlib import Path

import encypher_c2pa
import media
import pytest
from tampering import ATTACKS, Case

from assaymark.provenance.formats import FORMATS, HEAD, Route, recognise
from assaymark.provenance.keys import Chain
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine

Signed = Callable[[str], Case]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, chain: Chain) -> Signed:
    """Each format once, and once more with other content under the same name ("MP4*")."""
    made: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in made:
            made[name] = _sign(name, tmp_path_factory.mktemp("signed"), chain)
        return made[name]

    return get


def _sign(name: str, folder: Path, chain: Chain) -> Case:
    kind = name.removesuffix("*")
    source = media.write(folder, kind)
    if name != kind:
        source.write_bytes(media.other(kind))
    (folder / "out").mkdir()
    out = folder / "out" / source.name
    sign(source, out, chain.credentials)
    side = out.with_name(f"{out.name}.c2pa")
    return Case(
        main=out.read_bytes(),
        side=side.read_bytes() if side.exists() else None,
        original=source.read_bytes(),
    )


def put(folder: Path, name: str, case: Case) -> Path:
    path = media.write(folder, name)
    path.write_bytes(case.main)
    side = path.with_name(f"{path.name}.c2pa")
    side.unlink(missing_ok=True)
    if case.side is not None:
        side.write_bytes(case.side)
    return path


# The second engine knows fewer names of kinds: what it is told, where it knows the way of embedding.
_CODE = ("C", "Java", "shell", "configuration", "INI", "SQL", "TeX")
_BESIDE = ("NEF", "ARW", "Matroska", "JSON", "CSV", "file")
TOLD = {
    "ZIP": "application/zip",
    "JavaScript": "application/javascript",
    **dict.fromkeys(("OTT", "OTS", "OTP", "OTG"), "application/vnd.oasis.opendocument.text"),
    **dict.fromkeys(_CODE, "text/x-python"),
    **dict.fromkeys(_BESIDE, "application/xml"),
}
# Where it says something else of an untouched file, and why.
DIFFERENCES = {
    Route.ZIP: (
        "assertion.collectionHash.malformed",
        "c2pa-rs writes the `uris` of a collection hash as a map, C2PA 2.4 (section 18.8) has an "
        "array; no layout of the package changes that",
    ),
    "text/plain": (
        "assertion.dataHash.malformed",
        "under the names of text that has no comments it wants a wrapper in the text, and refuses a "
        "manifest beside it (section 11.4), which c2pa-rs accepts",
    ),
}


def second_opinion(case: Case, media_type: str, chain: Chain) -> tuple[list[str], str, str, str]:
    """Failures, integrity, hard binding and trust."""
    found = encypher_c2pa.verify(
        case.main,
        media_type,
        manifest_store=case.side,
        trust_pem=chain.trust_anchor_pem,
        no_default_trust=True,
        telemetry=False,
        online=False,
    )
    failures = [str(item["code"]) for item in found["validation_results"]["failure"]]
    return failures, found["integrity"], found["hard_binding"], found["trust"]["status"]


@pytest.mark.parametrize("name", media.MEDIA)
def test_a_signed_file_is_trusted_by_both_engines(
    signed: Signed, tmp_path: Path, chain: Chain, name: str
) -> None:
    case = signed(name)
    path = put(tmp_path, name, case)
    found = examine(path, Trust(signers=chain.trust_anchor_pem))
    assert found.state is State.TRUSTED, found.explanation
    kind = recognise(path, case.main[:HEAD])
    assert kind is not None
    assert kind.name == name
    assert found.where == ("sidecar" if kind.route is Route.SIDECAR else "embedded")
    assert len(case.main) - len(case.original) < 20_000
    failures, *verdict = second_opinion(case, TOLD.get(name, kind.media_type), chain)
    if kind.route is Route.ZIP:
        assert failures == [DIFFERENCES[Route.ZIP][0]]
    else:
        assert (failures, verdict) == ([], ["valid", "match", "valid_for_supplied_material"])


@pytest.mark.parametrize("media_type", ["text/plain", "application/json", "text/csv"])
def test_what_the_second_engine_says_of_a_manifest_beside_a_text(
    signed: Signed, chain: Chain, media_type: str
) -> None:
    code, _ = DIFFERENCES["text/plain"]
    assert second_opinion(signed("JSON"), media_type, chain)[0] == [code]


BROKEN = {State.INVALID, State.UNREADABLE}
# A change to the structure that leads to the manifest loses it, as if it had been stripped.
LOST = BROKEN | {State.NO_MANIFEST, State.UNSUPPORTED}
EXPECTED: dict[str, set[State]] = dict.fromkeys(ATTACKS, BROKEN) | {
    "stripped": {State.NO_MANIFEST},
    "content near its begin": LOST,
    "content in the middle": LOST,
    "content near its end": LOST,
    "half cut": LOST,
    "bytes inserted": LOST,
    "regions swapped": LOST,
}
# Four bytes that no hash covers: where c2pa takes the store out itself, it does not compare the length
# in the store's own box header (ISO/IEC 19566-5, section 4) with the length of what holds the store.
FREE = {"length of the store"}
_OWN = (Route.TEXT, Route.HTML, Route.STRUCTURED, Route.SIDECAR, Route.ZIP)


@pytest.mark.parametrize("name", media.MEDIA)
def test_no_attack_leaves_a_file_trusted(
    signed: Signed, tmp_path: Path, chain: Chain, name: str
) -> None:
    case, other = signed(name), signed(f"{name}*")
    route = next((kind.route for kind in FORMATS if kind.name == name), Route.SIDECAR)
    wrong, seen = {}, set()
    for attack, change in ATTACKS.items():
        changed = change(case, other)
        assert (changed.main, changed.side) != (case.main, case.side), attack
        found = examine(put(tmp_path, name, changed), Trust(signers=chain.trust_anchor_pem))
        assert found.explanation
        seen.add(found.state)
        if found.state not in EXPECTED[attack] and (route in _OWN or attack not in FREE):
            wrong[attack] = found
    assert wrong == {}
    assert State.INVALID in seen


# Attacks that the second engine lets pass on text: it takes a store that is shorter or longer than its
# own header says.
LET_PASS = {"length of the store"}


def _intact_there(case: Case, told: str, chain: Chain) -> bool:
    try:
        _, *verdict = second_opinion(case, told, chain)
    except ValueError:  # it raises for bytes that are no UTF-8
        return False
    return verdict[:2] == ["valid", "match"]


@pytest.mark.parametrize(
    "name",
    [kind.name for kind in FORMATS if kind.route in (Route.TEXT, Route.HTML, Route.STRUCTURED)],
)
def test_both_engines_judge_every_attack_on_a_text_alike(
    signed: Signed, chain: Chain, name: str
) -> None:
    case, other = signed(name), signed(f"{name}*")
    kind = next(kind for kind in FORMATS if kind.name == name)
    told = TOLD.get(name, kind.media_type)
    intact = {}
    for attack, change in ATTACKS.items():
        if attack != "stripped":
            intact[attack] = _intact_there(change(case, other), told, chain)
    assert {attack for attack, good in intact.items() if good} <= LET_PASS
    assert len(intact) >= 12
