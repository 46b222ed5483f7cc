"""Each reason for refusing a certificate, on a certificate that is wrong in just that way.

The truth is two engines: whatever c2pa-rs does not sign with, or encypher-c2pa calls invalid, has
a reason here; what both trust has none.
"""

import datetime as dt
import functools
import subprocess
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import x509 as asn1
from certificates_for_tests import CLAIMS, Line, certificate, key_pem, named, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose
from engines_for_tests import read, second, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance.certificate_profile import warnings_about, why_refused
from assaymark.provenance.describe_keys import describe
from assaymark.provenance.key_files import parse_certificates
from assaymark.provenance.keys import ALGORITHMS, Credentials, load_credentials, new_chain
from assaymark.reports.errors import InputError

DAY = dt.timedelta(days=1)
line = functools.cache(Line)


@functools.cache
def rsa_line() -> Line:
    return Line(lambda: rsa.generate_private_key(65537, 2048))


def verdict(chain_pem: str, key: Any, root: x509.Certificate, algorithm: str = "es256") -> str:
    """ "refused" at signing, or what c2pa-rs and encypher-c2pa agree on, or "Invalid" by one."""
    try:
        data = signed(Credentials(algorithm=algorithm, chain_pem=chain_pem, key_pem=key_pem(key)))
    except Exception:
        return "refused"
    first, other = read(data, pem(root)), second(data, pem(root))
    return first if first == other else f"{first}/{other}"


def critical(identifier: str) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(identifier), b"\x05\x00")


