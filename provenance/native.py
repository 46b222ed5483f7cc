"""Functions of the c2pa library that its Python package does not wrap, and streams without callbacks.

The manifest is signed for bytes that we wrote and hashed ourselves in one pass. Known for c2pa-rs 0.91;
with any other version `available()` is False and the caller takes the library's plain way, which is
slower and gives the same result.
"""

import ctypes
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, Self

import c2pa
from c2pa import c2pa as _wrapped

STORE = "application/c2pa"  # media type of the bare manifest store, in no container
KNOWN = "0.91."  # of c2pa-rs; c2pa-python 0.38
_lib: Any = getattr(_wrapped, "_lib", None)
_BYTES = ctypes.POINTER(ctypes.c_ubyte)
# name: (arguments, result), as c2pa.h of c2pa-rs 0.91 declares them; a letter is a type below
FUNCTIONS = {
    "c2pa_builder_data_hashed_placeholder": ("B n t R", ctypes.c_int64),
    "c2pa_builder_sign_data_hashed_embeddable": ("B G t t S R", ctypes.c_int64),
    "c2pa_builder_sign_embeddable": ("B t R", ctypes.c_int64),
}
_TYPES = {
    "n": ctypes.c_size_t,
    "t": ctypes.c_char_p,
    "R": ctypes.POINTER(_BYTES),
}
_STRUCTURES = {"B": "C2paBuilder", "S": "C2paStream", "G": "C2paSigner"}
_PRIVATE = (
    *_STRUCTURES.values(),
    "StreamContext",
    "_read_native_error",
    "_raise_typed_c2pa_error",
    "_context_guard",
    "_native_section",
)


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether every function is there, in a version that this was tested with, on Linux."""
    return sys.platform == "linux" and signs_data_hashes()


def signs_data_hashes() -> bool:
    """Whether the functions are there, on any system; the streams below need Linux."""
    return (
        c2pa.sdk_version().startswith(KNOWN)
        and all(hasattr(_wrapped, name) for name in _PRIVATE)
        and all(_declared(name) for name in FUNCTIONS)
    )


def _declared(name: str) -> bool:
    function = getattr(_lib, name, None)
    if function is None:
        return False
    arguments, function.restype = FUNCTIONS[name]
    function.argtypes = [
        _TYPES.get(letter) or ctypes.POINTER(getattr(_wrapped, _STRUCTURES[letter]))
        for letter in arguments.split()
    ]
    return True


def _call(name: str, *arguments: Any) -> int:
    """The result of a function; its error as the C2paError that the library means."""
    with _wrapped._native_section():
        result: int = getattr(_lib, name)(*arguments)
        if result < 0:
            raise_last_error()
    return result


def raise_last_error() -> NoReturn:
    """Raise what the library says went wrong in this thread, as c2pa.C2paError."""
    _wrapped._raise_typed_c2pa_error(_wrapped._read_native_error() or "Other: no reason was given")
    raise AssertionError  # it always raises


def _bytes(name: str, *arguments: Any) -> bytes:
    pointer = _BYTES()
    size = _call(name, *arguments, ctypes.byref(pointer))
    try:
        return ctypes.string_at(pointer, size)
    finally:
        _lib.c2pa_free(pointer)


# one signature over a data hash (C2PA 2.2, section 18.5) that we computed


def data_hash_placeholder(
    builder: c2pa.Builder, signer: c2pa.Signer, media_type: str = STORE
) -> bytes:
    """What takes the manifest's place while the file is hashed; the signed one is as long."""
    return _bytes(
        "c2pa_builder_data_hashed_placeholder",
        builder._handle,
        signer.reserve_size(),
        media_type.encode(),
    )


def sign_data_hash(
    builder: c2pa.Builder,
    signer: c2pa.Signer,
    digest: bytes,
    *exclusions: tuple[int, int],
    media_type: str = STORE,
) -> bytes:
    """The signed manifest for a SHA-256 digest of a file.

    exclusions: start and length of what the digest leaves out; none for a manifest beside its file.
    """
    assertion = {
        "exclusions": [{"start": start, "length": length} for start, length in exclusions],
        "name": "jumbf manifest",
        "alg": "sha256",
        "hash": list(digest),
        "pad": [],
    }
    return _bytes(
        "c2pa_builder_sign_data_hashed_embeddable",
        builder._handle,
        signer._handle,
        json.dumps(assertion).encode(),
        media_type.encode(),
        None,
    )


