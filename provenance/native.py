"""Functions of the c2pa library that its Python package does not wrap, and streams without callbacks.

Placeholder, hash, sign: the manifest is signed for bytes that we wrote and hashed ourselves in one
pass. Known for c2pa-rs 0.91; with any other version `available()` is False and the caller takes the
library's plain way, which is slower and gives the same result.
"""

import ctypes
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import c2pa
from c2pa import c2pa as _wrapped

KNOWN = "0.91."  # of c2pa-rs; c2pa-python 0.38
_lib = _wrapped._lib
_BUILDER = ctypes.POINTER(_wrapped.C2paBuilder)
_STREAM = ctypes.POINTER(_wrapped.C2paStream)
_SIGNER = ctypes.POINTER(_wrapped.C2paSigner)
_BYTES = ctypes.POINTER(ctypes.c_ubyte)
_TEXT, _SIZE = ctypes.c_char_p, ctypes.c_size_t
_RESULT = ctypes.POINTER(_BYTES)
# name: (arguments, result), as c2pa.h of c2pa-rs 0.91 declares them
FUNCTIONS: dict[str, tuple[list[Any], Any]] = {
    "c2pa_builder_data_hashed_placeholder": ([_BUILDER, _SIZE, _TEXT, _RESULT], ctypes.c_int64),
    "c2pa_builder_sign_data_hashed_embeddable": (
        [_BUILDER, _SIGNER, _TEXT, _TEXT, _STREAM, _RESULT],
        ctypes.c_int64,
    ),
    "c2pa_builder_placeholder": ([_BUILDER, _TEXT, _RESULT], ctypes.c_int64),
    "c2pa_builder_sign_embeddable": ([_BUILDER, _TEXT, _RESULT], ctypes.c_int64),
    "c2pa_builder_set_fixed_size_merkle": ([_BUILDER, _SIZE], ctypes.c_int),
    "c2pa_builder_hash_mdat_bytes": (
        [_BUILDER, _SIZE, ctypes.c_void_p, _SIZE, ctypes.c_bool],
        ctypes.c_int,
    ),
    "c2pa_builder_update_hash_from_stream": ([_BUILDER, _TEXT, _STREAM], ctypes.c_int),
}
_PRIVATE = ("_read_native_error", "_raise_typed_c2pa_error", "_context_guard", "_native_section")


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether every function is there, in a version that this was tested with, on Linux."""
    return (
        sys.platform == "linux"
        and c2pa.sdk_version().startswith(KNOWN)
        and all(hasattr(_wrapped, name) for name in _PRIVATE)
        and all(_declared(name) for name in FUNCTIONS)
    )


def _declared(name: str) -> bool:
    function = getattr(_lib, name, None)
    if function is None:
        return False
    function.argtypes, function.restype = FUNCTIONS[name]
    return True


def _call(name: str, *arguments: Any) -> int:
    """The result of a function; its error as the C2paError that the library means."""
    with _wrapped._native_section():
        result: int = getattr(_lib, name)(*arguments)
        if result < 0:
            raise_last_error()
    return result


def raise_last_error() -> None:
    """Raise what the library says went wrong in this thread, as c2pa.C2paError."""
    _wrapped._raise_typed_c2pa_error(_wrapped._read_native_error() or "Other: no reason was given")


def _bytes(name: str, *arguments: Any) -> bytes:
    pointer = _BYTES()
    size = _call(name, *arguments, ctypes.byref(pointer))
    try:
        return ctypes.string_at(pointer, size)
    finally:
        _lib.c2pa_free(pointer)


# one signature over a data hash (C2PA 2.2, section 18.5) that we computed


def data_hash_placeholder(builder: c2pa.Builder, signer: c2pa.Signer, media_type: str) -> bytes:
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
    media_type: str,
    digest: bytes,
    start: int,
    length: int,
) -> bytes:
    """The signed manifest for a SHA-256 digest of a file without the bytes [start, start + length)."""
    assertion = {
        "exclusions": [{"start": start, "length": length}],
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


# a BMFF hash with Merkle leaves of `mdat` (section 18.6), signed by the context's signer


def bmff_placeholder(builder: c2pa.Builder, media_type: str, leaf_kilobytes: int) -> bytes:
    """Begin a BMFF hash with leaves of a fixed size; the signed box is longer by its leaves."""
    _call("c2pa_builder_set_fixed_size_merkle", builder._handle, leaf_kilobytes)
    return _bytes("c2pa_builder_placeholder", builder._handle, media_type.encode())


def hash_mdat(builder: c2pa.Builder, index: int, address: int, size: int, large: bool) -> None:
    """Hash the next bytes of the `mdat` box number `index`; large: its size has 64 bits."""
    _call("c2pa_builder_hash_mdat_bytes", builder._handle, index, address, size, large)


def hash_boxes(builder: c2pa.Builder, media_type: str, stream: "FdStream") -> None:
    """Hash every box but those whose leaves are known."""
    _call(
        "c2pa_builder_update_hash_from_stream",
        builder._handle,
        media_type.encode(),
        stream.native,
    )


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

    Closes its file descriptor. Raises OSError where the file cannot be opened.
    """

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.native: Any = None
        self.fd = os.open(path, flags | os.O_CLOEXEC)
        context = ctypes.cast(
            ctypes.c_void_p(self.fd), ctypes.POINTER(_wrapped.StreamContext)
        )
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
    """Let the library write the signed copy; the builder is closed."""
    builder._sign_internal(
        media_type, _Streamed(source.native), _Streamed(target.native), signer=signer
    )


class _Streamed:
    """What the package's own functions take for a stream."""

    def __init__(self, native: Any) -> None:
        self._stream = native


def read_stream(
    media_type: str, stream: FdStream, context: c2pa.Context, store: bytes | None = None
) -> tuple[dict[str, Any], bool]:
    """The library's report about a stream, and whether its manifest is embedded.

    store: a manifest store to judge the stream by, instead of the one in it. Raises c2pa.C2paError.
    """
    return _with_reader(media_type, stream, context, store, "c2pa_reader_json")


def read_detailed(
    media_type: str, stream: FdStream, context: c2pa.Context, store: bytes | None = None
) -> tuple[dict[str, Any], bool]:
    """As read_stream, with every assertion as it stands in the store."""
    return _with_reader(media_type, stream, context, store, "c2pa_reader_detailed_json")


def _with_reader(
    media_type: str, stream: FdStream, context: c2pa.Context, store: bytes | None, report: str
) -> tuple[dict[str, Any], bool]:
    with _wrapped._context_guard(context), _wrapped._native_section():
        empty = _checked(_lib.c2pa_reader_from_context(context.execution_context))
        kind = media_type.encode()
        # this consumes the empty reader, also where it fails
        if store is None:
            reader = _lib.c2pa_reader_with_stream(empty, kind, stream.native)
        else:
            copy = (ctypes.c_ubyte * len(store)).from_buffer_copy(store)
            reader = _lib.c2pa_reader_with_manifest_data_and_stream(
                empty, kind, stream.native, copy, len(store)
            )
        _checked(reader)
        try:
            text = _checked(getattr(_lib, report)(reader))
            try:
                document = json.loads(ctypes.string_at(text))
            finally:
                _lib.c2pa_free(text)
            return document, bool(_lib.c2pa_reader_is_embedded(reader))
        finally:
            _lib.c2pa_free(reader)


def _checked(pointer: Any) -> Any:
    if not pointer:
        raise_last_error()
    return pointer

