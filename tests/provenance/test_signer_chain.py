"""Chains to a trust anchor: openssl's command line is the second judge."""

import datetime as dt
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from assaymark.provenance.keys import Chain, new_chain
from assaymark.provenance.signer_chain import judge_signer

Made = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
NOW = dt.datetime.now(dt.UTC)


def certificate(
    name: str,
    issuer: Made | None = None,
    *,
    authority: bool = True,
    path_length: int | None = None,
    signs: bool = True,
    days: tuple[int, int] = (-1, 30),
    foreign: bool = False,
) -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + dt.timedelta(days=days[0]))
        .not_valid_after(NOW + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority and signs,
                content_commitment=not authority,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority and signs,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if foreign:
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        builder = builder.add_extension(strange, critical=True)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


ROOT = certificate("root")
BETWEEN = certificate("between", ROOT, path_length=0)
DEEP = certificate("deep", BETWEEN)
PLAIN = certificate("plain", ROOT, authority=False)
MUTE = certificate("mute", ROOT, signs=False)
OLD = certificate("old", ROOT, days=(-30, -2))
STRANGE = certificate("strange", ROOT, foreign=True)

CASES: dict[str, tuple[Sequence[Made], bool]] = {
    "straight": ((certificate("leaf", ROOT, authority=False),), True),
    "one between": ((certificate("leaf", BETWEEN, authority=False), BETWEEN), True),
    "root carried along": ((certificate("leaf", BETWEEN, authority=False), BETWEEN, ROOT), True),
    "others between": ((certificate("leaf", BETWEEN, authority=False), PLAIN, BETWEEN), True),
    "between is missing": ((certificate("leaf", BETWEEN, authority=False),), False),
    "too deep": ((certificate("leaf", DEEP, authority=False), DEEP, BETWEEN), False),
    "issuer is a leaf": ((certificate("leaf", PLAIN, authority=False), PLAIN), False),
    "issuer may not sign": ((certificate("leaf", MUTE, authority=False), MUTE), False),
    "issuer expired": ((certificate("leaf", OLD, authority=False), OLD), False),
    "issuer is strange": ((certificate("leaf", STRANGE, authority=False), STRANGE), False),
    "leaf expired": ((certificate("leaf", ROOT, authority=False, days=(-30, -2)),), False),
    "leaf not yet valid": ((certificate("leaf", ROOT, authority=False, days=(2, 9)),), False),
    "leaf is strange": ((certificate("leaf", ROOT, authority=False, foreign=True),), False),
    "of another root": ((certificate("leaf", certificate("root"), authority=False),), False),
}


def pem(*made: Made) -> str:
    return "".join(one[0].public_bytes(Encoding.PEM).decode() for one in made)


def openssl_accepts(chain: Sequence[Made], place: Path) -> bool:
    for name, content in (("root", pem(ROOT)), ("leaf", pem(chain[0])), ("rest", pem(*chain[1:]))):
        (place / name).write_text(content)
    command = ["openssl", "verify", "-CAfile", str(place / "root")]
    rest = ["-untrusted", str(place / "rest")] if len(chain) > 1 else []
    command += [*rest, str(place / "leaf")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("case", CASES)
def test_openssl_comes_to_the_same_verdict(case: str, tmp_path: Path) -> None:
    chain, expected = CASES[case]
    found = judge_signer([one[0] for one in chain], pem(ROOT))
    assert found.trusted == expected, found.reason
    assert openssl_accepts(chain, tmp_path) == expected


@pytest.mark.parametrize("algorithm", ["es384", "ed25519"])
def test_our_own_chains_are_trusted(algorithm: str) -> None:
    made = new_chain("Example Labs", algorithm=algorithm)
    chain = [made.leaf.certificate, made.intermediate.certificate]
    found = judge_signer(chain, made.trust_anchor_pem)
    assert (found.name, found.trusted) == ("Example Labs", True)
    assert "no trust anchor" in judge_signer(chain, "").reason


def test_what_signs_works_is_no_authority_and_is_for_signing() -> None:
    assert "authority" in judge_signer([BETWEEN[0]], pem(ROOT)).reason
    mute = certificate("leaf", ROOT, authority=False, signs=False)
    assert "digitalSignature" in judge_signer([mute[0]], pem(ROOT)).reason


def test_a_crowd_of_twins_ends_soon(chain: Chain) -> None:
    """Certificates of one name and key issue each other: n! paths for a naive search."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twin")])
    key = ec.generate_private_key(ec.SECP256R1())
    twins = [
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number + 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
        for number in range(15)
    ]
    leaf = certificate("leaf", (twins[0], key), authority=False)
    assert not judge_signer([leaf[0], *twins], chain.trust_anchor_pem).trusted
