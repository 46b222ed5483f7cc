"""How a picture reaches the one who asks: saved again, scaled, cut, shown on a screen.

None of these makes a photograph a fake or a fake a photograph, so a detector's answer should stand. Each
is a function of pixels and of a random generator, from which it takes what a sender would not choose by
hand (where a crop begins, the noise); the same generator gives the same pixels. Nothing is measured here.

>>> pixels = numpy.zeros((64, 48, 3), numpy.uint8)
>>> deliver(pixels, "resize50-lanczos").shape
(32, 24, 3)
"""

import io
from collections.abc import Callable
from functools import partial
from types import MappingProxyType

import numpy
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from assaymark.reports.errors import InputError, nearest

Pixels = UInt8[numpy.ndarray, "height width 3"]
Delivery = Callable[[Pixels, numpy.random.Generator], Pixels]
"""Pixels of (height, width, 3), 8 bits, to pixels of any height and width of at least 1."""

FILTERS = MappingProxyType(
    {
        "nearest": Image.Resampling.NEAREST,
        "box": Image.Resampling.BOX,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
)
_LARGEST_SIDE = 16_383  # what WebP can hold; larger pictures are scaled down first, as senders do


def unchanged(pixels: Pixels, rng: numpy.random.Generator) -> Pixels:
    return pixels


def jpeg(pixels: Pixels, rng: numpy.random.Generator, *, quality: int, chroma: str) -> Pixels:
    """Saved as JPEG with libjpeg's tables of a quality (1 to 100) and a chroma like "4:2:0"."""
    return _saved(pixels, "JPEG", quality=quality, subsampling=chroma)


def webp(pixels: Pixels, rng: numpy.random.Generator, *, quality: int) -> Pixels:
    """Saved as lossy WebP of a quality, 1 to 100."""
    return _saved(pixels, "WEBP", quality=quality, method=2)


def double_jpeg(pixels: Pixels, rng: numpy.random.Generator, *, first: int, second: int) -> Pixels:
    """Saved twice, and cut between: the second grid of blocks lies 1 to 7 pixels off the first."""
    once = jpeg(pixels, rng, quality=first, chroma="4:2:0")
    down, right = (int(off) for off in rng.integers(1, 8, 2))
    height, width = once.shape[:2]
    cut = once[min(down, height - 1) :, min(right, width - 1) :]
    return jpeg(cut, rng, quality=second, chroma="4:2:0")


def resize(pixels: Pixels, rng: numpy.random.Generator, *, scale: float, filter_: str) -> Pixels:
    """Scaled by a factor with one of FILTERS."""
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return numpy.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[filter_]))


def blur(pixels: Pixels, rng: numpy.random.Generator, *, sigma: float) -> Pixels:
    """Blurred by a Gaussian of `sigma` pixels."""
    return numpy.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def noise(pixels: Pixels, rng: numpy.random.Generator, *, sigma: float) -> Pixels:
    """Gaussian noise of `sigma` steps of 255 on every channel."""
    noisy = pixels + rng.normal(0, sigma, pixels.shape)
    return numpy.clip(numpy.rint(noisy), 0, 255).astype(numpy.uint8)


def sharpen(pixels: Pixels, rng: numpy.random.Generator, *, percent: int) -> Pixels:
    """An unsharp mask of radius 1."""
    mask = ImageFilter.UnsharpMask(radius=1, percent=percent, threshold=0)
    return numpy.asarray(Image.fromarray(pixels).filter(mask))


def crop(pixels: Pixels, rng: numpy.random.Generator, *, keep: float) -> Pixels:
    """A rectangle of `keep` of each side, at any place: the grid of JPEG's blocks is lost."""
    height, width = (max(1, round(side * keep)) for side in pixels.shape[:2])
    top = int(rng.integers(pixels.shape[0] - height + 1))
    left = int(rng.integers(pixels.shape[1] - width + 1))
    return numpy.ascontiguousarray(pixels[top : top + height, left : left + width])


