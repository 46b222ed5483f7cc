"""CAWG identity assertions: a person or organization signs what is said, beside the claim's signer.

CAWG identity 1.1, section 8.2 (cawg.x509.cose). The library has the function but does not wrap it
for Python; asked for an identity through its settings, it leaves the identity out without a word.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import c2pa
from c2pa import c2pa as library

from assaymark.provenance.assertion_labels import check_label
from assaymark.provenance.c2pa_context import reason
from assaymark.provenance.claims import Claims
from assaymark.provenance.definition import assertions
from assaymark.reports.errors import InputError, nearest

# CAWG identity 1.1, section 5.1.2; a role of one's own follows the grammar of labels.
ROLES = (
    "cawg.contributor",
    "cawg.creator",
    "cawg.editor",
    "cawg.producer",
    "cawg.publisher",
    "cawg.sponsor",
    "cawg.translator",
)
_FUNCTION = "c2pa_identity_signer_create"


def identity_signer(
    claim_signer: c2pa.Signer,
    actor_signer: c2pa.Signer,
    *,
    roles: Sequence[str] = (),
    referenced: Sequence[str] = (),
) -> c2pa.Signer:
    """One signer that signs the claim and, as the named actor, an identity assertion in it.

    Both signers are taken over and must not be used again; the caller closes the one returned. The
    claim's time stamp covers both: an actor's signer with a time-stamping authority of its own is
    never asked for one, and only wastes 10 KB a file. Files are signed by the library's own way or
    by placeholder and sign_embeddable; the data-hashed functions refuse an identity.
    roles: of ROLES, the prefix may be left out. referenced: labels of assertions that the actor
    answers for (`said_by_actor`), beside the hard binding, which always is. A label that the
    manifest does not hold is left out by the library. Raises InputError for an unknown role or
    label, and where the library has no identities.
    """
    words = [_role(role) for role in roles]
    create = _create()
    # what calls back into Python must live as long as the signer that calls it
    callbacks = (claim_signer._callback_cb, actor_signer._callback_cb)
    try:
        pointer = claim_signer._consume_into(
            lambda claim: actor_signer._consume_into(
                lambda actor: create(claim, actor, _strings(referenced), _strings(words)),
                "cannot join the identity: {}",
            ),
            "cannot join the identity: {}",
        )
        joined = c2pa.Signer(pointer)
    except c2pa.C2paError as error:
        raise InputError(f"these credentials cannot sign an identity: {reason(error)}") from error
    joined._callback_cb = callbacks
    return joined


def said_by_actor(claims: Claims) -> tuple[str, ...]:
    """The labels that a named actor answers for: everything said by people, not by the engine."""
    return tuple(item["label"] for item in assertions(claims))


def _role(role: str) -> str:
    word = f"cawg.{role}" if f"cawg.{role}" in ROLES else role
    if word in ROLES:
        return word
    if "." not in word or word.startswith(("cawg.", "c2pa.")):
        raise InputError(f'unknown role "{role[:100]}"{nearest(word[:100], ROLES)}')
    check_label(word)
    return word


def _create() -> Any:
    function = getattr(library._lib, _FUNCTION, None)
    if function is None:
        raise InputError(
            f"c2pa {c2pa.sdk_version()} has no {_FUNCTION}: sign without an identity, or install "
            "c2pa-python 0.38"
        )
    signer = ctypes.POINTER(library.C2paSigner)
    texts = ctypes.POINTER(ctypes.c_char_p)
    function.argtypes, function.restype = [signer, signer, texts, texts], signer
    return function


def _strings(texts: Sequence[str]) -> Any:
    """A C array of strings that ends in NULL, or NULL."""
    return (ctypes.c_char_p * (len(texts) + 1))(*map(str.encode, texts), None) if texts else None
