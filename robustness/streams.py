"""Random numbers that belong to an example, not to a batch: same result for any batch size."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def seed_of(text: str) -> int:
    """A seed in [0, 2^63) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Streams:
    """One key per example; what is drawn depends on (key, tag) and nothing else.

    >>> one, two = Streams.of(0, "check", [5]), Streams.of(0, "check", [4, 5])
    >>> x = torch.zeros(2, 1, 2, 2)
    >>> bool((one.uniform(x[:1], "a") == two.uniform(x, "a")[1:]).all())
    True
    """

    keys: tuple[str, ...]

    @classmethod
    def of(cls, seed: int, check: str, indices: list[int]) -> "Streams":
        """The streams of the examples numbered `indices` in the data set."""
        return cls(tuple(f"{seed}/{check}/{index}" for index in indices))

    def select(self, mask: Bool[Tensor, " batch"]) -> "Streams":
        """The streams of the examples where `mask` is true."""
        return Streams(
            tuple(key for key, keep in zip(self.keys, mask.tolist(), strict=True) if keep)
        )

    def uniform(self, like: Float[Tensor, "batch *rest"], tag: str) -> Float[Tensor, "batch *rest"]:
        """Uniform in [0, 1), shaped as `like`."""
        return self._draw(like, tag, torch.rand)

    def normal(self, like: Float[Tensor, "batch *rest"], tag: str) -> Float[Tensor, "batch *rest"]:
        """Standard normal, shaped as `like`."""
        return self._draw(like, tag, torch.randn)

    def _draw(self, like: Tensor, tag: str, sample: Callable[..., Tensor]) -> Tensor:
        # Drawn on the CPU, whatever the device, so that CPU and GPU runs start from one place.
        assert len(self.keys) == len(like)
        generator = torch.Generator()
        rows = []
        for key in self.keys:
            generator.manual_seed(seed_of(f"{key}/{tag}"))
            rows.append(sample(like.shape[1:], generator=generator))
        drawn = torch.stack(rows) if rows else torch.empty(like.shape)
        return drawn.to(device=like.device, dtype=like.dtype)
