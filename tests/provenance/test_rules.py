"""Each rule holds for a file that keeps it, is broken by one that does not, and is never held unasked."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from authorities import EMAIL, OCSP_SIGNING, STAMPING, authority, pem
from cryptography.hazmat.primitives import hashes
from media import media
from raw_signing import created, manifest, signed

from assaymark.provenance import ocsp_responder, second_opinion, tsa
from assaymark.provenance.case import Case
from assaymark.provenance.ocsp import Responders
from assaymark.provenance.revocation import Standing, Status
from assaymark.provenance.rules import RULES, Broken, judge
from assaymark.provenance.second_opinion import Opinion
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine
from assaymark.reports.errors import InputError

ROOT = authority("a root", ca=True)
LEAF = authority("a signer", ROOT, purposes=EMAIL, critical=False)
STAMP_ROOT = authority("a root of stamps", ca=True)
STAMPER = authority("a stamper", STAMP_ROOT, purposes=STAMPING)
TRUST = Trust(signers=pem(ROOT), time_stamps=pem(STAMP_ROOT))
JPEG = media("JPEG")
FINGERPRINT = LEAF.certificate.fingerprint(hashes.SHA256()).hex()
OPT_OUT = {
    "label": "cawg.training-mining",
    "data": {"entries": {f"cawg.{use}": {"use": "notAllowed"}
                         for use in ("ai_training", "ai_generative_training")}},
}  # fmt: skip
AUTHOR = {
    "label": "cawg.metadata",
    "data": {"@context": {"dc": "http://purl.org/dc/elements/1.1/"}, "dc:creator": ["A. Author"]},
}
FULL = manifest(created(), assertions=[OPT_OUT, AUTHOR])
OPENED = manifest({"action": "c2pa.edited"}, claim_version=1)


@cache
def kept() -> bytes:
    """A file that keeps every rule."""
    with tsa.serving(STAMPER) as url:
        return signed(JPEG, LEAF, definition=FULL, stamps=url)


@cache
def bare() -> bytes:
    return signed(JPEG, LEAF, definition=OPENED)


def case(folder: Path, data: bytes, trust: Trust = TRUST, **options: Any) -> Case:
    path = folder / "a.jpg"
    path.write_bytes(data)
    return Case(found=examine(path, trust), trust=trust, **options)


HELD: dict[str, Any] = {
    "must_be_trusted": True,
    "must_be_intact": True,
    "allowed_signers": ("Somebody", "Example Authority"),
    "allowed_certificates": (FINGERPRINT.upper(),),
    "allowed_anchors": pem(ROOT),
    "allowed_algorithms": ("ed25519", "es256"),
    "required_assertions": ("c2pa.actions", "cawg.metadata"),
    "require_ai_disclosure": True,
    "allowed_source_types": ("trainedAlgorithmicMedia",),
    "require_author": True,
    "require_training_opt_out": True,
    "require_time_stamp": True,
    "max_age_days": 1,
    "max_certificate_age_days": 2,
    "require_valid_certificate_now": True,
    "revocation": "if-stapled",
    "no_free_bytes": True,
    "no_lost_history": True,
    "no_sidecar": True,
    "no_remote": True,
    "require_second_opinion": True,
    "min_claim_version": 2,
}
BROKEN: dict[str, Any] = HELD | {
    "allowed_signers": ("Example",),
    "allowed_certificates": ("00" * 32,),
    "allowed_anchors": pem(STAMP_ROOT),
    "allowed_algorithms": ("ps256",),
    "required_assertions": ("cawg.metadata",),
    "allowed_source_types": ("digitalCapture",),
    "min_claim_version": 3,
}


def keys(broken: tuple[Broken, ...], *, undecided: bool) -> set[str]:
    return {item.rule.replace("-", "_") for item in broken if item.undecided is undecided}


def test_a_file_that_keeps_every_rule_breaks_none(tmp_path: Path) -> None:
    assert set(HELD) == set(RULES) - {"require_identity"}
    assert judge(case(tmp_path, kept()), HELD) == ()


def test_a_bare_file_breaks_what_it_lacks(tmp_path: Path) -> None:
    broken = judge(case(tmp_path, bare()), BROKEN)
    assert keys(broken, undecided=False) == {
        "allowed_signers", "allowed_certificates", "allowed_anchors", "allowed_algorithms",
        "required_assertions", "require_ai_disclosure", "allowed_source_types", "require_author",
        "require_training_opt_out", "require_time_stamp", "no_lost_history", "min_claim_version",
    }  # fmt: skip
    assert keys(broken, undecided=True) == {"max_age_days"}  # nobody knows when it was signed
    for item in broken:
        assert item.why
        assert item.next_step
        assert item.rule in str(item)


@pytest.mark.parametrize("data", [b"", JPEG, kept()[:-60], kept()[:3000], b"\0" * 99],
                         ids=["empty", "unsigned", "cut", "cut in the manifest", "unknown"])  # fmt: skip
def test_without_credentials_that_hold_no_rule_is_kept(tmp_path: Path, data: bytes) -> None:
    """What a broken manifest says counts for nothing; only where the credentials are can be asked."""
    found = case(tmp_path, data)
    assert found.found.state not in (State.TRUSTED, State.UNTRUSTED)
    broken = judge(found, HELD | {"require_identity": True})
    missing = set(HELD) - {item.rule.replace("-", "_") for item in broken}
    assert missing <= {"require_second_opinion", "no_sidecar", "no_remote"}
    if not found.found.readable:
        assert missing <= {"require_second_opinion"}  # both engines refuse it


def test_a_stranger_with_the_right_name_is_not_allowed(tmp_path: Path) -> None:
    forger = authority("a signer", authority("a root", ca=True), purposes=EMAIL, critical=False)
    found = case(tmp_path, signed(JPEG, forger))
    assert found.found.signer == "Example Authority"
    asked = {"allowed_signers": ("Example Authority",), "allowed_anchors": pem(ROOT)}
    assert keys(judge(found, asked), undecided=False) == set(asked)
    # an issuer's fingerprint means nothing when nobody vouches for the chain
    issuer = ROOT.certificate.fingerprint(hashes.SHA256()).hex()
    assert judge(found, {"allowed_certificates": (issuer,)})


def test_age_is_measured_from_a_trusted_time(tmp_path: Path) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    found = case(tmp_path, kept(), now=later)
    assert keys(judge(found, {"max_age_days": 2}), undecided=False) == {"max_age_days"}
    assert judge(found, {"max_age_days": 4}) == ()
    assert judge(found, {"max_certificate_age_days": 2})
    past = case(tmp_path, kept(), now=later + dt.timedelta(days=60))
    assert judge(past, {"require_valid_certificate_now": True})


def test_text_in_the_padding_breaks_the_rule(tmp_path: Path) -> None:
    at = kept().index(b"\0" * 500)
    hidden = kept()[:at] + b"hello" + kept()[at + 5 :]
    found = case(tmp_path, hidden)
    assert found.found.state is State.TRUSTED
    (broken,) = judge(found, {"no_free_bytes": True})
    assert not broken.undecided
    assert "COSE pad" in broken.seen


def test_a_history_that_was_dropped_is_lost(tmp_path: Path) -> None:
    """Trap 7: signing again without the source as ingredient leaves one manifest, and it is trusted."""
    again = signed(kept(), LEAF, definition=OPENED)
    found = case(tmp_path, again)
    assert found.found.state is State.TRUSTED
    assert len(found.found.history) == 1
    (broken,) = judge(found, {"no_lost_history": True})
    assert "not from what" in broken.seen
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["p"]}}
    parent = {"title": "before", "relationship": "parentOf", "label": "p", "instance_id": "p"}
    whole = signed(kept(), LEAF, definition=manifest(opened), ingredients=[(parent, kept())])
    assert judge(case(tmp_path, whole), {"no_lost_history": True}) == ()
    # the disclosure of a parent counts for what was made from it
    assert judge(case(tmp_path, whole), {"require_ai_disclosure": True}) == ()


def test_a_broken_ingredient_is_lost_history(shared: Path) -> None:
    root = shared / "data" / "c2pa" / "public-testfiles"
    (path,) = root.rglob("adobe-20220124-CIE-sig-CA.jpg")
    (broken,) = judge(Case(found=examine(path)), {"no_lost_history": True})
    assert "E-sig-CA.jpg does not hold" in broken.seen


def test_a_remote_manifest_breaks_its_rule(tmp_path: Path) -> None:
    data = signed(JPEG, LEAF, remote="http://192.0.2.1/m.c2pa", embed=False)
    broken = judge(case(tmp_path, data), {"no_remote": True, "no_sidecar": True})
    assert keys(broken, undecided=False) == {"no_remote"}
    assert keys(broken, undecided=True) == {"no_sidecar"}
    beside = case(tmp_path, kept())
    beside = replace(beside, found=replace(beside.found, where="sidecar"))
    assert keys(judge(beside, {"no_sidecar": True}), undecided=False) == {"no_sidecar"}


@contextmanager
def responder(status: Status) -> Iterator[tuple[bytes, Trust, str]]:
    """A file whose certificate names a responder on loopback that says `status`."""
    authority_ = authority("a root", ca=True)
    delegate = authority("a responder", authority_, purposes=OCSP_SIGNING)
    standing = Standing(status=status, when=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    with ocsp_responder.serving(authority_.certificate, delegate, lambda serial: standing) as url:
        leaf = authority("a signer", authority_, purposes=EMAIL, critical=False, responder=url)
        yield signed(JPEG, leaf), Trust(signers=pem(authority_)), url.split("/")[2]


def test_revocation_is_asked_and_hard(tmp_path: Path) -> None:
    policy = {"revocation": "required"}
    with responder(Status.GOOD) as (data, trust, host):
        asked = Responders(private_hosts=[host])
        assert judge(case(tmp_path, data, trust, responders=asked), policy) == ()
        # nobody is asked unless the caller says so, and then nothing is known
        assert keys(judge(case(tmp_path, data, trust), policy), undecided=True) == {"revocation"}
        assert judge(case(tmp_path, data, trust), {"revocation": "if-stapled"}) == ()
        assert judge(case(tmp_path, data, trust), {"revocation": "off"}) == ()
    # the responder is gone: the library alone waits 30 seconds and then trusts
    began = dt.datetime.now()
    down = Responders(private_hosts=[host], timeout_s=1.0)
    assert keys(judge(case(tmp_path, data, trust, responders=down), policy), undecided=True) == {
        "revocation"
    }
    assert dt.datetime.now() - began < dt.timedelta(seconds=10)
    with responder(Status.REVOKED) as (data, trust, host):
        asked = Responders(private_hosts=[host])
        (broken,) = judge(case(tmp_path, data, trust, responders=asked), policy)
        assert not broken.undecided
        assert "revoked" in broken.why


def test_a_second_opinion_that_differs_or_is_missing_breaks_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = {"require_second_opinion": True}
    monkeypatch.setattr(second_opinion, "available", lambda: False)
    (broken,) = judge(case(tmp_path, kept()), policy)
    assert broken.undecided
    assert "pip install" in broken.seen
    found = case(tmp_path, kept())
    other = Opinion(state=State.INVALID, agrees=False, why="c2pa: trusted; encypher-c2pa: invalid")
    found.__dict__["second"] = other
    (broken,) = judge(found, policy)
    assert (broken.undecided, broken.seen) == (False, other.why)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"must_be_trustd": True}, 'did you mean "must_be_trusted"'),
        ({"must_be_trusted": "yes"}, "expected true or false"),
        ({"allowed_signers": ()}, "expected one or more texts"),
        ({"allowed_signers": "Example"}, "expected one or more texts"),
        ({"allowed_algorithms": ("es265",)}, 'did you mean "es256"'),
        ({"revocation": "always"}, "knows no"),
        ({"max_age_days": 0}, "days from 1"),
        ({"max_age_days": True}, "days from 1"),
        ({"allowed_anchors": "root.pem"}, "expected PEM certificates"),
    ],
    ids=str,
)
def test_a_policy_that_is_wrong_is_refused(
    tmp_path: Path, policy: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        judge(case(tmp_path, JPEG), policy)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_the_table_is_fit_for_a_command_line(rule: Any) -> None:
    assert rule.key == rule.name.replace("-", "_")
    assert rule.name.islower()
    assert rule.help[0].islower()
    assert not rule.help.endswith(".")
    assert bool(rule.choices) == (rule.key in ("allowed_algorithms", "revocation"))
    check: Callable[[Any], None] = rule.check
    with pytest.raises(InputError):
        check(object())


def test_a_trusted_identity_is_asked_for(tmp_path: Path) -> None:
    (broken,) = judge(case(tmp_path, kept()), {"require_identity": True})
    assert (broken.undecided, broken.seen) == (False, "none")
