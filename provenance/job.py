"""What signing one file takes: where from, where to, what makes its manifest and who signs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import c2pa

from assaymark.provenance.formats import Format


class Builds(Protocol):
    """Makes a complete builder: definition, ingredients, intent."""

    def __call__(self, *, hard_binding: Mapping[str, Any] | None = None) -> c2pa.Builder:
        """hard_binding: a ready c2pa.hash.bmff.v3 assertion; without it the library hashes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file to be signed.

    target: an empty file of its own in the destination's folder, which the route fills; the caller
    renames or removes it. builder: the route closes what it makes. A route may call it again, for
    the plain way after the fast one was not possible.
    """

    source: Path
    target: Path
    format: Format
    builder: Builds
    signer: c2pa.Signer


# A route writes job.target; it raises c2pa.C2paError, OSError or InputError, and then the caller
# removes what was begun. It never changes job.source.
Signs = Callable[[Job], None]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the engine says of one file before anybody judges it.

    document: the library's report (validation_state, validation_results, manifests). store: the
    manifest store's bytes where the reader took them out itself. where: embedded, sidecar, remote.
    """

    document: dict[str, Any]
    store: bytes | None = None
    where: str = "embedded"
    notes: tuple[str, ...] = ()


# A reader raises c2pa.C2paError (ManifestNotFound, NotSupported …), OSError or ValueError.
Reads = Callable[[Path, Format, c2pa.Context], Reading]
