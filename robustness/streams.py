"""Random numbers that belong to an example, not to a batch: same result for any batch size.

A counter-based generator: what is drawn is a hash of (key of the example, tag, position), so that it
depends neither on what was drawn before nor on the device.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def seed_of(text: str) -> int:
    """A seed in [0, 2^63) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True, eq=False)
class Streams:
    """One key per example; what is drawn depends on (key, tag) and nothing else.

    >>> one, two = Streams.of(0, "check", [5]), Streams.of(0, "check", [4, 5])
    >>> x = torch.zeros(2, 1, 2, 2)
    >>> bool((one.uniform(x[:1], "a") == two.uniform(x, "a")[1:]).all())
    True
    """

    keys: Int[Tensor, " batch"]

    @classmethod
    def of(cls, seed: int, check: str, indices: list[int]) -> "Streams":
        """The streams of the examples numbered `indices` in the data set."""
        keys = [seed_of(f"{seed}/{check}/{index}") for index in indices]
        return cls(torch.tensor(keys, dtype=torch.long))

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, chosen: Bool[Tensor, " batch"] | Int[Tensor, " chosen"]) -> "Streams":
        """The streams of the examples that a mask or a list of places chooses."""
        return Streams(self.keys[chosen.to(self.keys.device)])

    def uniform(self, like: Float[Tensor, "batch *rest"], tag: str) -> Float[Tensor, "batch *rest"]:
        """Uniform in [0, 1), shaped as `like`, in steps of 2^-24."""
        bits = self._bits(like, tag)
        return _shift(bits, 40).to(torch.float32).mul_(2.0**-24).to(like)

    def normal(self, like: Float[Tensor, "batch *rest"], tag: str) -> Float[Tensor, "batch *rest"]:
        """Standard normal, shaped as `like`."""
        # the middle of each step: the ends of (0, 1) would be infinite
        middle = _shift(self._bits(like, tag), 40).to(torch.float32).mul_(2.0**-24).add_(2.0**-25)
        middle.clamp_max_(1 - 2.0**-24)
        # several times faster than torch.special.ndtri
        return torch.erfinv(middle.mul_(2).sub_(1)).mul_(math.sqrt(2)).to(like)

    def signs(self, like: Float[Tensor, "batch *rest"], tag: str) -> Float[Tensor, "batch *rest"]:
        """-1 or 1 with equal chance, shaped as `like`."""
        return (_shift(self._bits(like, tag), 63) * 2 - 1).to(like)

    def integers(self, high: int, tag: str, count: int = 1) -> Int[Tensor, "batch count"]:
        """Whole numbers in [0, high), `count` for each example, on the keys' device."""
        like = torch.empty(len(self.keys), count, device=self.keys.device)
        return (_shift(self._bits(like, tag), 33) * high) >> 31

    def _bits(self, like: Tensor, tag: str) -> Tensor:
        # splitmix64 (Steele, Lea and Flood 2014, OOPSLA), seeded with the example's key and the tag
        assert len(self.keys) == len(like)
        # MPS: 64-bit wrap-around is not promised there
        device = torch.device("cpu") if like.device.type == "mps" else like.device
        keys = self.keys.to(device)
        start = _mix(keys ^ seed_of(tag))
        positions = torch.arange(1, math.prod(like.shape[1:]) + 1, device=device)
        return _mix(start[:, None] + positions * _GAMMA).view(like.shape)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical shift to the right; that of torch repeats the sign."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(z: Tensor) -> Tensor:
    # in place: the memory for a new tensor costs more than the arithmetic
    z = _shift(z, 30).bitwise_xor_(z).mul_(_FIRST)
    z = _shift(z, 27).bitwise_xor_(z).mul_(_SECOND)
    return _shift(z, 31).bitwise_xor_(z)
