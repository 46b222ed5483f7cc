"""What a run of signing adds to a transparency log."""

import datetime as dt
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from assaymark.provenance.formats import HEAD, recognise
from assaymark.provenance.keys import Credentials
from assaymark.provenance.log import append_all
from assaymark.provenance.log_file import LogEntry
from assaymark.provenance.sign import Signed
from assaymark.provenance.stores import store_of
from assaymark.provenance.verify import examine
from assaymark.reports.files import unicode

_TOGETHER = 64


class Logging:
    """Adds signed files to a log, some at a time; what was signed before a failure is in it."""

    def __init__(self, log: Path, credentials: Credentials) -> None:
        leaf = x509.load_pem_x509_certificates(credentials.chain_pem.encode())[0]
        self._log, self._signer = log, leaf.fingerprint(hashes.SHA256()).hex()
        self._waiting: list[LogEntry] = []
        append_all(log, ())  # a log that cannot be written is told before anything is signed

    def __enter__(self) -> "Logging":
        return self

    def __exit__(self, *failure: object) -> None:
        self._flush()

    def note(self, signed: Signed) -> None:
        """Add a file. Raises InputError when the log cannot be written."""
        self._waiting.append(entry_of(signed, self._signer))
        if len(self._waiting) >= _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        append_all(self._log, waiting)


def entry_of(signed: Signed, signer: str) -> LogEntry:
    """One file as a log keeps it; it is read once more for its digest."""
    found = signed.found or examine(signed.destination)
    with signed.destination.open("rb") as stream:
        kind = recognise(signed.destination, stream.read(HEAD))
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return LogEntry(
        time=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        name=unicode(str(signed.destination)),
        sha256=digest,
        manifest_sha256=hashlib.sha256(store_of(found)).hexdigest(),
        signer=signer,
        format=kind.media_type if kind else "",
        source=", ".join(found.source_types),
    )
