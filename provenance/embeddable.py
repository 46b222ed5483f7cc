"""The library's functions for a manifest that we place ourselves: placeholder, then the signed store.

They are in c2pa's shared library but not in its Python interface (0.38), so they are called by name
and their absence is told, not suffered.
"""

import ctypes
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import c2pa
from c2pa import c2pa as bindings

_STORE = b"application/c2pa"  # the bare manifest store, in no container
_BYTES = ctypes.POINTER(ctypes.POINTER(ctypes.c_ubyte))


@cache
def _functions() -> tuple[Any, Any]:
    library = bindings._lib
    draft = library.c2pa_builder_data_hashed_placeholder
    draft.argtypes = [
        ctypes.POINTER(bindings.C2paBuilder), ctypes.c_size_t, ctypes.c_char_p, _BYTES,
    ]  # fmt: skip
    final = library.c2pa_builder_sign_data_hashed_embeddable
    final.argtypes = [
        ctypes.POINTER(bindings.C2paBuilder), ctypes.POINTER(bindings.C2paSigner),
        ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(bindings.C2paStream), _BYTES,
    ]  # fmt: skip
    draft.restype = final.restype = ctypes.c_int64
    return draft, final


def available() -> bool:
    """Whether this build of the library has the functions."""
    try:
        return bool(_functions())
    except AttributeError:
        return False


def placeholder(builder: c2pa.Builder, signer: c2pa.Signer) -> bytes:
    """A manifest store as long as the signed one will be; raises c2pa.C2paError."""
    draft, _ = _functions()
    return _taken(draft, builder._handle, signer.reserve_size(), _STORE)


def signed(
    builder: c2pa.Builder,
    signer: c2pa.Signer,
    digest: bytes,
    exclusions: Iterable[tuple[int, int]] = (),
) -> bytes:
    """The signed manifest store, bound to a SHA-256 digest (C2PA 2.4, section 18.5).

    digest: over the file without the exclusions, which are start and length in bytes. Raises
    c2pa.C2paError.
    """
    _, final = _functions()
    bound = {
        "exclusions": [{"start": start, "length": length} for start, length in exclusions],
        "name": "jumbf manifest",
        "alg": "sha256",
        "hash": list(digest),
        "pad": [],
    }
    return _taken(final, builder._handle, signer._handle, json.dumps(bound).encode(), _STORE, None)


def _taken(function: Any, *arguments: Any) -> bytes:
    """What a function hands over; the library's memory is given back."""
    found = ctypes.POINTER(ctypes.c_ubyte)()
    size = function(*arguments, ctypes.byref(found))
    if size < 0:
        bindings._raise_typed_c2pa_error(bindings._read_native_error() or "Other: no reason given")
    try:
        return ctypes.string_at(found, size)
    finally:
        bindings._lib.c2pa_free(found)
