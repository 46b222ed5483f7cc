"""What a certificate says, and what became of it; nothing private is read."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from assaymark.provenance.certificate_profile import (
    refused,
    warnings_about,
)
from assaymark.provenance.certificate_rules import purposes_of
from assaymark.provenance.certificates import algorithm_of, named, serial_of
from assaymark.provenance.key_files import read_certificates
from assaymark.provenance.key_folder import (
    Index,
    archived,
    index_beside,
    locked,
    settled,
)
from assaymark.reports.errors import InputError

Status = Literal["current", "rotated", "revoked", "expired", "not yet valid", "unmanaged"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A signing certificate in words.

    days_left: whole days until it ends, negative afterwards. fingerprint: SHA-256 of the DER, in
    hexadecimal. refused: why it may not sign claims. status "unmanaged": no key folder knows it,
    so whether it was rotated or revoked is unknown.
    """

    path: Path
    subject: str
    organization: str
    issuer: str
    algorithm: str
    serial: str
    not_before: dt.datetime
    not_after: dt.datetime
    days_left: int
    purposes: tuple[str, ...]
    fingerprint: str
    ocsp_url: str | None
    status: Status
    refused: tuple[str, ...]
    warnings: tuple[str, ...]


def describe(path: Path, *, at: dt.datetime | None = None) -> Description:
    """The signing certificate of a key folder, or the first one of a file.

    at: an aware time; None is now. Raises InputError when there is no certificate to read.
    """
    chain = path / "chain.pem" if path.is_dir() else path
    if not path.is_dir():
        return _describe(chain, at or dt.datetime.now(dt.UTC))
    with locked(path, exclusive=False):
        return _describe(chain, at or dt.datetime.now(dt.UTC))


def describe_all(folder: Path) -> tuple[Description, ...]:
    """The pair of a key folder that signs, then those that did."""
    return (describe(folder), *(describe(path) for path in archived(folder)))


def _describe(path: Path, at: dt.datetime) -> Description:
    chain = read_certificates(settled(path))
    try:
        return _described(path, chain, at)
    except (ValueError, x509.DuplicateExtension) as error:
        raise InputError(
            f"the certificate in {path} is broken: {str(error)[:160]}; ask its issuer for another"
        ) from error


def _described(path: Path, chain: tuple[x509.Certificate, ...], at: dt.datetime) -> Description:
    leaf, index = chain[0], index_beside(path)
    serial = serial_of(leaf)
    pair = index.pair(serial) if index else None
    names = leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Description(
        path=path,
        subject=named(leaf.subject),
        organization=str(names[0].value) if names else "",
        issuer=named(leaf.issuer),
        algorithm=pair.algorithm if pair else algorithm_of(leaf) or "not allowed by C2PA",
        serial=serial,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        days_left=(leaf.not_valid_after_utc - at) // dt.timedelta(days=1),
        purposes=purposes_of(leaf),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        ocsp_url=ocsp_url(leaf),
        status=_status(leaf, serial, index, at),
        refused=refused(chain, at=at),
        warnings=warnings_about(chain),
    )


def _status(leaf: x509.Certificate, serial: str, index: Index | None, at: dt.datetime) -> Status:
    if index and index.revocation(serial):
        return "revoked"
    if at > leaf.not_valid_after_utc:
        return "expired"
    if at < leaf.not_valid_before_utc:
        return "not yet valid"
    if index is None or index.pair(serial) is None:
        return "unmanaged"
    return "current" if index.current == serial else "rotated"


def ocsp_url(certificate: x509.Certificate) -> str | None:
    """Where the certificate says to ask whether it is revoked (RFC 5280, section 4.2.2.1)."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except x509.ExtensionNotFound:
        return None
    for item in access.value:
        if item.access_method == AuthorityInformationAccessOID.OCSP and isinstance(
            item.access_location, x509.UniformResourceIdentifier
        ):
            return item.access_location.value
    return None
