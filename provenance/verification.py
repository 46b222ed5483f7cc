"""What examining one file found: its state, why, and everything its credentials say, on request."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from assaymark.provenance import facts
from assaymark.reports.model import Node


class State(StrEnum):
    """Every file ends as one of these."""

    TRUSTED = "trusted"
    UNTRUSTED = "valid-but-untrusted"
    INVALID = "invalid"
    NO_MANIFEST = "no-manifest"
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The outcome for one file; what its credentials say is looked up when it is asked for.

    codes: C2PA status codes, failures first (C2PA 2.2, section 15.2). where: embedded, sidecar or
    remote. remote: the address of a manifest that the file names; it is never fetched. time_stamp:
    whether an RFC 3161 stamp is by a trusted authority; None without a stamp. identity: trusted,
    untrusted or invalid, of a named actor (CAWG); None without one. notes: what a
    reader should know that decides nothing. document: the engine's report, which is as hostile as
    the file; texts taken from it are escaped by whoever shows them. store: the manifest store's bytes
    where the reader took them out.
    """

    path: Path
    state: State
    explanation: str
    failures: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    where: str = ""
    remote: str = ""
    time_stamp: Literal["trusted", "untrusted"] | None = None
    identity: str | None = None
    notes: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    store: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def readable(self) -> bool:
        """Whether there is a manifest to ask about."""
        return bool(self.document)

    @cached_property
    def active(self) -> Mapping[str, Any]:
        return facts.active(self.document)

    @property
    def label(self) -> str:
        return str(self.document.get("active_manifest") or "")

    @property
    def title(self) -> str:
        return str(self.active.get("title") or "")

    @property
    def signer(self) -> str:
        return facts.signer(facts.signature(self.document))

    @property
    def common_name(self) -> str:
        return str(facts.signature(self.document).get("common_name") or "")

    @property
    def serial(self) -> str:
        """The signing certificate's serial number, decimal."""
        return str(facts.signature(self.document).get("cert_serial_number") or "")

    @property
    def algorithm(self) -> str:
        """The signature algorithm in lower case: es256, ps384, ed25519 …"""
        return str(facts.signature(self.document).get("alg") or "").lower()

    @property
    def generator(self) -> str:
        return facts.generator(self.active)

    @property
    def signed_at(self) -> dt.datetime | None:
        """The trusted time of signing; None where nobody trusted vouches for one."""
        return facts.time_of(self.document) if self.time_stamp == "trusted" else None

    @cached_property
    def source_types(self) -> tuple[str, ...]:
        return facts.source_types(self.active)

    @cached_property
    def assertions(self) -> tuple[str, ...]:
        """The labels of the active manifest's assertions."""
        return tuple(label for label, _ in facts.assertions(self.active))

    @cached_property
    def actions(self) -> tuple[str, ...]:
        return tuple(str(item.get("action", "")) for item in facts.actions(self.active))

    @cached_property
    def training(self) -> Mapping[str, str]:
        return facts.training(self.active)

    @cached_property
    def authors(self) -> tuple[str, ...]:
        return facts.authors(self.active)

    @property
    def ingredients(self) -> int:
        """How many works the active manifest names as ingredients."""
        return len(list(facts.items(self.active.get("ingredients"))))

    @cached_property
    def history(self) -> tuple[str, ...]:
        return facts.history(self.document)

    @property
    def revocation(self) -> str:
        return facts.revocation(self.document)

    @property
    def claim_version(self) -> int | None:
        version = self.active.get("claim_version")
        return version if isinstance(version, int) else 1 if self.active else None

    @property
    def tree(self) -> Node | None:
        return facts.tree(self.document)

    def facts(self) -> dict[str, Any]:
        """Everything as plain JSON values, for one line of a batch's output."""
        signed_at = self.signed_at
        return {
            "path": str(self.path).encode("utf-8", "backslashreplace").decode(),
            "state": self.state.value,
            "explanation": self.explanation,
            "failures": list(self.failures),
            "codes": list(self.codes),
            "notes": list(self.notes),
            "where": self.where,
            "remote": self.remote,
            "title": self.title,
            "signer": self.signer,
            "common_name": self.common_name,
            "serial": self.serial,
            "algorithm": self.algorithm,
            "generator": self.generator,
            "time_stamp": self.time_stamp,
            "signed_at": signed_at.isoformat() if signed_at else None,
            "source_types": list(self.source_types),
            "assertions": list(self.assertions),
            "actions": list(self.actions),
            "training": dict(self.training),
            "authors": list(self.authors),
            "identity": self.identity,
            "ingredients": self.ingredients,
            "history": list(self.history),
            "revocation": self.revocation,
            "claim_version": self.claim_version,
        }
