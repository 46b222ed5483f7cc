"""Whether a picture is whole: a signature would vouch for what is missing, too."""

import os
from pathlib import Path

from PIL import Image

from assaymark.provenance.formats import Format
from assaymark.reports.errors import InputError

_TAIL = 4096
_END_OF_IMAGE = b"\xff\xd9"


def check_whole(source: Path, kind: Format) -> None:
    """Raises InputError for a JPEG or PNG that is cut or damaged; other kinds are not looked at.

    A PNG's checksums are verified; a JPEG that ends as it should is not decoded, which would cost
    ten times what signing it does.
    """
    if kind.name not in ("JPEG", "PNG"):
        return
    try:
        with Image.open(source, formats=(kind.name,)) as picture:
            if kind.name == "PNG":
                picture.verify()
            elif _END_OF_IMAGE not in _tail(source):
                picture.load()
    except Exception as error:  # decoders raise what they like
        raise InputError(
            f"{source} cannot be decoded: {error}; a damaged picture is not signed"
        ) from error


def _tail(source: Path) -> bytes:
    with source.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
        return stream.read()
