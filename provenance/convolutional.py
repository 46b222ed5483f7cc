"""The rate 1/3 convolutional code of constraint length 9 of 3GPP TS 25.212, section 4.2.3.1.

Decoding is by Viterbi's algorithm on soft values, so that a bit that is in doubt weighs little.
"""

import numpy
from jaxtyping import Float, UInt8

_GENERATORS = (0o557, 0o663, 0o711)
_MEMORY = 8
RATE = len(_GENERATORS)

_registers = numpy.arange(2 << _MEMORY)
_OUTPUT = numpy.stack([numpy.bitwise_count(_registers & g) & 1 for g in _GENERATORS], 1)
# A state is the last 8 bits; the newest is on the left. Each is reached from two others.
_state = numpy.arange(1 << _MEMORY)
_newest = _state >> (_MEMORY - 1)
_FROM = numpy.stack([(_state << 1 & 0xFF) | oldest for oldest in (0, 1)])
_BRANCH = 1.0 - 2.0 * _OUTPUT[_newest << _MEMORY | _FROM]


def coded_length(bits: int) -> int:
    """How many bits leave the coder for so many that enter; eight zeros end the message."""
    return RATE * (bits + _MEMORY)


def encode(bits: UInt8[numpy.ndarray, " bits"]) -> UInt8[numpy.ndarray, " coded"]:
    """The coded bits, three for each bit of the message and of the zeros that end it."""
    state, coded = 0, []
    for bit in [*map(int, bits), *[0] * _MEMORY]:
        register = bit << _MEMORY | state
        coded.append(_OUTPUT[register])
        state = register >> 1
    return numpy.concatenate(coded).astype(numpy.uint8)


def decode(soft: Float[numpy.ndarray, " coded"]) -> UInt8[numpy.ndarray, " bits"]:
    """The likeliest message; positive values speak for 0, negative ones for 1."""
    steps = soft.reshape(-1, RATE)
    message = len(steps) - _MEMORY
    likely = numpy.full(1 << _MEMORY, -numpy.inf)
    likely[0] = 0
    chosen = numpy.empty((len(steps), 1 << _MEMORY), numpy.uint8)
    for step, values in enumerate(steps):
        both = likely[_FROM] + _BRANCH @ values
        chosen[step] = both[1] > both[0]
        likely = both.max(0)
        if step >= message:
            likely[_newest == 1] = -numpy.inf
    state, bits = 0, numpy.empty(len(steps), numpy.uint8)
    for step in range(len(steps) - 1, -1, -1):
        bits[step] = state >> (_MEMORY - 1)
        state = int(_FROM[chosen[step, state], state])
    return bits[:message]
