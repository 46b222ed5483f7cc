"""How files are signed, besides with which key; and the signer for it, one a thread."""

import os
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import c2pa

from assaymark.provenance.c2pa_context import signing_context
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.identity import identity_signer
from assaymark.provenance.keys import Credentials
from assaymark.provenance.signers import new_signer
from assaymark.reports.errors import InputError

_local = threading.local()


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Where pictures are remembered, so that a copy without its manifest can be led back to it.

    store: a file or a SQLAlchemy URL, which exists. key: of an invisible watermark; None for none.
    """

    store: Path | str
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How files are signed, besides with which key; picklable.

    tsa_url: an RFC 3161 time-stamping authority, asked once a file. identity: of a named actor (CAWG)
    with `roles`, who answers for what is said. broken_ingredients: take up works whose credentials
    do not hold; the manifest says so. read_back: verify what was written before it gets its name.
    sidecar: the manifest goes beside a file of any kind. in_place: a WAV, AVI or WebP file is signed
    in itself. normalize: plain text may be brought into Unicode Normalization Form C.
    """

    tsa_url: str | None = None
    identity: Credentials | None = None
    roles: tuple[str, ...] = ()
    broken_ingredients: bool = False
    binding: Binding | None = None
    read_back: bool = True
    sidecar: bool = False
    in_place: bool = False
    normalize: bool = False

    def __post_init__(self) -> None:
        marks = self.binding is not None and self.binding.key is not None
        if self.sidecar and self.in_place:
            raise InputError("a manifest goes beside a file or into it: choose sidecar or in place")
        if self.sidecar and marks:
            raise InputError(
                "a watermark changes a picture, and a manifest beside it leaves it as it is: choose one"
            )
        if self.in_place and (self.binding is not None or self.identity is not None):
            raise InputError(
                "signing in place takes no store, watermark or identity: sign a copy instead"
            )


PLAIN = Manner()


def shared_signer(
    credentials: Credentials, manner: Manner, referenced: tuple[str, ...] = ()
) -> c2pa.Signer:
    """A signer that lives as long as its thread; reading a key costs more than signing with it.

    referenced: labels of the assertions that an identity answers for. Raises InputError when the
    library refuses the credentials.
    """
    made: c2pa.Signer = _kept().signer(
        credentials, manner.tsa_url, manner.identity, manner.roles, referenced
    )
    return made


def shared_signing_context(credentials: Credentials, manner: Manner, kind: Format) -> c2pa.Context:
    """A context for builders, as long-lived; for films it holds a signer, which only they need."""
    film = kind.route is Route.BMFF and manner.identity is None
    made: c2pa.Context = _kept().context(credentials if film else None, manner.tsa_url)
    return made


class _Kept:
    """What one thread of one process keeps; neither signers nor contexts survive a fork."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.signer = lru_cache(maxsize=8)(_signer)
        self.context = lru_cache(maxsize=8)(_context)


def _kept() -> _Kept:
    found: _Kept | None = getattr(_local, "kept", None)
    if found is None or found.process != os.getpid():
        found = _local.kept = _Kept()
    return found


def _context(credentials: Credentials | None, tsa_url: str | None) -> c2pa.Context:
    return signing_context(new_signer(credentials, tsa_url) if credentials else None)


def _signer(
    credentials: Credentials,
    tsa_url: str | None,
    identity: Credentials | None,
    roles: tuple[str, ...],
    referenced: tuple[str, ...],
) -> c2pa.Signer:
    signer = new_signer(credentials, tsa_url)
    if identity is None:
        return signer
    return identity_signer(signer, new_signer(identity), roles=roles, referenced=referenced)
