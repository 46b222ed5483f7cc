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
        found["trust"] = {"trust_anchors": trust.signers} if trust.signers else {}
    if anchors:
        found["trust"]["anchors"] = anchors
    return found


def reason(error: Exception) -> str:
    """The library's message on one line, without its class prefix."""
    text = " ".join(str(error).split())
    head, _, rest = text.partition(": ")
    return (rest if rest and head.isalpha() else text)[:300] or type(error).__name__