LEAVES: dict[str, tuple[dict[str, Any], str, str]] = {
    "right": ({}, "", "Trusted"),
    "no basicConstraints": ({"ca": None}, "", "Trusted"),
    "no EKU": ({"purposes": ()}, "has no extendedKeyUsage", "refused"),
    "serverAuth": ({"purposes": (Purpose.SERVER_AUTH,)}, "is for serverAuth only", "refused"),
    "any EKU": (
        {"purposes": (Purpose.ANY_EXTENDED_KEY_USAGE, CLAIMS)},
        "for any purpose (anyExtendedKeyUsage)",
        "refused",
    ),
    "OCSPSigning too": (
        {"purposes": (Purpose.OCSP_SIGNING, CLAIMS)},
        "is for OCSPSigning, which excludes signing claims",
        "refused",
    ),
    "timeStamping too": (
        {"purposes": (Purpose.TIME_STAMPING, CLAIMS)},
        "is for timeStamping, which excludes",
        "refused",
    ),
    # c2pa-rs signs claims with these two
    "timeStamping": ({"purposes": (Purpose.TIME_STAMPING,)}, "is for timeStamping", "Trusted/Invalid"),
    "nonRepudiation": ({"usages": ("content_commitment",)}, "lacks digitalSignature", "Trusted/Invalid"),
    "no keyUsage": ({"usages": None}, "has no keyUsage", "refused"),
    "keyEncipherment": ({"usages": ("key_encipherment",)}, "lacks digitalSignature", "refused"),
    "keyCertSign": ({"usages": ("digital_signature", "key_cert_sign")}, "keyCertSign", "refused"),
    "CA": ({"ca": True}, "is a CA", "refused"),
    "no AKI": ({"aki": False}, "has no authorityKeyIdentifier", "refused"),
    "expired": ({"start": -9 * DAY, "end": -2 * DAY}, "today is", "refused"),
    "not yet valid": ({"start": 2 * DAY}, "today is", "refused"),
    "critical extension": ({"extra": critical("1.2.3.4")}, "do not know: 1.2.3.4", "refused"),
    "curve": ({"key": ec.generate_private_key(ec.SECP256K1())}, "on the curve secp256k1", "refused"),
    "key kind": ({"key": ed448.Ed448PrivateKey.generate()}, "a key of the kind Ed448", "refused"),
    "SHA-224": ({"digest": hashes.SHA224()}, "is signed with sha224_ecdsa", "refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAVES)
def test_each_reason_to_refuse_a_leaf(name: str) -> None:
    options, expected, seen = LEAVES[name]
    chain = pem(line().leaf(**options), line().issuer)
    reasons = why_refused(chain, anchors_pem=pem(line().root))
    assert [expected in reason for reason in reasons] == ([True] if expected else [])
    assert verdict(chain, options.get("key", line().leaf_key), line().root) == seen


def pss(digest: hashes.HashAlgorithm, mask: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(mask), digest.digest_size)


@pytest.mark.parametrize(
    ("digest", "how", "expected", "seen"),
    [
        # encypher-c2pa 1.7 does not follow PSS up a chain, so ours are signed by PKCS #1 v1.5
        (hashes.SHA256(), pss(hashes.SHA256(), hashes.SHA256()), "", "Trusted/Valid"),
        (hashes.SHA384(), None, "", "Trusted"),
        (hashes.SHA256(), pss(hashes.SHA256(), hashes.SHA384()), "MGF1 over sha384", "refused"),
        (hashes.SHA224(), pss(hashes.SHA224(), hashes.SHA224()), "PSS over sha224", "refused"),
        (hashes.SHA224(), None, "sha224_rsa", "refused"),
    ],
    ids=["PSS", "PKCS1", "two hashes", "PSS with SHA-224", "PKCS1 with SHA-224"],
)
def test_rsa_signatures_of_certificates(
    digest: hashes.HashAlgorithm, how: padding.PSS | None, expected: str, seen: str
) -> None:
    rsas = rsa_line()
    chain = pem(rsas.leaf(digest=digest, padding=how), rsas.issuer)
    reasons = why_refused(chain)
    assert [expected in reason for reason in reasons] == ([True] if expected else [])
    assert verdict(chain, rsas.leaf_key, rsas.root, "ps256") == seen


def test_short_rsa_keys_are_refused() -> None:
    key = rsa.generate_private_key(65537, 1024)
    chain = pem(line().leaf(key=key), line().issuer)
    assert "an RSA key of 1024 bits: expected at least 2048" in why_refused(chain)[0]
    assert verdict(chain, key, line().root, "ps256") == "refused"


def openssl(*arguments: str, text: str = "") -> str:
    done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("digest", "version", "form", "expected"),
    [
        ("sha256", 1, "named_curve", "is version 1"),
        ("sha1", 3, "named_curve", "sha1_ecdsa"),
        ("sha256", 3, "explicit", "spells its curve out"),
        ("sha512", 3, "named_curve", ""),
    ],
    ids=["version 1", "SHA-1", "explicit curve", "right"],
)
def test_certificates_that_only_openssl_still_makes(
    tmp_path: Path, digest: str, version: int, form: str, expected: str
) -> None:
    for name, text in (
        ("ca.pem", pem(line().issuer)),
        ("ca.key", key_pem(line().issuer_key)),
        ("leaf.key", key_pem(line().leaf_key)),
        (
            "extensions",
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\n"
            "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n",
        ),
    ):
        (tmp_path / name).write_text(text)
    at = functools.partial(str.format, str(tmp_path) + "/{}")
    openssl("ec", "-in", at("leaf.key"), "-param_enc", form, "-out", at("leaf.key"))
    openssl("req", "-new", "-key", at("leaf.key"), "-subj", "/O=Example Press", "-out", at("csr"))
    extensions = ["-extfile", at("extensions")] if version == 3 else []
    leaf = openssl(
        "x509", "-req", "-in", at("csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"),
        "-CAcreateserial", f"-{digest}", *extensions
    )  # fmt: skip
    reasons = why_refused(leaf + pem(line().issuer))
    assert any(expected in reason for reason in reasons) if expected else not reasons
    seen = verdict(leaf + pem(line().issuer), line().leaf_key, line().root)
    assert seen == ("refused" if expected else "Trusted")


def test_unique_identifiers_are_refused() -> None:
    inner = asn1.Certificate.load(line().leaf().public_bytes(Encoding.DER))
    inner["tbs_certificate"]["subject_unique_id"] = b"\x00\x01"
    body = inner["tbs_certificate"].dump(force=True)
    inner["signature_value"] = line().issuer_key.sign(body, ec.ECDSA(hashes.SHA256()))
    leaf = x509.load_der_x509_certificate(inner.dump(force=True))
    chain = pem(leaf, line().issuer)
    assert [
        "subjectUniqueID" in reason for reason in why_refused(chain, anchors_pem=pem(line().root))
    ] == [True]
    assert verdict(chain, line().leaf_key, line().root) == "refused"


def wrong_issuer(**options: Any) -> x509.Certificate:
    return line().authority(line().issuer_key, "CA", line().root_key, "root", **options)


def chains() -> dict[str, tuple[str, str, str]]:
    """chain, reason, what the engines say when the root is the anchor."""
    ours, leaf, far = line(), line().leaf(), Line()
    below = ec.generate_private_key(ec.SECP256R1())
    sub = ours.authority(below, "sub", ours.issuer_key, "CA")
    deep = ours.leaf(issuer=named("sub"), issuer_key=below)
    old = wrong_issuer(start=-9 * DAY, end=-2 * DAY)
    untrusted = "Valid"
    return {
        "out of order": (pem(ours.issuer, leaf), "the chain is out of order", "refused"),
        "two out of order": (pem(deep, ours.issuer, sub), "the chain is out of order", untrusted),
        "another CA of that name": (pem(leaf, far.issuer), "of another key", untrusted),
        "missing intermediate": (pem(leaf), "add the missing intermediate", untrusted),
        "expired issuer": (pem(leaf, old), "the issuer O=Example Press,CN=CA is valid", untrusted),
        "issuer is no CA": (pem(leaf, wrong_issuer(ca=False)), "is no CA", untrusted),
        "issuer may not issue": (pem(leaf, wrong_issuer(usages=("crl_sign",))), "keyCertSign", untrusted),
        "issuer without SKI": (pem(leaf, wrong_issuer(ski=False)), "subjectKeyIdentifier", ""),
        "path too long": (pem(deep, sub, ours.issuer), "pathLenConstraint", untrusted),
        "nothing": ("", "holds no certificate", ""),
        "endless": (pem(leaf) * 11, "has 11 certificates: expected at most 10", ""),
        "broken": (pem(leaf).replace("MII", "MIJ", 1), "cannot be read", ""),
    }  # fmt: skip


@pytest.mark.parametrize("name", chains())
def test_each_reason_to_refuse_a_chain(name: str) -> None:
    chain, expected, seen = chains()[name]
    reasons = why_refused(chain, anchors_pem=pem(line().root))
    assert any(expected in reason for reason in reasons)
    if seen:
        assert verdict(chain, line().leaf_key, line().root).split("/")[0] == seen


def test_names_in_certificates_cannot_steer_a_terminal() -> None:
    leaf = line().leaf(subject=named("a\x1b[2J\nb"), purposes=())
    (reason,) = why_refused(pem(leaf, line().issuer))
    assert "a\\x1b[2J\\x0ab" in reason
    assert reason.isprintable()


@pytest.mark.parametrize("extension", ["2.5.29.37", "2.5.29.19", "2.5.29.15", "1.3.6.1.5.5.7.1.1"])
def test_a_garbled_extension_is_refused_in_words(extension: str, tmp_path: Path) -> None:
    bad = x509.UnrecognizedExtension(x509.ObjectIdentifier(extension), b"garbage")
    without = {"purposes": (), "ca": None, "usages": None, "extra": bad}
    for chain in (
        pem(line().leaf(**without), line().issuer),
        pem(line().leaf(), wrong_issuer(**without)),
    ):
        assert any("cannot be read" in reason for reason in why_refused(chain))
        (tmp_path / "chain.pem").write_text(chain)
        (tmp_path / "key.pem").write_text(key_pem(line().leaf_key))
        with pytest.raises(InputError, match="cannot be read"):
            load_credentials(tmp_path / "chain.pem", tmp_path / "key.pem", None)
    (tmp_path / "chain.pem").write_text(pem(line().leaf(**without)))
    with pytest.raises(InputError, match="is broken"):
        describe(tmp_path / "chain.pem")


def test_a_self_signed_leaf_is_refused_although_both_engines_trust_it() -> None:
    own = certificate(named("me"), line().leaf_key, named("me"), line().leaf_key)
    assert "is self-signed" in why_refused(pem(own))[0]
    assert verdict(pem(own), line().leaf_key, own) == "Trusted"


ADVICE: dict[str, tuple[dict[str, Any], str]] = {
    "no Organization": ({"subject": named("x", None)}, "names no Organization"),
    "no SKI": ({"ski": False}, "has no subjectKeyIdentifier"),
    "keyUsage not critical": ({"usage_critical": False}, "keyUsage that is not critical"),
    "critical EKU": ({"purposes_critical": True}, "critical extendedKeyUsage"),
    "mail only": ({"purposes": (Purpose.EMAIL_PROTECTION,)}, "is not for c2pa-kp-claimSigning"),
    "claims only": ({"purposes": (CLAIMS,)}, "is not for emailProtection"),
    "serverAuth too": (
        {"purposes": (CLAIMS, Purpose.EMAIL_PROTECTION, Purpose.SERVER_AUTH)},
        "is also for serverAuth",
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_what_is_only_advised_against_is_no_refusal(name: str, tmp_path: Path) -> None:
    options, expected = ADVICE[name]
    chain = pem(line().leaf(**options), line().issuer)
    assert why_refused(chain, anchors_pem=pem(line().root)) == ()
    assert [expected in text for text in warnings_about(parse_certificates(chain.encode()))] == [
        True
    ]
    assert verdict(chain, line().leaf_key, line().root) == "Trusted"
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "key.pem").write_text(key_pem(line().leaf_key))
    loaded = load_credentials(tmp_path / "chain.pem", tmp_path / "key.pem", None)
    assert expected in loaded.warnings[0]


def test_c2pa_rs_asks_for_mail_unless_told_otherwise() -> None:
    chain = pem(line().leaf(purposes=(CLAIMS,)), line().issuer)
    data = signed(Credentials(algorithm="es256", chain_pem=chain, key_pem=key_pem(line().leaf_key)))
    assert read(data, pem(line().root)) == "Trusted"
    assert read(data, pem(line().root), purposes=()) == "Invalid"


def test_a_root_in_the_chain_and_a_lonely_leaf_are_said() -> None:
    leaf = line().leaf()
    whole = warnings_about((leaf, line().issuer, line().root))
    assert ["includes the root" in text for text in whole] == [True]
    assert ["signing certificate only" in text for text in warnings_about((leaf,))] == [True]
    assert why_refused(pem(leaf, line().issuer, line().root)) == ()


def test_load_refuses_with_the_first_reason(tmp_path: Path) -> None:
    leaf = line().leaf(purposes=(), aki=False)
    (tmp_path / "chain.pem").write_text(pem(leaf, line().issuer))
    (tmp_path / "key.pem").write_text(key_pem(line().leaf_key))
    with pytest.raises(
        InputError, match=r"has no extendedKeyUsage.*and 1 more: assaymark keys show"
    ):
        load_credentials(tmp_path / "chain.pem", tmp_path / "key.pem", None)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if not name.startswith("ps")])
