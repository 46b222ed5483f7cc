"""The c2pa library, set up so that its traps are not ours.

No network for anything a file names, no thumbnails unless asked, trust only in the anchors given.
"""

import warnings
from typing import Any

import c2pa

FORMATS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


def context(trust_anchors_pem: str = "") -> c2pa.Context:
    """Settings for one verification or signature; unknown keys would be ignored without a word."""
    settings: dict[str, Any] = {
        "version": 1,
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    if trust_anchors_pem:
        settings["trust"] = {"trust_anchors": trust_anchors_pem}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return c2pa.Context.from_dict(settings)


def media_type(head: bytes) -> str | None:
    """The media type by the file's first bytes, whatever its name says."""
    return next((kind for magic, kind in FORMATS.items() if head.startswith(magic)), None)


def reason(error: Exception) -> str:
    """The library's message on one line, without its class prefix."""
    text = " ".join(str(error).split())
    head, _, rest = text.partition(": ")
    return (rest if rest and head.isalpha() else text)[:300] or type(error).__name__
