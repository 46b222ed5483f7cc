"""How a network is trained, and which images it is trained on."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import pad

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.streams import Streams, seed_of
from assaymark.robustness.training_losses import METHODS
from assaymark.robustness.types import Images

SCHEDULES = ("one-cycle", "cosine")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. eps in pixel units of `norm`; epochs count passes over the images.

    steps and step_size: of the inner attack of pgd-at and trades, the size by default
    2.5 · eps / steps. beta: of trades. replays: of free, which trains that many times on a batch.
    flip: mirror half of the images; shift: move each by up to so many pixels. bf16: lower precision.
    """

    method: str
    eps: float
    norm: Literal["linf", "l2"] = "linf"
    epochs: int = 30
    batch_size: int = 128
    lr: float = 0.05
    schedule: str = "one-cycle"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    steps: int = 10
    step_size: float | None = None
    beta: float = 6.0
    replays: int = 4
    flip: bool = False
    shift: int = 0
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                f'unknown training method "{self.method}"{nearest(self.method, METHODS)}'
            )
        if self.schedule not in SCHEDULES:
            raise InputError(f'schedule is {" or ".join(SCHEDULES)}, got "{self.schedule}"')
        for name in ("epochs", "batch_size", "steps", "replays"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1, got {getattr(self, name)}")
        for name in ("eps", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is a number above 0, got {getattr(self, name)}")
        if self.beta < 0 or self.shift < 0:
            raise InputError(f"beta and shift are not below 0, got {self.beta} and {self.shift}")

    @property
    def rounds(self) -> int:
        """Epochs of the trainer: free counts each replay as a pass."""
        return math.ceil(self.epochs / self.replays) if self.method == "free" else self.epochs

    def rate(self, done: float) -> float:
        """The learning rate when the share `done` of all steps is behind.

        one-cycle rises for two fifths and falls to 0, in straight lines (arXiv 2001.03994).
        """
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        return self.lr * (done / 0.4 if done < 0.4 else (1 - done) / 0.6)


def augmented(x: Images, recipe: Recipe, streams: Streams) -> Images:
    """Each image mirrored or not, and moved by up to `shift` pixels each way over black."""
    if recipe.flip:
        mirrored = streams.signs(x[:, :1, :1, :1], "flip") > 0
        x = torch.where(mirrored, x.flip(3), x)
    if recipe.shift:
        reach = 2 * recipe.shift + 1
        offsets = streams.integers(reach, "shift", 2).to(x.device)
        height, width = x.shape[2:]
        rows = torch.arange(height, device=x.device) + offsets[:, :1]
        columns = torch.arange(width, device=x.device) + offsets[:, 1:]
        padded = pad(x, (recipe.shift,) * 4)
        which = torch.arange(len(x), device=x.device)[:, None, None]
        moved = padded[which, :, rows[:, :, None], columns[:, None]]
        x = moved.permute(0, 3, 1, 2).contiguous()
    return x


def parts(n: int, share: float, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Which of n images to train on, to choose by, and to report on.

    share: how many are held out, half of them to choose by and half to report on, so that a report
    is not flattered by the choice. Raises InputError when a part would be empty.
    """
    generator = torch.Generator().manual_seed(seed_of(f"{seed}/held-out"))
    order = torch.randperm(n, generator=generator).tolist()
    half = round(n * share / 2)
    if not 0 < share < 1 or half < 1 or 2 * half >= n:
        raise InputError(
            f"a held-out share of {share:g} leaves nothing of {n} images to train on, to choose by or "
            "to report on: expected a share between 0 and 1, and more images"
        )
    return sorted(order[2 * half :]), sorted(order[half : 2 * half]), sorted(order[:half])
