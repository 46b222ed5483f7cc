"""One examined file and what can be asked about it; each question is answered once, when it comes."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from assaymark.provenance import chains, cose, facts
from assaymark.provenance.free_bytes import FreeBytes, free_bytes
from assaymark.provenance.ocsp import Responders, revocation
from assaymark.provenance.revocation import Revocation, Status, from_crl, merged
from assaymark.provenance.second_opinion import Opinion, second_opinion
from assaymark.provenance.stores import signature_box, store_of
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verification import Verification
from assaymark.reports.errors import InputError

_T = TypeVar("_T")


class Undecided(Exception):
    """What a rule asks about is not known: what is, and what would make it so."""

    def __init__(self, seen: str, next_step: str) -> None:
        self.next_step = next_step
        super().__init__(seen)


@dataclass(frozen=True, kw_only=True)
class Case:
    """responders: who may be asked about revocation; None asks nobody. now: with a time zone."""

    found: Verification
    trust: Trust = NOBODY
    responders: Responders | None = None
    revocation_lists: tuple[Path, ...] = ()
    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    @cached_property
    def store(self) -> bytes:
        return _known(lambda: store_of(self.found))

    @cached_property
    def _signature(self) -> cose.Signature:
        return _known(lambda: cose.parse(signature_box(self.store, self.found.label)))

    @property
    def stapled(self) -> tuple[bytes, ...]:
        """OCSP replies that the signer sent along."""
        return self._signature.ocsp_replies

    @cached_property
    def chain_pem(self) -> str:
        box = signature_box
        return _known(lambda: cose.signer_chain(box(self.store, self.found.label)))

    @cached_property
    def chain(self) -> list[x509.Certificate]:
        """The signer's certificates, the leaf first; at least one."""
        return _known(
            lambda: chains.certificates(self.chain_pem, "the chain", limit=chains.MAX_CHAIN)
        )

    @cached_property
    def free(self) -> FreeBytes:
        return free_bytes(
            self.store, self.found.label, self.found.path, inside=self.found.where == "embedded"
        )

    @cached_property
    def revocation(self) -> Revocation:
        """By the lists that the verifier keeps, else by replies sent along, else by asking.

        All lists are read, and a certificate that any of them names is revoked.
        """
        if self.revocation_lists:
            listed = merged(
                [_known(partial(self._by_list, path)) for path in self.revocation_lists]
            )
            if listed.status is Status.REVOKED or listed.leaf.status is Status.GOOD:
                return listed
        return _known(
            lambda: revocation(
                self.chain_pem,
                self.responders,
                issuers_pem=self.trust.signers,
                stapled=self.stapled,
                now=self.now,
            )
        )

    def _by_list(self, path: Path) -> Revocation:
        return from_crl(path, self.chain_pem, issuers_pem=self.trust.signers, now=self.now)

    @cached_property
    def second(self) -> Opinion:
        return second_opinion(self.found, self.trust)

    @cached_property
    def source_types(self) -> tuple[str, ...]:
        """Digital source types of the active manifest, else of the nearest parent that says one."""
        document = self.found.document
        label, seen = self.found.label, set[str]()
        while label and label not in seen:
            seen.add(label)
            of = facts.manifest(document, label)
            if types := facts.source_types(of):
                return types
            label = next(
                (
                    str(item.get("active_manifest") or "")
                    for item in facts.items(of.get("ingredients"))
                    if item.get("relationship") == "parentOf"
                ),
                "",
            )
        return ()


def _known(ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except InputError as error:
        raise Undecided(str(error), "look at the file with inspect") from error
