"""Fakes that are made here from photographs, beside the photograph each was made from.

Both sides of a pair are the same crop and get the same resizing and compression, so that neither content
nor history tells them apart, only the process does. Benign processes (resampling, retouching) are made
too: what they do must not be called fake.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy
from jaxtyping import Float
from PIL import Image, ImageEnhance, ImageFilter

from assaymark.provenance.decoders import Autoencoder, check_pixels, reconstruct
from assaymark.provenance.deliveries import FILTERS
from assaymark.provenance.denoiser import Denoiser, renew
from assaymark.provenance.evidence import Says
from assaymark.provenance.picture_history import (
    SMOOTH,
    History,
    Mask,
    Pixels,
    passed,
    passed_mask,
)
from assaymark.reports.errors import InputError

Random = numpy.random.Generator
Alpha = Float[numpy.ndarray, "height width"]
_REDUCED = 2.5  # at most, before a crop


class Made(NamedTuple):
    """A changed picture of the same size, and which pixels the process has made."""

    pixels: Pixels
    mask: Mask


class Pair(NamedTuple):
    """A photograph, what a process made of it, and which pixels of the latter are the process's."""

    real: Pixels
    fake: Pixels
    mask: Mask


@dataclass(frozen=True, kw_only=True)
class Process:
    """says: what is true of the result; NOTHING of a benign process, whose mask is empty."""

    name: str
    says: Says
    make: Callable[[Pixels, Random], Made]


def crop(photo: Pixels, rng: Random, *, side: int = 256) -> Pixels:
    """A square of a photograph that was first reduced by 1 to 2.5, where it is large enough.

    The reduction takes away most of the traces of an earlier compression, which a decoder would remove
    from one side of a pair only. Raises InputError for a photograph smaller than the square.
    """
    check_pixels(photo)
    height, width = photo.shape[:2]
    if not 8 <= side <= min(height, width):
        raise InputError(
            f"a crop of {side} pixels cannot be cut from a photograph of {width} x {height}: expected "
            "8 pixels up to the shorter side"
        )
    factor = float(rng.uniform(1, min(_REDUCED, min(height, width) / side)))
    size = max(side, round(width / factor)), max(side, round(height / factor))
    if size != (width, height):
        chosen = FILTERS[str(rng.choice(SMOOTH))]
        photo = numpy.asarray(Image.fromarray(photo).resize(size, chosen))
    top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    return numpy.ascontiguousarray(photo[top : top + side, left : left + side])


def pair(
    photo: Pixels, process: Process, rng: Random, *, side: int = 256, history: History = ()
) -> Pair:
    """A crop of the photograph and what the process makes of it, after the same history."""
    real = crop(photo, rng, side=side)
    made = process.make(real, rng)
    return Pair(
        passed(real, history), passed(made.pixels, history), passed_mask(made.mask, history)
    )


def decoded(model: Autoencoder) -> Callable[[Pixels, Random], Made]:
    """The whole picture through a decoder."""

    def make(pixels: Pixels, rng: Random) -> Made:
        return Made(reconstruct(model, pixels), _everywhere(pixels))

    return make


def renewed(
    model: Denoiser, noise: tuple[float, float] = (0.06, 0.5)
) -> Callable[[Pixels, Random], Made]:
    """The whole picture with noise of a deviation between these two, and out of it again in 4 to 8 steps."""

    def make(pixels: Pixels, rng: Random) -> Made:
        amount = float(numpy.exp(rng.uniform(*numpy.log(noise))))
        steps, seed = int(rng.integers(4, 9)), int(rng.integers(2**31))
        return Made(renew(model, pixels, noise=amount, steps=steps, seed=seed), _everywhere(pixels))

    return make


def inside(make: Callable[[Pixels, Random], Made]) -> Callable[[Pixels, Random], Made]:
    """The process within a random region only; outside the mask no pixel differs."""

    def partly(pixels: Pixels, rng: Random) -> Made:
        made = make(pixels, rng)
        mask = made.mask & (region(pixels.shape[0], pixels.shape[1], rng) > 0.5)
        return Made(numpy.where(mask[:, :, None], made.pixels, pixels), mask)

    return partly


def self_blended(pixels: Pixels, rng: Random) -> Made:
    """A region of a picture over itself, recoloured, shifted and sharper or softer, with a soft edge.

    Self-blended images (https://arxiv.org/abs/2204.08376, section 3.2) for any region; for a face, give
    `blend_into` the face's outline. The mask is where the two were mixed at all.
    """
    return blend_into(pixels, region(pixels.shape[0], pixels.shape[1], rng), rng)


def blend_into(pixels: Pixels, outline: Alpha, rng: Random) -> Made:
    """The same with an outline in [0, 1] of the picture's height and width; its edge is softened."""
    check_pixels(pixels)
    if outline.shape != pixels.shape[:2]:
        raise InputError(
            f"the outline has shape {outline.shape}, expected the picture's {pixels.shape[:2]}"
        )
    height, width = outline.shape
    soft = Image.fromarray((outline * 255).astype(numpy.uint8)).filter(
        ImageFilter.GaussianBlur(float(rng.uniform(0.5, max(1.0, min(height, width) / 40))))
    )
    alpha = numpy.asarray(soft) / 255 * float(rng.choice([0.5, 0.75, 1, 1, 1]))
    mixed = pixels + alpha[:, :, None] * (_altered(pixels, rng).astype(float) - pixels)
    return Made(numpy.rint(mixed).astype(numpy.uint8), alpha > 0)