# a hash that stands in the builder's definition, signed by the context's signer


def sign_bmff(builder: c2pa.Builder, media_type: str) -> bytes:
    """The signed C2PA box; raises c2pa.C2paError where the builder's context has no signer."""
    return _bytes("c2pa_builder_sign_embeddable", builder._handle, media_type.encode())


# streams


def _libc(name: str, kind: Any) -> Any:
    return ctypes.cast(getattr(ctypes.CDLL(None), name), kind)


@lru_cache(maxsize=1)
def _callbacks() -> tuple[Any, ...]:
    # isatty is 0, which means success, for a file: what is written is flushed by the caller
    return (
        _libc("read", _wrapped.ReadCallback),
        _libc("lseek", _wrapped.SeekCallback),
        _libc("write", _wrapped.WriteCallback),
        _libc("isatty", _wrapped.FlushCallback),
    )


class FdStream:
    """A file that the library reads by libc's own read, lseek and write: no Python, no GIL.

    file: a path, or an open descriptor, which is closed with the stream. Raises OSError where the file
    cannot be opened.
    """

    def __init__(self, file: Path | int, flags: int = os.O_RDONLY) -> None:
        self.fd = file if isinstance(file, int) else os.open(file, flags | os.O_CLOEXEC)
        context = ctypes.cast(ctypes.c_void_p(self.fd), ctypes.POINTER(_wrapped.StreamContext))
        self.native = _lib.c2pa_create_stream(context, *_callbacks())
        if not self.native:
            os.close(self.fd)
            raise_last_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.native:
            _lib.c2pa_release_stream(self.native)
            os.close(self.fd)
            self.native = None


# signing and reading by the library, over such streams


def sign_stream(
    builder: c2pa.Builder, signer: c2pa.Signer, media_type: str, source: FdStream, target: FdStream
) -> None:
    """Let the library write the signed copy."""
    _bytes(
        "c2pa_builder_sign",
        builder._handle,
        media_type.encode(),
        source.native,
        target.native,
        signer._handle,
    )


def read_stream(
    media_type: str, stream: FdStream, context: c2pa.Context
) -> tuple[dict[str, Any], bool]:
    """The library's report about a file, and whether its manifest is embedded.

    Raises c2pa.C2paError.
    """
    with _wrapped._context_guard(context), _wrapped._native_section():
        empty = _checked(_lib.c2pa_reader_from_context(context.execution_context))
        # this consumes the empty reader, also where it fails
        found = _checked(_lib.c2pa_reader_with_stream(empty, media_type.encode(), stream.native))
        try:
            return _report("c2pa_reader_json", found), bool(_lib.c2pa_reader_is_embedded(found))
        finally:
            _lib.c2pa_free(found)


def read_store(
    media_type: str, store: bytes, stream: FdStream, context: c2pa.Context
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The library's report about a manifest store as the one of a file, and its detailed report.

    Raises c2pa.C2paError.
    """
    copy = (ctypes.c_ubyte * len(store)).from_buffer_copy(store)
    with _wrapped._context_guard(context), _wrapped._native_section():
        empty = _checked(_lib.c2pa_reader_from_context(context.execution_context))
        found = _checked(
            _lib.c2pa_reader_with_manifest_data_and_stream(
                empty, media_type.encode(), stream.native, copy, len(store)
            )
        )
        try:
            return _report("c2pa_reader_json", found), _report("c2pa_reader_detailed_json", found)
        finally:
            _lib.c2pa_free(found)


def _report(name: str, found: Any) -> dict[str, Any]:
    text = _checked(getattr(_lib, name)(found))
    try:
        document: dict[str, Any] = json.loads(ctypes.string_at(text))
    finally:
        _lib.c2pa_free(text)
    return document


def _checked(pointer: Any) -> Any:
    if not pointer:
        raise_last_error()
    return pointer
