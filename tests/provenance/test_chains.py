"""Chains of certificates, against OpenSSL's own walk."""

import datetime as dt
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from authorities import EMAIL, NOW, OCSP_SIGNING, STAMPING, authority, key_pem, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance.chains import certificates, chain_ends_in, pem_of
from assaymark.provenance.keys import CLAIM_SIGNING, Authority
from assaymark.reports.errors import InputError

DAY = dt.timedelta(days=1)
Case = tuple[list[Authority], list[Authority]]  # the chain, and the anchors


def plain(**leaf: object) -> Case:
    root = authority("root", ca=True)
    middle = authority("middle", root, ca=True, path_length=0)
    return [authority("leaf", middle, **{"purposes": EMAIL, **leaf}), middle], [root]  # type: ignore[arg-type]


def long_way(limit: int | None) -> Case:
    root = authority("root", ca=True, path_length=limit)
    first = authority("first", root, ca=True)
    second = authority("second", first, ca=True)
    return [authority("leaf", second, purposes=EMAIL), second, first], [root]


def between(**middle: object) -> Case:
    root = authority("root", ca=True)
    made = authority("middle", root, **{"ca": True, **middle})  # type: ignore[arg-type]
    return [authority("leaf", made, purposes=EMAIL), made], [root]


def cross_signed(good_first: bool) -> Case:
    """One intermediate key with two certificates, of which one leads to an anchor."""
    root, other = authority("root", ca=True), authority("other root", ca=True)
    good = authority("middle", root, ca=True)
    bad = authority("middle", other, ca=True, key=good.key)
    leaf = authority("leaf", good, purposes=EMAIL)
    return [leaf, *((good, bad) if good_first else (bad, good))], [root]


def impostor() -> Case:
    """A root of the same name with another key."""
    chain, _ = plain()
    return chain, [authority("root", ca=True)]


def itself() -> Case:
    leaf = authority("leaf", purposes=EMAIL)
    return [leaf], [leaf]


def leaf_as_issuer() -> Case:
    chain, anchors = plain()
    return [authority("below a leaf", chain[0], purposes=EMAIL), *chain], anchors


# name: chain and anchors, whether they hold, what the reason says, whether OpenSSL judges the same
CASES: dict[str, tuple[Callable[[], Case], bool, str, bool]] = {
    "plain": (plain, True, "ends in the anchor CN=root", True),
    "anchored in the middle": (lambda: (plain()[0][:1], plain()[0][1:]), False, "none of 1", True),
    "cross-signed": (lambda: cross_signed(True), True, "CN=root", True),
    "cross-signed, the bad first": (lambda: cross_signed(False), True, "CN=root", False),
    "path length kept": (lambda: long_way(2), True, "CN=root", True),
    "path length broken": (lambda: long_way(1), False, "allows 1 CA certificates below it", True),
    "impostor": (impostor, False, "which none of 1 anchors issued", True),
    "no anchors": (lambda: (plain()[0], []), False, "none of 0 anchors", True),
    "a leaf as its own anchor": (itself, False, "is not a CA", False),
    "issued by a leaf": (leaf_as_issuer, False, "is not a CA", True),
    "expired leaf": (lambda: plain(end=NOW - DAY / 2), False, "is valid from", True),
    "future leaf": (lambda: plain(start=NOW + DAY), False, "is valid from", True),
    "expired middle": (lambda: between(end=NOW - DAY / 2), False, "is valid from", True),
    "other purpose": (lambda: plain(purposes=STAMPING), False, "not for this purpose", True),
    "no purpose": (lambda: plain(purposes=()), False, "not for this purpose", False),
    "any purpose": (
        lambda: plain(purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        False,
        "not for this purpose",
        True,
    ),
    "CA leaf": (lambda: plain(ca=True), False, "is a CA", True),
    "middle may not certify": (
        lambda: between(sign_certificates=False), False, "lacks keyCertSign", True,
    ),
    "middle for another purpose": (
        lambda: between(purposes=OCSP_SIGNING, critical=False),
        False,
        "may not issue for this purpose",
        True,
    ),
    "critical extension": (
        lambda: plain(extra=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]),
        False,
        "not understood: 1.2.3.4",
        True,
    ),
    "critical name constraints": (
        lambda: between(extra=[(x509.NameConstraints(None, [x509.DNSName("x.org")]), True)]),
        False,
        "not understood: 2.5.29.30",
        False,
    ),
    "RSA and PSS": (lambda: rsa_chain(pss=True), True, "CN=root", True),
    "SHA-224": (lambda: rsa_chain(digest=hashes.SHA224()), False, "none of 1 anchors", False),
}  # fmt: skip