def _altered(pixels: Pixels, rng: Random) -> Pixels:
    """The source of a blend: statistics and place of the picture, a little off."""
    height, width = pixels.shape[:2]
    scale = float(rng.uniform(0.95, 1.05))
    shift = rng.uniform(-0.03, 0.03, 2) * (width, height)
    centre = numpy.array([width, height]) / 2
    across, down = (1 - scale) * centre + shift
    picture = Image.fromarray(pixels).transform(
        (width, height),
        Image.Transform.AFFINE,
        (scale, 0, float(across), 0, scale, float(down)),
        Image.Resampling.BICUBIC,
    )
    # beyond the edge the transform has no pixels of its own
    inner = numpy.asarray(
        Image.new("L", (width, height), 255).transform(
            (width, height),
            Image.Transform.AFFINE,
            (scale, 0, float(across), 0, scale, float(down)),
        )
    )
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    else:
        picture = ImageEnhance.Sharpness(picture).enhance(float(rng.uniform(1.3, 2.5)))
    gains = rng.uniform(0.9, 1.1, 3)
    shifted = numpy.asarray(picture) * gains + rng.uniform(-12, 12, 3)
    shifted = numpy.where(inner[:, :, None] > 0, shifted, pixels)
    levels: Pixels = numpy.clip(numpy.rint(shifted), 0, 255).astype(numpy.uint8)
    return levels


def region(height: int, width: int, rng: Random) -> Alpha:
    """0 or 1: a box, an ellipse or a blob that covers about 5 to 40 % of the picture."""
    rows, columns = numpy.mgrid[0:height, 0:width]
    tall, wide = rng.uniform(0.12, 0.32, 2) * (height, width)
    y, x = (rng.uniform(half, size - half) for half, size in ((tall, height), (wide, width)))
    down, across = (rows - y) / tall, (columns - x) / wide
    match str(rng.choice(["box", "ellipse", "blob"])):
        case "box":
            inner = numpy.maximum(abs(down), abs(across)) <= 1
        case "ellipse":
            inner = down**2 + across**2 <= 1
        case _:
            angle = numpy.arctan2(down, across)
            phases = rng.uniform(0, 2 * numpy.pi, 3)
            wave = sum(numpy.cos((k + 2) * angle + phases[k]) / (k + 2) for k in range(3))
            inner = numpy.hypot(down, across) <= 0.85 + 0.25 * wave
    found: Alpha = inner.astype(float)
    return found


def resampled(pixels: Pixels, rng: Random) -> Made:
    """Benign: reduced and enlarged again, or turned by at most 3 degrees, by an ordinary filter."""
    picture, size = Image.fromarray(pixels), (pixels.shape[1], pixels.shape[0])
    first, second = (FILTERS[str(name)] for name in rng.choice(SMOOTH, 2))
    if rng.random() < 0.7:
        factor = float(rng.uniform(0.5, 1.6))
        middle = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        found = picture.resize(middle, first).resize(size, second)
    else:
        angle = float(rng.uniform(-3, 3))
        pad = max(size) // 8
        wide = Image.fromarray(numpy.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), "symmetric"))
        turned = wide.rotate(angle, Image.Resampling.BICUBIC)
        found = turned.crop((pad, pad, pad + size[0], pad + size[1]))
    return Made(numpy.asarray(found), ~_everywhere(pixels))


def retouched(pixels: Pixels, rng: Random) -> Made:
    """Benign: brightness, contrast, colour and sharpness as an ordinary editor sets them, or a median."""
    picture = Image.fromarray(pixels)
    for enhance in (
        ImageEnhance.Brightness,
        ImageEnhance.Contrast,
        ImageEnhance.Color,
        ImageEnhance.Sharpness,
    ):
        picture = enhance(picture).enhance(float(rng.uniform(0.75, 1.3)))
    choice = rng.random()
    if choice < 0.3:
        picture = picture.filter(ImageFilter.UnsharpMask(2, int(rng.integers(40, 150)), 2))
    elif choice < 0.5:
        picture = picture.filter(ImageFilter.MedianFilter(3))
    elif choice < 0.7:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2))))
    return Made(numpy.asarray(picture), ~_everywhere(pixels))


def processes(
    decoders: Mapping[str, Autoencoder], denoisers: Mapping[str, Denoiser] | None = None
) -> dict[str, Process]:
    """All processes by name, in a fixed order: `decoder-NAME`, `renewed-NAME`, `inpaint-NAME`, and three
    that need no network: `blend`, and the benign `resample` and `retouch`.
    """
    whole = {f"decoder-{name}": decoded(model) for name, model in decoders.items()}
    whole |= {f"renewed-{name}": renewed(model) for name, model in (denoisers or {}).items()}
    rows: Iterable[tuple[str, Says, Callable[[Pixels, Random], Made]]] = (
        *((name, Says.GENERATED, make) for name, make in whole.items()),
        *(
            (f"inpaint-{name.partition('-')[2]}", Says.MANIPULATED, inside(make))
            for name, make in whole.items()
        ),
        ("blend", Says.MANIPULATED, self_blended),
        ("resample", Says.NOTHING, resampled),
        ("retouch", Says.NOTHING, retouched),
    )
    return {name: Process(name=name, says=says, make=make) for name, says, make in rows}


def _everywhere(pixels: Pixels) -> Mask:
    return numpy.ones(pixels.shape[:2], bool)
