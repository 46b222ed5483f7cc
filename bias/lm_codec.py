"""Answers of language models as bytes, and back without a loss; only what was answered has a form.

Floats are kept to the last bit. What does not decode to a possible answer is no answer.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy

from assaymark.bias.lm_model import Reply, Scored

A = TypeVar("A")
Vector = numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]
_FINISHES = ("stop", "length", "filter", "unknown")


@dataclass(frozen=True)
class Codec(Generic[A]):
    """encode: None for what is not to be kept. decode: raises ValueError for what is no answer."""

    encode: Callable[[Any], bytes | None]
    decode: Callable[[bytes], A]


def _possible(*values: float) -> bool:
    return all(type(value) is float and math.isfinite(value) and value <= 0 for value in values)


def _encode_scored(answer: Any) -> bytes | None:
    if not isinstance(answer, Scored) or len(answer.tokens) != len(answer.logprobs):
        return None
    values = [float(value) for value in answer.logprobs]
    if not values or not _possible(*values):
        return None
    return (
        struct.pack(f"<I{len(values)}d", len(values), *values) + json.dumps(answer.tokens).encode()
    )


def _decode_scored(value: bytes) -> Scored:
    count = int.from_bytes(value[:4], "little")
    at = 4 + 8 * count
    logprobs = struct.unpack(f"<{count}d", value[4:at])
    tokens = json.loads(value[at:])
    if len(tokens) != count or not set(map(type, tokens)) <= {str} or not _possible(*logprobs):
        raise ValueError("no scores")
    return Scored(tuple(tokens), logprobs)


def _encode_reply(answer: Any) -> bytes | None:
    if not isinstance(answer, Reply) or not _possible(*(float(p) for _, p in answer.first)):
        return None
    return json.dumps([answer.text, answer.finish, answer.first]).encode()


def _decode_reply(value: bytes) -> Reply:
    text, finish, first = json.loads(value)
    pairs = tuple((token, float(number)) for token, number in first)
    if type(text) is not str or finish not in _FINISHES or not _possible(*(p for _, p in pairs)):
        raise ValueError("no reply")
    return Reply(text, finish, pairs)


def _encode_number(answer: Any) -> bytes | None:
    if not isinstance(answer, float) or not _possible(float(answer)):
        return None
    return struct.pack("<d", answer)


def _decode_number(value: bytes) -> float:
    (number,) = struct.unpack("<d", value)
    if not _possible(number):
        raise ValueError("no log probability")
    return float(number)


def _encode_vector(answer: Any) -> bytes | None:
    """Half as long where the numbers are of single precision, as those of most encoders are."""
    if answer is None or not bool(numpy.isfinite(answer).all()):
        return None
    with numpy.errstate(over="ignore"):
        single = numpy.asarray(answer, dtype="<f4")
    if bool((single == answer).all()):
        return b"4" + single.tobytes()
    return b"8" + numpy.asarray(answer, dtype="<f8").tobytes()


def _decode_vector(value: bytes) -> Vector:
    if value[:1] not in (b"4", b"8"):
        raise ValueError("no vector")
    found = numpy.frombuffer(value, f"<f{value[:1].decode()}", offset=1).astype(numpy.float64)
    if not found.size or not bool(numpy.isfinite(found).all()):
        raise ValueError("no vector")
    return found


SCORED: Codec[Scored] = Codec(_encode_scored, _decode_scored)
REPLY: Codec[Reply] = Codec(_encode_reply, _decode_reply)
NUMBER: Codec[float] = Codec(_encode_number, _decode_number)
VECTOR: Codec[Vector] = Codec(_encode_vector, _decode_vector)