def test_our_own_chains_have_nothing_to_object_to(algorithm: str) -> None:
    made = new_chain("Example Press", algorithm=algorithm)
    chain = made.credentials.chain_pem
    assert why_refused(chain, anchors_pem=made.trust_anchor_pem) == ()
    assert warnings_about(parse_certificates(chain.encode())) == ()


USAGES = ("digital_signature", "content_commitment", "key_encipherment", "key_cert_sign")
PURPOSES = (
    CLAIMS, Purpose.EMAIL_PROTECTION, Purpose.TIME_STAMPING, Purpose.OCSP_SIGNING,
    Purpose.SERVER_AUTH, Purpose.ANY_EXTENDED_KEY_USAGE,
)  # fmt: skip


@given(
    usages=st.none() | st.sets(st.sampled_from(USAGES), min_size=1),
    purposes=st.sets(st.sampled_from(PURPOSES)),
    ca=st.sampled_from([None, False, True]),
    aki=st.booleans(),
    ski=st.booleans(),
)
@settings(max_examples=60, derandomize=True)
def test_no_combination_is_refused_without_a_reason_or_trusted_with_one(
    usages: set[str] | None, purposes: set[Any], ca: bool | None, aki: bool, ski: bool
) -> None:
    options = {"usages": usages, "purposes": sorted(purposes, key=str), "ca": ca, "aki": aki}
    chain = pem(line().leaf(ski=ski, **options), line().issuer)
    found = verdict(chain, line().leaf_key, line().root)
    assert (found == "Trusted") == (not why_refused(chain, anchors_pem=pem(line().root)))
