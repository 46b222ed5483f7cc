"""What happens to a picture between its making and us, as data: so that two pictures can share it.

Most published scores of detectors tell how a picture was compressed (https://arxiv.org/abs/2403.17608,
section 3): a fake and its original must be resized, blurred and saved alike, to the same noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy
from jaxtyping import Bool, UInt8
from PIL import Image

from assaymark.provenance import deliveries
from assaymark.reports.errors import InputError, nearest

Pixels = UInt8[numpy.ndarray, "height width 3"]
Mask = Bool[numpy.ndarray, "height width"]
SMOOTH = ("box", "bilinear", "bicubic", "lanczos")
_LARGEST = 8192  # pixels of a side


@dataclass(frozen=True, kw_only=True)
class Step:
    """kind: a name in STEPS. amount: of a resize, the factor; of a blur or of noise, the deviation in
    pixels or in levels of 255; of jpeg and webp, the quality. detail: the filter of a resize, the chroma
    of a JPEG (`4:4:4`, `4:2:2`, `4:2:0`), the seed of the noise.
    """

    kind: str
    amount: float
    detail: str = ""

    def __post_init__(self) -> None:
        if self.kind not in STEPS:
            raise InputError(f"{self.kind!r} is no step of a history{nearest(self.kind, STEPS)}")
        low, high = _RANGES[self.kind]
        if not low <= self.amount <= high:
            raise InputError(
                f"the amount of {self.kind} lies in [{low}, {high}], got {self.amount:g}"
            )


History = tuple[Step, ...]


def _resize(pixels: Pixels, step: Step, rng: numpy.random.Generator) -> Pixels:
    _size(pixels.shape[0], pixels.shape[1], step.amount)
    name = step.detail or "bicubic"
    if name not in deliveries.FILTERS:
        raise InputError(f"{name!r} is no filter of a resize{nearest(name, deliveries.FILTERS)}")
    return deliveries.resize(pixels, rng, scale=step.amount, filter_=name)


def _blur(pixels: Pixels, step: Step, rng: numpy.random.Generator) -> Pixels:
    return deliveries.blur(pixels, rng, sigma=step.amount)


def _noise(pixels: Pixels, step: Step, rng: numpy.random.Generator) -> Pixels:
    return deliveries.noise(pixels, rng, sigma=step.amount)


def _jpeg(pixels: Pixels, step: Step, rng: numpy.random.Generator) -> Pixels:
    chroma = step.detail or "4:2:0"
    return deliveries.jpeg(pixels, rng, quality=round(step.amount), chroma=chroma)


def _webp(pixels: Pixels, step: Step, rng: numpy.random.Generator) -> Pixels:
    return deliveries.webp(pixels, rng, quality=round(step.amount))


STEPS: dict[str, Callable[[Pixels, Step, numpy.random.Generator], Pixels]] = {
    "resize": _resize,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "webp": _webp,
}
_RANGES = {
    "resize": (0.05, 8.0),
    "blur": (0.0, 20.0),
    "noise": (0.0, 128.0),
    "jpeg": (1, 100),
    "webp": (1, 100),
}


def passed(pixels: Pixels, history: History) -> Pixels:
    """The picture after its history; the same history gives the same picture."""
    for step in history:
        seed = int(step.detail or 0) if step.kind == "noise" else 0
        pixels = STEPS[step.kind](pixels, step, numpy.random.default_rng(seed))
    return pixels


def passed_mask(mask: Mask, history: History) -> Mask:
    """The mask of the picture after its history: a pixel is in it that comes for half or more from it."""
    for step in history:
        if step.kind == "resize":
            size = _size(mask.shape[0], mask.shape[1], step.amount)
            grey = Image.fromarray(mask.astype(numpy.float32)).resize(
                size, Image.Resampling.BILINEAR
            )
            mask = numpy.asarray(grey) >= 0.5
    return mask


def draw_history(rng: numpy.random.Generator) -> History:
    """One that a picture on the web may have: perhaps resized, softened, noisy; saved once or twice.

    Resizing by 0.5 to 1.5, a blur of at most 1.2 pixels, noise of at most 4 levels, JPEG of quality 50 to
    98 or WebP of 60 to 95; one in twelve is not compressed.
    """
    steps: list[Step] = []
    if rng.random() < 0.3:
        steps.append(_drawn_codec(rng, 75))
    if rng.random() < 0.4:
        amount = float(numpy.exp(rng.uniform(numpy.log(0.5), numpy.log(1.5))))
        steps.append(Step(kind="resize", amount=amount, detail=str(rng.choice(SMOOTH))))
    if rng.random() < 0.2:
        steps.append(Step(kind="blur", amount=float(rng.uniform(0.2, 1.2))))
    if rng.random() < 0.2:
        seed = str(rng.integers(2**31))
        steps.append(Step(kind="noise", amount=float(rng.uniform(0.5, 4)), detail=seed))
    if rng.random() < 11 / 12:
        steps.append(_drawn_codec(rng, 50))
    return tuple(steps)


def _drawn_codec(rng: numpy.random.Generator, least: int) -> Step:
    if rng.random() < 0.2:
        return Step(kind="webp", amount=int(rng.integers(max(least, 60), 96)))
    chroma = "4:2:0" if rng.random() < 0.7 else "4:4:4"
    return Step(kind="jpeg", amount=int(rng.integers(least, 99)), detail=chroma)


def _size(height: int, width: int, factor: float) -> tuple[int, int]:
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if max(size) > _LARGEST:
        raise InputError(
            f"a resize to {size[0]} x {size[1]} pixels is too large: at most {_LARGEST} a side"
        )
    return size
