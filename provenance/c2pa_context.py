"""The c2pa library, set up so that its traps are not ours.

No network for anything a file names, no thumbnails unless asked, trust only in the anchors given.
"""

import os
import threading
import warnings
from functools import lru_cache
from typing import Any

import c2pa

from assaymark.provenance.trust import NOBODY, Trust

_local = threading.local()
# emailProtection, documentSigning and C2PA's own claim signing (C2PA 2.2, section 14.4.1)
_PURPOSES = ("1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.62558.2.1")


def context(trust: Trust = NOBODY) -> c2pa.Context:
    """A context for one verification or signature; the caller closes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return c2pa.Context.from_dict(settings(trust))


def shared_context(trust: Trust = NOBODY) -> c2pa.Context:
    """A context that lives as long as its thread; building one costs more than a small file.

    A context does not survive a fork, so each process makes its own.
    """
    if getattr(_local, "process", None) != os.getpid():
        _local.process, _local.context_for = os.getpid(), lru_cache(maxsize=8)(context)
    made: c2pa.Context = _local.context_for(trust)
    return made


def settings(trust: Trust) -> dict[str, Any]:
    """The library's settings; it ignores keys that it does not know without a word."""
    found: dict[str, Any] = {
        "version": 1,
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    anchors = [
        {"trust_anchors": pem, "trust_uri": f"urn:assaymark:{kind}", "trust_kind": kind}
        for kind, pem in (("tsa", trust.time_stamps), ("cawg", trust.identities))
        if pem
    ]
    if trust.signers or anchors:
        # without this list a leaf for one of these purposes alone is refused
        found["trust"] = {"trust_config": "\n".join(_PURPOSES)}
    if trust.signers:
        found["trust"]["trust_anchors"] = trust.signers
    if anchors:
        found["trust"]["anchors"] = anchors
    return found


def reason(error: Exception) -> str:
    """The library's message on one line, without its class prefix."""
    text = " ".join(str(error).split())
    head, _, rest = text.partition(": ")
    return (rest if rest and head.isalpha() else text)[:300] or type(error).__name__
