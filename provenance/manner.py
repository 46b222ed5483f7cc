"""How files are signed, besides with which key; and the signer for it, one a thread."""

import os
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import c2pa

from assaymark.provenance.identity import identity_signer
from assaymark.provenance.keys import Credentials
from assaymark.provenance.signers import new_signer

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
    """

    tsa_url: str | None = None
    identity: Credentials | None = None
    roles: tuple[str, ...] = ()
    broken_ingredients: bool = False
    binding: Binding | None = None
    read_back: bool = True


PLAIN = Manner()


def shared_signer(
    credentials: Credentials, manner: Manner, referenced: tuple[str, ...] = ()
) -> c2pa.Signer:
    """A signer that lives as long as its thread; reading a key costs more than signing with it.

    referenced: labels of the assertions that an identity answers for. Raises InputError when the
    library refuses the credentials.
    """
    if getattr(_local, "process", None) != os.getpid():
        _local.process, _local.signer_for = os.getpid(), lru_cache(maxsize=8)(_signer)
    made: c2pa.Signer = _local.signer_for(
        credentials, manner.tsa_url, manner.identity, manner.roles, referenced
    )
    return made


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