def rsa_chain(**options: object) -> Case:
    root = authority("root", kind="rsa1", ca=True)
    return [authority("leaf", root, purposes=EMAIL, **options)], [root]  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_a_chain_ends_in_an_anchor_or_says_why_not(tmp_path: Path, case: str) -> None:
    build, holds, reason, same = CASES[case]
    chain, anchors = build()
    found = chain_ends_in(pem(*chain), pem(*anchors), NOW, EMAIL)
    assert (found.anchored, bool(found)) == (holds, holds), found.reason
    assert reason in found.reason
    (tmp_path / "anchors.pem").write_text(pem(*anchors) or "\n")
    (tmp_path / "others.pem").write_text(pem(*chain[1:]) or "\n")
    (tmp_path / "leaf.pem").write_text(pem(chain[0]))
    command = [
        "openssl", "verify", "-purpose", "smimesign", "-partial_chain", "-x509_strict",
        "-no-CApath", "-no-CAstore", "-CAfile", "anchors.pem",
        *(["-untrusted", "others.pem"] if chain[1:] else []), "leaf.pem",
    ]  # fmt: skip
    judged = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert (judged.returncode == 0) is (holds if same else not holds)


def test_time_is_the_time_that_is_asked_about() -> None:
    (leaf, middle), (root,) = plain(end=NOW - DAY / 2)
    chain, anchors = pem(leaf, middle), pem(root)
    assert chain_ends_in(chain, anchors, NOW - DAY * 0.75, EMAIL)
    assert not chain_ends_in(chain, anchors, NOW, EMAIL)
    with pytest.raises(InputError, match="no time zone"):
        chain_ends_in(chain, anchors, NOW.replace(tzinfo=None), EMAIL)


def test_anchors_of_one_kind_do_not_vouch_for_the_other() -> None:
    """c2pa makes a claim signer trusted whose root is given for time stamping alone."""
    claims, stamps = authority("claims", ca=True), authority("stamps", ca=True)
    signer = authority("signer", claims, purposes=[CLAIM_SIGNING])
    tsa = authority("tsa", stamps, purposes=STAMPING)
    assert chain_ends_in(pem(signer), pem(claims), NOW, [CLAIM_SIGNING])
    assert chain_ends_in(pem(tsa), pem(stamps), NOW, STAMPING)
    assert not chain_ends_in(pem(signer), pem(stamps), NOW, [CLAIM_SIGNING])
    assert not chain_ends_in(pem(signer), pem(claims), NOW, STAMPING)
    assert not chain_ends_in(pem(tsa), pem(stamps), NOW, [CLAIM_SIGNING])
    assert not chain_ends_in(pem(signer), pem(claims), NOW, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds 0 PEM certificates"),
        ("no PEM", "holds 0 PEM certificates"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "0 PEM certificates in 1 PEM blocks"),
    ],
    ids=["empty", "text", "garbage", "no end"],
)
def test_what_is_no_certificate(text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        certificates(text)


def test_a_private_key_among_certificates_is_refused() -> None:
    made = authority("root", ca=True)
    with pytest.raises(InputError, match="1 PEM certificates in 2 PEM blocks"):
        certificates(pem(made) + key_pem(made))


def test_a_crowd_of_certificates_of_one_name_is_no_work() -> None:
    """All issue one another: without care, the number of paths is the factorial of theirs."""
    first = authority("twin", ca=True)
    crowd = [authority("twin", first, ca=True, key=first.key) for _ in range(15)]
    leaf = authority("leaf", first, purposes=EMAIL)
    anchors = pem(*(authority("twin", ca=True) for _ in range(20)))
    start = time.process_time()
    assert not chain_ends_in(pem(leaf, *crowd), anchors, NOW, EMAIL)
    assert time.process_time() - start < 2
    with pytest.raises(InputError, match="at most 16"):
        chain_ends_in(pem(leaf, *crowd, first), anchors, NOW, EMAIL)


CHAIN, ANCHORS = plain()
DER = [item.certificate.public_bytes(Encoding.DER) for item in CHAIN]


@settings(max_examples=150)
@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 1))
def test_a_changed_certificate_raises_input_error_or_is_not_anchored(
    at: int, value: int, which: int
) -> None:
    ders = [bytearray(item) for item in DER]
    position = at % len(ders[which])
    changed = ders[which][position] != value
    ders[which][position] = value
    try:
        chain = pem_of([bytes(item) for item in ders], "the chain")
        found = chain_ends_in(chain, pem(*ANCHORS), NOW, EMAIL)
    except InputError:
        assert changed
    else:
        assert found.anchored is not changed
