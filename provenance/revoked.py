"""What a key folder says of its certificates to those who ask by OCSP."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from assaymark.provenance.key_folder import read_index
from assaymark.provenance.key_rotation import REASONS
from assaymark.provenance.revocation import Standing, Status
from assaymark.reports.errors import InputError


def standing_in(folder: Path) -> Callable[[int], Standing]:
    """The standing of a serial number by the folder's index, read anew for every question.

    Raises InputError for a folder without an index.
    """
    if read_index(folder) is None:
        raise InputError(f"{folder} holds no keys.json: make a folder with assaymark keys new")

    def standing(serial: int) -> Standing:
        index = read_index(folder)
        pairs = index.pairs if index else ()
        known = next((item for item in pairs if int(item.serial, 16) == serial), None)
        if index is None or known is None:
            return Standing(status=Status.UNKNOWN, explanation="not a certificate of this folder")
        revoked = index.revocation(known.serial)
        if revoked is None:
            return Standing(status=Status.GOOD)
        return Standing(
            status=Status.REVOKED,
            when=dt.datetime.fromisoformat(revoked.at),
            reason=REASONS.get(revoked.reason),
        )

    return standing
