"""What signed claims say of a file, by signers we trust, strangers and forgers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from authorities import EMAIL, authority, pem
from media import media
from raw_signing import created, manifest, signed

from assaymark.provenance.credential_evidence import credential_evidence, look_credential
from assaymark.provenance.evidence import Evidence, Says
from assaymark.provenance.material import open_material
from assaymark.provenance.source_types import SOURCE_TYPES
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine
from assaymark.reports.errors import InputError

ROOT = authority("a root", ca=True)
LEAF = authority("a signer", ROOT, purposes=EMAIL, critical=False)
TRUST = Trust(signers=pem(ROOT))
JPEG = media("JPEG")


def uri(name: str) -> str:
    return SOURCE_TYPES[name].uri


def look(folder: Path, data: bytes, trust: Trust | None = TRUST, name: str = "a.jpg") -> Evidence:
    path = folder / name
    path.write_bytes(data)
    options = {} if trust is None else {"trust": trust}
    (one,) = look_credential(open_material(path, options))
    return one


def claimed(*actions: dict[str, Any], **more: Any) -> bytes:
    return signed(JPEG, LEAF, ROOT, definition=manifest(*actions, **more))


CREATED = {
    "digitalCapture": Says.AUTHENTIC,
    "computationalCapture": Says.AUTHENTIC,
    "trainedAlgorithmicMedia": Says.GENERATED,
    "compositeWithTrainedAlgorithmicMedia": Says.MANIPULATED,
    "compositeSynthetic": Says.MANIPULATED,
    "digitalCreation": Says.NOTHING,
    "algorithmicMedia": Says.NOTHING,
    "screenCapture": Says.NOTHING,
}


@pytest.mark.parametrize(("name", "says"), CREATED.items())
def test_what_the_source_type_of_creation_says(name: str, says: Says, tmp_path: Path) -> None:
    data = claimed(created(uri(name)))
    one = look(tmp_path, data)
    assert (one.says, one.details["trusted"], one.details["state"]) == (says, True, "trusted")
    assert name in one.summary
    weaker = look(tmp_path, data, None)
    assert weaker.says is (Says.NOTHING if says is Says.AUTHENTIC else says)
    assert (weaker.details["trusted"], weaker.details["stated"]) == (False, says.value)
    assert "no anchor vouches" in weaker.summary


EDITS: dict[str, tuple[tuple[dict[str, Any], ...], Says]] = {
    "captured and cropped": (({"action": "c2pa.cropped"},), Says.AUTHENTIC),
    "captured and converted": (({"action": "c2pa.converted"},), Says.AUTHENTIC),
    "captured and drawn on": (({"action": "c2pa.drawing"},), Says.NOTHING),
    "captured and edited": (({"action": "c2pa.edited"},), Says.NOTHING),
    "captured and edited with AI": (
        ({"action": "c2pa.edited", "digitalSourceType": uri("trainedAlgorithmicMedia")},),
        Says.MANIPULATED,
    ),
    "captured and partly made with AI": (
        ({"action": "c2pa.edited", "digitalSourceType": uri("compositeWithTrainedAlgorithmicMedia")},),
        Says.MANIPULATED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_what_later_actions_make_of_a_capture(name: str, tmp_path: Path) -> None:
    actions, says = EDITS[name]
    assert look(tmp_path, claimed(created(uri("digitalCapture")), *actions)).says is says


PARTS = {
    ("parentOf", "trainedAlgorithmicMedia"): Says.GENERATED,
    ("parentOf", "digitalCapture"): Says.AUTHENTIC,
    ("componentOf", "trainedAlgorithmicMedia"): Says.MANIPULATED,
    ("componentOf", "digitalCapture"): Says.NOTHING,
    ("inputTo", "trainedAlgorithmicMedia"): Says.NOTHING,
}


@pytest.mark.parametrize(("relation", "name"), PARTS)
def test_what_an_ingredient_makes_of_a_work(relation: str, name: str, tmp_path: Path) -> None:
    part = signed(JPEG, LEAF, ROOT, definition=manifest(created(uri(name))))
    actions = {
        "parentOf": ({"action": "c2pa.opened", "parameters": {"ingredientIds": ["p"]}},),
        "componentOf": (
            created(uri("digitalCreation")),
            {"action": "c2pa.placed", "parameters": {"ingredientIds": ["p"]}},
        ),
        "inputTo": (created(uri("digitalCreation")),),
    }[relation]
    described = {"title": "p", "relationship": relation, "label": "p", "instance_id": "p"}
    data = signed(JPEG, LEAF, ROOT, definition=manifest(*actions), ingredients=[(described, part)])
    one = look(tmp_path, data)
    assert one.details["state"] == "trusted", one
    assert one.says is PARTS[relation, name]


def test_a_file_that_was_changed_after_signing(tmp_path: Path) -> None:
    data = bytearray(claimed(created(uri("digitalCapture"))))
    data[-20] ^= 1
    one = look(tmp_path, bytes(data))
    assert one.says is Says.MANIPULATED
    assert "assertion.dataHash.mismatch" in one.summary
    assert one.details["trusted"] is False


def test_bytes_of_credentials_behind_a_file_are_no_credentials(tmp_path: Path) -> None:
    data = claimed(created())
    for forged in (JPEG + data, JPEG + b"jumbjumdc2pa trainedAlgorithmicMedia"):
        assert look(tmp_path, forged).says in (Says.NOTHING, Says.ABSTAINS)


def test_without_credentials_and_of_no_kind(tmp_path: Path) -> None:
    assert look(tmp_path, JPEG).says is Says.NOTHING
    assert look(tmp_path, b"", name="a.bin").says is Says.ABSTAINS


def test_credentials_on_a_server_are_told_and_not_fetched(tmp_path: Path) -> None:
    data = signed(JPEG, LEAF, ROOT, remote="https://example.org/a.c2pa", embed=False)
    one = look(tmp_path, data)
    assert one.says is Says.ABSTAINS
    assert one.details["remote"] == "https://example.org/a.c2pa"
    assert "nothing is fetched" in one.summary


def test_an_expired_signer_says_nothing_against_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(claimed(created()))
    found = replace(
        examine(path, TRUST), state=State.INVALID, failures=("signingCredential.expired",)
    )
    assert credential_evidence(found).says is Says.NOTHING


def test_an_option_of_another_type_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)
    with pytest.raises(InputError, match="the option trust is a str: expected a Trust"):
        look_credential(open_material(path, {"trust": "yes"}))
