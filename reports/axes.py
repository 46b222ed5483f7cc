"""A scale with round ticks for numbers of any size."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LARGEST = sys.float_info.max


class Tick(NamedTuple):
    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from low to high, with 4 to 6 round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    texts: tuple[str, ...]

    def place(self, value: float, first: float, last: float) -> float:
        """Where a value is drawn, with the low end of the scale at `first` and the high end at `last`."""
        # halves, since the difference of two finite numbers may be infinite
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return round(first + share * (last - first), 1)

    def drawn(self, first: float, last: float) -> tuple[Tick, ...]:
        """The ticks at their places."""
        pairs = zip(self.ticks, self.texts, strict=True)
        return tuple(Tick(self.place(value, first, last), text) for value, text in pairs)


def axis(values: Sequence[float]) -> Axis:
    """A scale that holds the values (finite, at least one); both of its ends are ticks.

    >>> axis([0.02, 0.97]).texts
    ('0.0', '0.2', '0.4', '0.6', '0.8', '1.0')
    >>> axis([12_000, 41_000]).texts
    ('10,000', '20,000', '30,000', '40,000', '50,000')
    """
    low, high = min(values), max(values)
    if high / 2 - low / 2 <= max(1e-12 * max(abs(low), abs(high)), 1e-290):  # one value, or nearly
        apart = abs(low) / 10 if abs(low) > 1e-280 else 0.5
        low, high = max(low - apart, -_LARGEST), min(high + apart, _LARGEST)
    step = _step(low, high)
    ticks = [place * step for place in range(math.floor(low / step), math.ceil(high / step) + 1)]
    if not all(map(math.isfinite, ticks)):  # where floating point numbers end
        ticks = [low, low + (high / 3 - low / 3), high - (high / 3 - low / 3), high]
    return Axis(low=ticks[0], high=ticks[-1], ticks=tuple(ticks), texts=_texts(ticks, step))


def _step(low: float, high: float) -> float:
    """The smallest of 1, 2, 2.5 or 5 times a power of ten that needs at most 6 ticks."""
    unit = 10.0 ** math.floor(math.log10(high / 5 - low / 5))
    steps = [factor * unit for factor in (1, 2, 2.5, 5, 10, 20)]
    return next(step for step in steps if math.ceil(high / step) - math.floor(low / step) <= 5)


def _texts(ticks: Sequence[float], step: float) -> tuple[str, ...]:
    """As many decimals as tell the ticks apart; large and tiny numbers by their powers of ten."""
    largest = max(map(abs, ticks))
    power = math.floor(math.log10(step))
    decimals = max(0, -power) + (f"{step:e}"[:3] == "2.5")
    if largest >= 1e7 or decimals > 5:
        digits = math.floor(math.log10(largest)) - power + 2
        return tuple(f"{tick + 0.0:.{digits}g}" for tick in ticks)
    return tuple(f"{round(tick, decimals) + 0.0:,.{decimals}f}" for tick in ticks)
