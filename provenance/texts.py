"""Text, HTML and code: a manifest embedded as C2PA 2.4 says in A.7, A.8 and A.9."""

import unicodedata
from pathlib import Path

import c2pa

from assaymark.provenance import native
from assaymark.provenance.bound import Digest, Exclusions, digest_of, failed, read_bound
from assaymark.provenance.carriers import CarrierError, Held, find, place
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.job import Job, Reading
from assaymark.reports.errors import InputError

MAX_TEXT = 64 << 20  # bytes; a text is held in memory, at up to four times its size


def sign_text(job: Job, *, normalize: bool = False) -> None:
    """Write the text with its manifest; a manifest that it carries is replaced.

    normalize: a plain text may be brought into Normalization Form C, which A.8 asks for; without
    it such a text is refused, for a signature must not change a word. Raises InputError,
    c2pa.C2paError.
    """
    if not native.signs_data_hashes():
        raise InputError(
            f"{job.source} cannot carry a manifest with c2pa-rs {c2pa.sdk_version()}: expected "
            f"{native.KNOWN}x, which signs a hash of a text; install c2pa-python 0.38, or sign it with "
            "a manifest beside it"
        )
    try:
        text = _bare(job, normalize)
        spot = place(job.format, text)
    except CarrierError as error:
        raise InputError(
            f"{job.source} cannot carry a manifest: {error}; mend the text, or sign it with a "
            "manifest beside it (--sidecar)"
        ) from error
    before, after = spot.before.encode(), spot.after.encode()
    with job.builder() as builder:
        draft = native.data_hash_placeholder(builder, job.signer)
        size = len(spot.wrap(draft).encode())
        digest = digest_of("sha256", before, after)
        store = native.sign_data_hash(builder, job.signer, digest, (len(before), size))
    carrier = spot.wrap(store).encode()
    if len(carrier) != size:
        raise InputError(f"{job.source} cannot be signed: its manifest became longer than planned")
    job.target.write_bytes(before + carrier + after)


def _bare(job: Job, normalize: bool) -> str:
    """The text without an old manifest, as it may be signed."""
    size = job.source.stat().st_size
    if size > MAX_TEXT:
        raise InputError(
            f"{job.source} has {size} bytes, but a text with a manifest may have {MAX_TEXT}: sign it "
            "with a manifest beside it (--sidecar)"
        )
    try:
        text = job.source.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{job.source} is not UTF-8 (byte {error.start}): convert it, or sign it with a "
            "manifest beside it (--sidecar)"
        ) from error
    held = find(job.format, text)
    text = held.bare if held else text
    if job.format.route is Route.TEXT and not unicodedata.is_normalized("NFC", text):
        if not normalize:
            raise InputError(
                f"{job.source} is not in Unicode Normalization Form C, which an embedded manifest "
                "asks for (C2PA 2.4, A.8): normalise the copy (--normalize), or sign "
                "it with a manifest beside it (--sidecar)"
            )
        text = unicodedata.normalize("NFC", text)
    return text


def read_text(path: Path, kind: Format, context: c2pa.Context) -> Reading:
    """The manifest in a text, judged by the library, its content hashed here.

    Raises c2pa.C2paError (ManifestNotFound where it has none, NotSupported for a text too large),
    OSError, and ValueError for a manifest that lies elsewhere.
    """
    size = path.stat().st_size
    if size > MAX_TEXT:
        raise c2pa.C2paError.NotSupported(
            f"a text of {size} bytes is not searched for a manifest, at most {MAX_TEXT} are"
        )
    # bytes that are no UTF-8 stay what they are: they are hashed, and do not hide a manifest
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    try:
        held = find(kind, text)
    except CarrierError as error:
        if error.code == "manifest.inaccessible":
            raise
        return Reading(document=failed(error.code, str(error)))
    if held is None:
        raise c2pa.C2paError.ManifestNotFound(f"no manifest in {path.name}")
    document = read_bound(kind.media_type, held.store, _digest(held), context)
    return Reading(document=document, store=held.store)


def _digest(held: Held) -> Digest:
    before, carrier, after = (
        part.encode("utf-8", "surrogateescape") for part in (held.before, held.carrier, held.after)
    )

    def digest(algorithm: str, excluded: Exclusions) -> bytes | None:
        for lead, tail in _line_breaks(before, after):
            start, length = len(before) - len(lead), len(lead) + len(carrier) + len(tail)
            if excluded == ((start, length),):
                return digest_of(algorithm, before[:start], after[len(tail) :])
        return None

    return digest


def _line_breaks(before: bytes, after: bytes) -> list[tuple[bytes, bytes]]:
    """What may be left out beside the carrier: nothing, or the line break that sets it apart."""
    leads = [new for new in (b"\n", b"\r\n") if before.endswith(new)]
    tails = [new for new in (b"\n", b"\r\n") if after.startswith(new)]
    return [(b"", b""), *((new, b"") for new in leads), *((b"", new) for new in tails)]
