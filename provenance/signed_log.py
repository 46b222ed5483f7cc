"""What a run of signing adds to a transparency log."""

import datetime as dt
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from assaymark.provenance.formats import HEAD, recognise
from assaymark.provenance.keys import Credentials
from assaymark.provenance.log import append
from assaymark.provenance.log_file import LogEntry, check_end
from assaymark.provenance.sign import Signed
from assaymark.provenance.stores import store_of
from assaymark.provenance.verify import examine
from assaymark.reports.files import check_writable, unicode


class Logging:
    """Adds signed files to a log, each before the run counts it as done."""

    def __init__(self, log: Path, credentials: Credentials) -> None:
        """Before anything is signed: raises InputError for a log that cannot be written, and
        IntegrityError for one that ends in what is no entry."""
        leaf = x509.load_pem_x509_certificates(credentials.chain_pem.encode())[0]
        self._log, self._signer = log, leaf.fingerprint(hashes.SHA256()).hex()
        check_writable(log)
        check_end(log)

    def note(self, signed: Signed) -> None:
        """Add a file. Raises InputError or IntegrityError when the log cannot take it."""
        append(self._log, entry_of(signed, self._signer))


def entry_of(signed: Signed, signer: str) -> LogEntry:
    """One file as a log keeps it; it is read once more for its digest."""
    found = signed.found or examine(signed.destination)
    with signed.destination.open("rb") as stream:
        kind = recognise(signed.destination, stream.read(HEAD))
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return LogEntry(
        time=f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        name=unicode(str(signed.destination)),
        sha256=digest,
        manifest_sha256=hashlib.sha256(store_of(found)).hexdigest(),
        signer=signer,
        format=kind.media_type if kind else "",
        source=", ".join(found.source_types),
    )