def screenshot(pixels: Pixels, rng: numpy.random.Generator) -> Pixels:
    """As a viewer shows it: scaled by 0.7 to 1.3, on a plain margin, gamma 0.95 to 1.05, lossless."""
    shown = resize(pixels, rng, scale=float(rng.uniform(0.7, 1.3)), filter_="bilinear")
    top, bottom, left, right = (int(side) for side in rng.integers(4, 25, 4))
    margin = int(rng.choice([0, 32, 240, 255]))
    framed = numpy.pad(
        shown, ((top, bottom), (left, right), (0, 0)), "constant", constant_values=margin
    )
    table = 255 * (numpy.arange(256) / 255) ** rng.uniform(0.95, 1.05)
    curved: Pixels = numpy.rint(table).astype(numpy.uint8)[framed]
    return curved


_JPEG = (95, 90, 80, 75, 70, 60, 50)
_SCALES = ((50, "bicubic"), (75, "bicubic"), (125, "bicubic"), (150, "bicubic"))
_OTHER_SCALES = ((50, "lanczos"), (75, "bilinear"), (125, "nearest"), (150, "bilinear"))
_ROWS: dict[str, Delivery] = {
    "unchanged": unchanged,
    "jpeg100-444": partial(jpeg, quality=100, chroma="4:4:4"),
    **{f"jpeg{quality}": partial(jpeg, quality=quality, chroma="4:2:0") for quality in _JPEG},
    **{f"jpeg{quality}-444": partial(jpeg, quality=quality, chroma="4:4:4") for quality in _JPEG},
    "webp90": partial(webp, quality=90),
    "webp75": partial(webp, quality=75),
    "webp50": partial(webp, quality=50),
    "double-jpeg": partial(double_jpeg, first=75, second=90),
    "double-jpeg-low": partial(double_jpeg, first=90, second=65),
    **{
        f"resize{percent}-{filter_}": partial(resize, scale=percent / 100, filter_=filter_)
        for percent, filter_ in _SCALES + _OTHER_SCALES
    },
    "blur0.5": partial(blur, sigma=0.5),
    "blur1": partial(blur, sigma=1.0),
    "blur2": partial(blur, sigma=2.0),
    "noise2": partial(noise, sigma=2.0),
    "noise4": partial(noise, sigma=4.0),
    "noise8": partial(noise, sigma=8.0),
    "sharpen": partial(sharpen, percent=100),
    "crop90": partial(crop, keep=0.9),
    "crop50": partial(crop, keep=0.5),
    "screenshot": screenshot,
}
DELIVERIES: MappingProxyType[str, Delivery] = MappingProxyType(_ROWS)

EIGHT = (
    "jpeg95",
    "jpeg75",
    "webp75",
    "double-jpeg",
    "resize75-bicubic",
    "resize150-bilinear",
    "crop90",
    "screenshot",
)
"""What happens to a picture that is passed on: over these the share of changed verdicts is counted."""

BENIGN = ("resize75-bicubic", "resize150-bilinear", "blur1", "crop90", "crop50", "sharpen")
"""What a publisher does to a photograph, without saving it as JPEG."""


def deliver(pixels: Pixels, name: str, rng: numpy.random.Generator | int | None = None) -> Pixels:
    """The pixels after the delivery `name` of DELIVERIES; they are not changed in place.

    pixels: (height, width, 3), 8 bits. rng: a generator or a seed, 0 where None. Raises InputError for
    an unknown name or pixels of another kind.
    """
    if name not in DELIVERIES:
        raise InputError(f'there is no delivery "{name}"{nearest(name, DELIVERIES)}')
    if pixels.dtype != numpy.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InputError(
            f"pixels are {pixels.dtype} of shape {pixels.shape}: expected 8-bit RGB (height, width, 3)"
        )
    generator = (
        rng if isinstance(rng, numpy.random.Generator) else numpy.random.default_rng(rng or 0)
    )
    return DELIVERIES[name](pixels, generator)


def _saved(pixels: Pixels, format_: str, **options: object) -> Pixels:
    picture = Image.fromarray(pixels)
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    stream = io.BytesIO()
    picture.save(stream, format_, **options)
    stream.seek(0)
    with Image.open(stream, formats=(format_,)) as opened:
        return numpy.asarray(opened.convert("RGB"))
