"""Why a certificate is refused for signing claims, in words.

The rules of C2PA 2.2, section 14.5.1, and of RFC 5280, section 6, for a whole chain. c2pa-rs says
"the certificate is invalid" for most of them.
"""

import datetime as dt
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from assaymark.provenance.certificate_rules import (
    ADVICE,
    ISSUER_RULES,
    LEAF_RULES,
    applied,
    extension_of,
    not_ca,
    validity,
)
from assaymark.provenance.certificates import named
from assaymark.provenance.key_files import parse_certificates

_LONGEST = 10  # certificates; those of public CAs have 2 to 4
Chain = tuple[x509.Certificate, ...]


def why_refused(
    chain_pem: str, *, anchors_pem: str = "", at: dt.datetime | None = None
) -> tuple[str, ...]:
    """The reasons why a chain is refused for signing claims; empty when there is none.

    anchors_pem: where the chain has to end, if that is known. at: an aware time; None is now.
    """
    try:
        chain = parse_certificates(chain_pem.encode())
        anchors = parse_certificates(anchors_pem.encode())
    except ValueError as error:
        return (f"the chain cannot be read: {(str(error).splitlines() or ['?'])[0][:160]}",)
    if not chain:
        return ("the chain holds no certificate: expected the leaf first, then its issuers",)
    return refused(chain, anchors=anchors, at=at)


def refused(chain: Chain, *, anchors: Chain = (), at: dt.datetime | None = None) -> tuple[str, ...]:
    """`why_refused` for certificates that are read already."""
    at = at or dt.datetime.now(dt.UTC)
    if len(chain) > _LONGEST:
        return (f"the chain has {len(chain)} certificates: expected at most {_LONGEST}",)
    if first := _misplaced_leaf(chain):
        return (
            f"the chain is out of order: it starts with the CA {named(chain[0].subject)}, expected "
            f"{named(first.subject)} first, then its issuers",
        )
    return tuple(
        [f"{_called(chain[0], 0)} {text}" for text in _leaf_faults(chain[0], at)]
        + [
            f"{_called(item, place)} {text}"
            for place, item in enumerate(chain[1:], start=1)
            for text in _issuer_faults(item, place, at)
        ]
        + list(_link_faults(chain, anchors))
    )


def warnings_about(chain: Chain) -> tuple[str, ...]:
    """What C2PA only advises against, and what only some verifiers refuse."""
    return tuple(
        f"{_called(chain[0], 0)} {text}" for rule in ADVICE for text in applied(rule, chain[0])
    ) + tuple(_chain_advice(chain))


def _misplaced_leaf(chain: Chain) -> x509.Certificate | None:
    if not any(applied(not_ca, chain[0])):
        return None
    return next((item for item in chain[1:] if not any(applied(not_ca, item))), None)


def _leaf_faults(leaf: x509.Certificate, at: dt.datetime) -> Iterator[str]:
    yield from validity(leaf, at)
    for rule in LEAF_RULES:
        yield from applied(rule, leaf)


def _issuer_faults(issuer: x509.Certificate, place: int, at: dt.datetime) -> Iterator[str]:
    yield from validity(issuer, at)
    if issuer.subject == issuer.issuer:
        return  # a root's own extensions are the business of who trusts it
    for rule in ISSUER_RULES:
        yield from applied(rule, issuer)
    yield from applied(partial(_path_length, place), issuer)


def _path_length(place: int, issuer: x509.Certificate) -> Iterator[str]:
    limits = extension_of(issuer, x509.BasicConstraints)
    if limits and limits.path_length is not None and limits.path_length < place - 1:
        yield (
            f"allows {limits.path_length} issuers below it (pathLenConstraint), {place - 1} are there"
        )


def _link_faults(chain: Chain, anchors: Chain) -> Iterator[str]:
    for place, (issued, issuer) in enumerate(pairwise(chain)):
        if issued_by(issued, issuer):
            continue
        elsewhere = any(issued_by(issued, item) for item in chain if item is not issuer)
        reason = (
            "the chain is out of order"
            if elsewhere or issued.issuer != issuer.subject
            else "its signature is of another key"
        )
        yield (
            f"{_called(issued, place)} was not issued by {named(issuer.subject)} ({reason}): expected the "
            "leaf first, then its issuers in order"
        )
    last = chain[-1]
    if anchors and not any(last == item or issued_by(last, item) for item in anchors):
        yield (
            f"{_called(last, len(chain) - 1)} was issued by {named(last.issuer)}, which "
            "is neither in the chain nor a trust anchor: add the missing intermediate"
        )


def _chain_advice(chain: Chain) -> Iterator[str]:
    last = chain[-1]
    if len(chain) > 1 and last.subject == last.issuer:
        yield (
            f"the chain includes the root {named(last.subject)}: verifiers bring their own, it only makes "
            "files longer"
        )
    if len(chain) == 1 and last.subject != last.issuer:
        yield (
            f"the chain holds the signing certificate only: unless {named(last.issuer)} is "
            "itself a trust anchor, add the intermediate certificates"
        )


def issued_by(issued: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether names and signature of one certificate fit another's name and key."""
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _called(certificate: x509.Certificate, place: int) -> str:
    return (
        f"{'the signing certificate' if place == 0 else 'the issuer'} {named(certificate.subject)}"
    )
