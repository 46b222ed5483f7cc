"""Replacing and revoking signing certificates in a key folder."""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from assaymark.provenance.certificates import (
    HASHES,
    Authority,
    Key,
    check_algorithm,
    check_days,
    issue,
    leaf_key,
    named,
    new_key,
    pem,
    private_pem,
    public_der,
    serial_of,
)
from assaymark.provenance.describe_keys import Description, describe, ocsp_url
from assaymark.provenance.key_files import (
    read_certificates,
    read_private_key,
)
from assaymark.provenance.key_folder import (
    Index,
    Pair,
    Revocation,
    locked,
    open_folder,
    place,
    save_index,
    stamp,
    switch,
    writing,
)
from assaymark.provenance.keys import check_passphrase
from assaymark.reports.errors import InputError, nearest

CRL = "crl.pem"
CRL_DAYS = 30
# RFC 5280, section 5.3.1, without those that are not for end-entity certificates
REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "keyCompromise": x509.ReasonFlags.key_compromise,
    "affiliationChanged": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessationOfOperation": x509.ReasonFlags.cessation_of_operation,
    "privilegeWithdrawn": x509.ReasonFlags.privilege_withdrawn,
}


@dataclass(frozen=True, kw_only=True)
class Revoked:
    """What `revoke` recorded. crl: the list that says so to others, None where the certificate
    is of somebody else's CA, who has to be asked."""

    revocation: Revocation
    crl: Path | None


def rotate(
    folder: Path, passphrase: bytes, *, days: int = 365, algorithm: str | None = None
) -> Description:
    """A new signing key and certificate from the same intermediate, with the old one's names.

    The old pair goes to `archive/`: what it signed stays verifiable. algorithm: None keeps it.
    Killed at any moment, the folder holds a pair that signs. Raises InputError for a wrong
    passphrase, an intermediate that ends too soon, or a certificate that another CA issued.
    """
    check_days(days)
    check_passphrase(passphrase)
    if algorithm is not None:
        check_algorithm(algorithm)
    with locked(folder, exclusive=True):
        index = open_folder(folder)
        old = index.pair_that_signs
        leaf = read_certificates(folder / "chain.pem")[0]
        if not old.own:
            raise InputError(
                f"{named(leaf.subject)} was issued by {named(leaf.issuer)}: ask there for a "
                "new one, with assaymark keys request and then keys install"
            )
        issuer = _issuer(folder, passphrase)
        _check_issuer_lasts(issuer.certificate, days)
        pair, certificate, key = _reissue(leaf, issuer, algorithm or old.algorithm, days)
        chain = pem(certificate, issuer.certificate)
        switch(folder, index, chain, private_pem(key, passphrase), pair)
    return describe(folder)


def _reissue(
    leaf: x509.Certificate, issuer: Authority, algorithm: str, days: int
) -> tuple[Pair, x509.Certificate, Key]:
    key = new_key(algorithm)
    certificate = issue(
        leaf.subject,
        key.public_key(),
        "signing",
        issuer=issuer.certificate,
        issuer_key=issuer.key,
        days=days,
        digest=_digest(issuer, algorithm),
        ocsp_url=ocsp_url(leaf),
    )
    pair = Pair(serial=serial_of(certificate), algorithm=algorithm, created=stamp())
    return pair, certificate, key


def revoke(
    folder: Path, passphrase: bytes, serial: str = "current", reason: str = "unspecified"
) -> Revoked:
    """Record that a certificate must not be trusted any more, and sign a new CRL (RFC 5280).

    serial: hexadecimal, as `keys show` prints it, or "current". reason: one of REASONS. The CRL is
    good for 30 days; revoking the same certificate again renews it. Raises InputError for a serial
    the folder did not issue, an unknown reason or a wrong passphrase.
    """
    if reason not in REASONS:
        raise InputError(f'unknown reason "{reason}"{nearest(reason, REASONS)}')
    with locked(folder, exclusive=True):
        index = open_folder(folder)
        wanted = _serial(index, folder, serial)
        issuer = _issuer(folder, passphrase)
        found = index.revocation(wanted) or Revocation(serial=wanted, reason=reason, at=stamp())
        others = tuple(item for item in index.revoked if item.serial != wanted)
        index = replace(index, revoked=(*others, found), crl_number=index.crl_number + 1)
        # first for ourselves: if this is the last thing we do, nobody signs with it here
        save_index(folder, index)
        with writing(folder):
            place(folder / CRL, _crl(index, issuer))
        pair = index.pair(wanted)
    return Revoked(revocation=found, crl=folder / CRL if pair is None or pair.own else None)


def _serial(index: Index, folder: Path, serial: str) -> str:
    if serial == "current":
        return index.current
    wanted = serial.upper().replace(":", "").removeprefix("0X")
    known = [item.serial for item in index.pairs] + [
        serial_of(read_certificates(folder / name)[0])
        for name in ("tsa.pem", "ocsp.pem")
        if (folder / name).exists()
    ]
    found = [item for item in known if item.lstrip("0") == wanted.lstrip("0")]
    if not found:
        raise InputError(f"{folder} did not issue {serial}; known are {', '.join(known)}")
    return found[0]


def _crl(index: Index, issuer: Authority) -> str:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + dt.timedelta(days=CRL_DAYS))
        .add_extension(x509.CRLNumber(index.crl_number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
    )
    for item in index.revoked:
        pair = index.pair(item.serial)
        if pair is None or pair.own:
            builder = builder.add_revoked_certificate(_entry(item))
    digest = issuer.certificate.signature_hash_algorithm
    signed = builder.sign(issuer.key, digest)  # type: ignore[arg-type]
    return signed.public_bytes(Encoding.PEM).decode()


def _entry(item: Revocation) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(item.serial, 16))
        .revocation_date(dt.datetime.fromisoformat(item.at))
    )
    flag = REASONS.get(item.reason, x509.ReasonFlags.unspecified)
    if flag is not x509.ReasonFlags.unspecified:  # RFC 5280, section 5.3.1: then it is absent
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    return builder.build()


def _issuer(folder: Path, passphrase: bytes) -> Authority:
    certificate = read_certificates(folder / "intermediate.pem", "issuing certificate")[0]
    key = read_private_key(folder / "intermediate.key.pem", passphrase)
    if public_der(key.public_key()) != leaf_key(certificate):  # type: ignore[attr-defined]
        raise InputError(f"{folder}/intermediate.key.pem is not the key of intermediate.pem")
    return Authority(certificate=certificate, key=key)  # type: ignore[arg-type]


def _check_issuer_lasts(issuer: x509.Certificate, days: int) -> None:
    end = issuer.not_valid_after_utc
    if end < dt.datetime.now(dt.UTC) + dt.timedelta(days=days):
        raise InputError(
            f"the intermediate ends on {end:%Y-%m-%d}, before a certificate of {days} days would: "
            "ask for fewer days, or make a new folder with assaymark keys new"
        )


def _digest(issuer: Authority, algorithm: str) -> hashes.HashAlgorithm | None:
    if isinstance(issuer.key, ed25519.Ed25519PrivateKey):
        return None
    return HASHES[algorithm] or issuer.certificate.signature_hash_algorithm
