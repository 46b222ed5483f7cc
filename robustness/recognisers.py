"""Recognisers: classifiers that see pictures of any size, each in its own way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line
from assaymark.robustness import models
from assaymark.robustness.models import Answers, Loaded, Preprocessing
from assaymark.robustness.types import Images, Logits

_GREY = (0.299, 0.587, 0.114)
"""Of red, green and blue in luminance (ITU-R BT.601), as Pillow has it."""


class Seen(nn.Module):
    """A network with what stands between a picture of any size and its input.

    channels: 1 or 3, to which grey and colour pictures are brought. size: height and width to which
    they are resized, bilinear with antialiasing as Pillow does; None leaves them as they are.
    """

    def __init__(self, network: nn.Module, channels: int, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.network, self.channels, self.size = network, channels, size

    def forward(self, x: Images) -> Logits:
        logits: Tensor = self.network(self.shown(x))
        return logits

    def shown(self, x: Images) -> Float[Tensor, "batch seen tall wide"]:
        """What the network is given."""
        if self.channels == 3 and x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        elif self.channels == 1 and x.shape[1] == 3:
            x = (x * x.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            x = interpolate(x, self.size, mode="bilinear", antialias=True)
        return x


@dataclass(frozen=True, kw_only=True)
class RecogniserSpec:
    """Where a recogniser comes from and how it wants its pictures."""

    model: str
    arch: str | None = None
    sha256: str | None = None
    preprocessing: Preprocessing | None = None
    image_size: tuple[int, int] | None = None
    answers: Answers = field(default_factory=Answers)


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """A classifier that is ready to be shown pictures."""

    loaded: Loaded
    module: Seen

    @property
    def name(self) -> str:
        return self.loaded.name


def load(
    spec: RecogniserSpec,
    pictures: Sequence[Tensor],
    *,
    folder: Path = Path(),
    device: torch.device | str = "cpu",
) -> Recogniser:
    """The recogniser of a spec, tried on one picture (channels×height×width) of each size.

    Grey pictures are shown as they are to a network that takes one channel, and in RGB to one that
    takes three. Raises InputError where it cannot see a picture.
    """
    grey = all(picture.shape[0] == 1 for picture in pictures)
    order = (1, 3) if grey else (3, 1)
    failed: InputError | None = None
    for channels in order:
        show = Seen(nn.Identity(), channels, spec.image_size)
        sample = show.shown(pictures[0][None])
        try:
            loaded = models.load(
                spec.model, sample, arch=spec.arch, folder=folder, device=device,
                preprocessing=spec.preprocessing, sha256=spec.sha256, answers=spec.answers,
            )  # fmt: skip
        except InputError as error:
            failed = failed or error
            if "cannot read images" not in str(error):
                break
            continue
        found = Recogniser(loaded=loaded, module=Seen(loaded.module, channels, spec.image_size))
        _sees_all(found, pictures, device)
        return found
    assert failed is not None
    raise failed


def check_apart(recognisers: Sequence[Recogniser], held_out: Sequence[Recogniser]) -> None:
    """Raises InputError where a recogniser is held out from itself, so that its number says nothing new.

    The same is what has the same file, or where there is no file the same name.
    """
    known = {_identity(recogniser) for recogniser in recognisers}
    for other in held_out:
        if _identity(other) in known:
            raise InputError(
                f"{other.name} is held out and also one of the recognisers that pictures are protected "
                "from: hold out another model, or leave it out"
            )


def _identity(recogniser: Recogniser) -> str:
    loaded = recogniser.loaded
    return loaded.sha256 or loaded.name


def _sees_all(found: Recogniser, pictures: Sequence[Tensor], device: torch.device | str) -> None:
    if found.module.size is not None:
        return
    for shape in dict.fromkeys(tuple(picture.shape[1:]) for picture in pictures):
        sample = next(picture for picture in pictures if tuple(picture.shape[1:]) == shape)
        try:
            with torch.no_grad():
                found.module(sample[None].to(device))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{found.name} cannot see a picture of {shape[0]}×{shape[1]} pixels: "
                f"{first_line(error)}; say with image_size = [height, width] what it takes"
            ) from error
