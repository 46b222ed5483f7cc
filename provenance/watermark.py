"""Invisible watermarks: what a method must offer, and how its payload is protected.

A watermark carries 32 bits that lead to a manifest in a store, and 32 bits (at least 29) of a keyed
seal, so that noise is not taken for a payload and nobody without the key can make one. A watermark is
no proof: who has the key can put it on anything, who has a detector and patience can remove it, and
one that is known can be copied to another picture by adding the difference. It only helps to
find the manifest again, which must then speak for itself.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Protocol

import numpy
from jaxtyping import UInt8

from assaymark.reports.errors import InputError

Pixels = UInt8[numpy.ndarray, "height width 3"]

PAYLOAD_BITS = 32
SEAL_BITS = 32
_SHORTEST_KEY = 16  # bytes


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A watermark that was found.

    score: how well the picture follows the pattern, from 0 (by chance) to 1. p_value: at most this
    share of keys would have found a mark in this picture had it none.
    """

    payload: int
    score: float
    p_value: float


class Watermark(Protocol):
    """A method of marking pictures; pixels are RGB of 8 bits, upright."""

    @property
    def algorithm(self) -> str:
        """The name in a C2PA soft binding."""

    def embed(self, pixels: Pixels, payload: int, key: bytes) -> Pixels:
        """The marked picture. Raises InputError where payload, key or picture do not fit."""

    def detect(self, pixels: Pixels, key: bytes) -> Mark | None:
        """The mark, or None where there is none of this key at the required p-value."""


def check_payload(payload: int) -> None:
    if not 0 <= payload < 1 << PAYLOAD_BITS:
        raise InputError(f"watermark payload {payload}: expected 0 to {(1 << PAYLOAD_BITS) - 1}")


def derived(key: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose, so that none tells anything about another.

    Raises InputError for a key that could be guessed by its length.
    """
    if len(key) < _SHORTEST_KEY:
        raise InputError(
            f"a watermark key of {len(key)} bytes: expected at least {_SHORTEST_KEY}, such as those "
            "of `openssl rand 32`"
        )
    return hmac.digest(key, f"assaymark watermark {purpose}".encode(), hashlib.sha256)


def seal(payload: int, key: bytes, bits: int = SEAL_BITS) -> int:
    """The first bits of an HMAC of the payload (RFC 2104)."""
    tag = hmac.digest(derived(key, "seal"), payload.to_bytes(PAYLOAD_BITS // 8), hashlib.sha256)
    return int.from_bytes(tag[:8]) >> (64 - bits)
