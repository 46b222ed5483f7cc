"""Whether certificates were revoked: the answers, and certificate revocation lists (RFC 5280).

Only "good" is good: who was not asked, does not answer or does not know is told apart, so that a
policy can decide about each.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding

from assaymark.provenance.chains import (
    BROKEN,
    MAX_CHAIN,
    certificates,
    extension,
    issued_by,
    name_of,
    quiet,
    signature_holds,
)
from assaymark.reports.errors import InputError

CLOCK_SKEW = dt.timedelta(minutes=5)
_MAX_CRL = 64 * 1024 * 1024  # bytes


class Status(StrEnum):
    """What is known about one certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    UNREACHABLE = "unreachable"
    NO_RESPONDER = "no responder named"
    NOT_ASKED = "not asked"


_WORST_FIRST = (
    Status.REVOKED,
    Status.UNKNOWN,
    Status.UNREACHABLE,
    Status.NO_RESPONDER,
    Status.NOT_ASKED,
    Status.GOOD,
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An answer about one certificate. when, reason: of a revocation, as far as they are given."""

    status: Status
    when: dt.datetime | None = None
    reason: x509.ReasonFlags | None = None
    explanation: str = ""


@dataclass(frozen=True, kw_only=True)
class CertificateStatus:
    """What is known about one certificate, and from whom (a responder's URL, a file, or "")."""

    subject: str
    serial_number: int
    status: Status
    explanation: str
    when: dt.datetime | None = None
    reason: x509.ReasonFlags | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """What is known about the certificates of a chain, the leaf first; trust anchors are left out."""

    certificates: tuple[CertificateStatus, ...]

    @property
    def leaf(self) -> CertificateStatus:
        return self.certificates[0]

    @property
    def status(self) -> Status:
        """The worst: "good" only when every certificate of the chain is."""
        return min((item.status for item in self.certificates), key=_WORST_FIRST.index)


def merged(found: Sequence[Revocation]) -> Revocation:
    """What several sources, at least one, say of one chain: revoked where one says so, else good."""
    order = (Status.REVOKED, Status.GOOD)

    def rank(item: CertificateStatus) -> int:
        return order.index(item.status) if item.status in order else len(order)

    together = zip(*(one.certificates for one in found), strict=True)
    return Revocation(certificates=tuple(min(items, key=rank) for items in together))


Judge = Callable[[x509.Certificate, x509.Certificate], tuple[Standing, str]]


def judge_chain(chain_pem: str, issuers_pem: str, judge: Judge) -> Revocation:
    """Ask `judge(certificate, issuer)` for each certificate whose issuer is at hand.

    Self-signed certificates above the leaf are trust anchors, or nothing: they are left out.
    Raises InputError when either text is not PEM certificates.
    """
    chain = certificates(chain_pem, "the chain", limit=MAX_CHAIN)
    anchors = certificates(issuers_pem, "the trust anchors") if issuers_pem.strip() else []
    with quiet():
        found = [
            _judge(item, [*chain, *anchors], judge)
            for i, item in enumerate(chain)
            if i == 0 or (item.subject != item.issuer and item not in anchors)
        ]
    return Revocation(certificates=tuple(found))


def from_crl(
    path: Path, chain_pem: str, *, issuers_pem: str = "", now: dt.datetime | None = None
) -> Revocation:
    """What certificate revocation lists in a local file (PEM, one or more, or DER) say of a chain.

    issuers_pem: trust anchors, needed for the certificate that an anchor issued. A list that is
    past its next update, partial or not its issuer's cannot say that a certificate is good. Raises
    InputError when the file is not a list.
    """
    lists = _load(path)
    moment = now or dt.datetime.now(dt.UTC)

    def judge(certificate: x509.Certificate, issuer: x509.Certificate) -> tuple[Standing, str]:
        return _by_lists(certificate, issuer, lists, moment), str(path)

    return judge_chain(chain_pem, issuers_pem, judge)


def _judge(
    certificate: x509.Certificate, known: Sequence[x509.Certificate], judge: Judge
) -> CertificateStatus:
    issuer = next((item for item in known if issued_by(certificate, item)), None)
    if issuer is None:
        standing, source = _unknown("its issuer's certificate is not at hand"), ""
    else:
        standing, source = judge(certificate, issuer)
    return CertificateStatus(
        subject=name_of(certificate),
        serial_number=certificate.serial_number,
        status=standing.status,
        explanation=standing.explanation,
        when=standing.when,
        reason=standing.reason,
        source=source,
    )


def _unknown(explanation: str) -> Standing:
    return Standing(status=Status.UNKNOWN, explanation=explanation)


def _load(path: Path) -> list[x509.CertificateRevocationList]:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_CRL + 1)
    except OSError as error:
        raise InputError(
            f"cannot read the revocation list {path}: {error.strerror or error}"
        ) from error
    if len(data) > _MAX_CRL:
        raise InputError(
            f"{path} has more than {_MAX_CRL} bytes: expected a smaller revocation list"
        )
    begin, end = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
    try:
        with quiet():
            if begin not in data:
                return [x509.load_der_x509_crl(data)]
            parts = data.split(begin)[1:]
            return [
                x509.load_pem_x509_crl(begin + part.partition(end)[0] + end + b"\n")
                for part in parts
            ]
    except BROKEN as error:
        raise InputError(
            f"{path} is not a certificate revocation list: expected PEM (X509 CRL) or DER"
        ) from error


def _by_lists(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    lists: Sequence[x509.CertificateRevocationList],
    now: dt.datetime,
) -> Standing:
    """The worst that any of the issuer's lists says, then the best."""
    found = []
    for crl in lists:
        try:
            if crl.issuer == issuer.subject:
                found.append(_by_list(certificate, issuer, crl, now))
        except BROKEN as error:
            found.append(_unknown(f"its issuer's revocation list cannot be read: {error}"))
    order = (Status.REVOKED, Status.GOOD, Status.UNKNOWN)
    none = _unknown("the file holds no revocation list of its issuer")
    return min(found, key=lambda item: order.index(item.status), default=none)


def _by_list(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    crl: x509.CertificateRevocationList,
    now: dt.datetime,
) -> Standing:
    usage = extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.value.crl_sign:
        return _unknown("its issuer may not sign revocation lists")
    parameters = crl.signature_algorithm_parameters
    pss = parameters if isinstance(parameters, padding.PSS) else None
    digest = crl.signature_hash_algorithm
    if not signature_holds(issuer, crl.signature, crl.tbs_certlist_bytes, digest, pss=pss):
        return _unknown("the revocation list is not signed by the certificate's issuer")
    why = _incomplete(crl, now)
    entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is None:
        return (
            _unknown(why) if why else Standing(status=Status.GOOD, explanation="it is not listed")
        )
    if any(item.critical for item in entry.extensions) or "indirect" in why:
        return _unknown("it is listed, with an extension that is not understood")
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        reason = None
    if reason is x509.ReasonFlags.remove_from_crl:
        return _unknown("it was taken off the list")
    return Standing(
        status=Status.REVOKED,
        when=entry.revocation_date_utc,
        reason=reason,
        explanation="its issuer's revocation list names it",
    )


def _incomplete(crl: x509.CertificateRevocationList, now: dt.datetime) -> str:
    """Why not being on this list says nothing, or nothing."""
    for item in crl.extensions:
        if isinstance(item.value, x509.IssuingDistributionPoint):
            return "the revocation list is " + (
                "indirect"
                if item.value.indirect_crl
                else "only a part (it has a distribution point)"
            )
        if item.critical:
            return f"the revocation list has an extension not understood: {item.oid.dotted_string}"
    if crl.last_update_utc > now + CLOCK_SKEW:
        return f"the revocation list is from the future ({crl.last_update_utc:%Y-%m-%d %H:%M})"
    if crl.next_update_utc is None or crl.next_update_utc < now - CLOCK_SKEW:
        until = f"{crl.next_update_utc:%Y-%m-%d %H:%M} UTC" if crl.next_update_utc else "no date"
        return f"the revocation list is out of date (its next update: {until})"
    return ""
