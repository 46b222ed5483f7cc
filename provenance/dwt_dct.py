"""The open invisible watermark that Stable Diffusion, SDXL and FLUX put into their pictures, read exactly.

The package `invisible-watermark` (https://github.com/ShieldMnt/invisible-watermark, MIT) writes bit n mod L
into the n-th block: 4 x 4 coefficients of one Haar step of the picture's U channel. dwtDct puts the largest
coefficient but the first into the upper or lower half of a step of 36, dwtDctSvd the largest singular
value. Reading loses bits even where nothing was done to a picture, and all of them after one JPEG, so that
its absence says nothing.

Whether votes for the bits are a known mark or chance is asked of the votes themselves: in how many of all
their orders the mark's ones stand as high above its zeros. A picture that gives all ones by its content
cannot be taken for a mark so, and one that leans to ones does not hide its mark.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy.stats import mannwhitneyu

from assaymark.provenance.evidence import Evidence, Family, Says, abstains
from assaymark.provenance.material import Material

NAME = "stable-diffusion-mark"
SMALLEST = 256 * 256  # pixels; the package marks no smaller picture
LARGEST_P = 1e-6  # of a picture without a mark, over all marks that are tried
_SCALE = 36.0
_BLOCK = 4
_STRIP = 32 * 2 * _BLOCK  # rows, whole blocks
_HAAR = 0.7071067811865476

Pixels = UInt8[numpy.ndarray, "height width 3"]
Levels = Int64[numpy.ndarray, "height width"]
Blocks = Float64[numpy.ndarray, "blocks 4 4"]
Values = Float64[numpy.ndarray, " blocks"]
Votes = Float64[numpy.ndarray, " bits"]
Bits = Bool[numpy.ndarray, " bits"]


@dataclass(frozen=True, kw_only=True)
class KnownMark:
    """A message that a program writes. source: the code that writes it."""

    program: str
    bits: tuple[bool, ...]
    source: str


def _letters(program: str, text: str, source: str) -> KnownMark:
    bits = numpy.unpackbits(numpy.frombuffer(text.encode(), numpy.uint8))
    return KnownMark(program=program, bits=tuple(bits.astype(bool)), source=source)


def _number(program: str, digits: str, source: str) -> KnownMark:
    return KnownMark(program=program, bits=tuple(bit == "1" for bit in digits), source=source)


MARKS = (
    _letters("Stable Diffusion 1", "StableDiffusionV1", "CompVis/stable-diffusion, txt2img.py"),
    _letters("Stable Diffusion 2", "SDV2", "Stability-AI/stablediffusion, scripts/txt2img.py"),
    _number(
        "Stable Diffusion XL",
        "101100111110110010010000011110111011000110011110",
        "huggingface/diffusers, pipelines/stable_diffusion_xl/watermark.py",
    ),
    # the code writes bin(message)[2:], without the two zeros that its 48 bits begin with
    _number(
        "FLUX",
        "1010101111111010000111100111001111010100101110",
        "black-forest-labs/flux, src/flux/util.py",
    ),
    _letters("InvokeAI", "InvokeAI", "invoke-ai/InvokeAI, image_util/invisible_watermark.py"),
    _letters("Paint by Example", "Paint-by-Example", "Fantasy-Studio/Paint-by-Example"),
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The known mark that a picture's bits agree with best.

    agreeing: bits of all its bits that are as in the mark. p_value: at most, over all marks and methods
    tried, the probability that a picture without a mark agrees as well.
    """

    mark: KnownMark
    method: str
    agreeing: int
    p_value: float


def look_stable_diffusion_mark(material: Material) -> Sequence[Evidence]:
    """The known marks in a picture; raises InputError for one that cannot be decoded."""
    pixels = material.picture.pixels
    height, width = pixels.shape[:2]
    if height * width < SMALLEST or min(height, width) < 32:
        why = f"a picture of {width} x {height} pixels is too small for the mark, which needs 256 x 256"
        return [abstains(NAME, Family.WATERMARK, why)]
    best = find(pixels)
    told = {
        "method": best.method,
        "agreeing": best.agreeing,
        "bits": len(best.mark.bits),
        "p_value": best.p_value,
        "source": best.mark.source,
    }
    share = best.agreeing / len(best.mark.bits)
    if best.p_value > LARGEST_P:
        summary = "no known mark of Stable Diffusion; one is lost by most ways of saving a picture"
        says = Says.NOTHING
    else:
        summary = (
            f"the invisible mark of {best.mark.program}, {best.agreeing} of {len(best.mark.bits)} bits; "
            f"by chance at most {best.p_value:.0e} of pictures would show one as well"
        )
        says = Says.GENERATED
        told["generator"] = best.mark.program
    return [
        Evidence(
            detector=NAME,
            family=Family.WATERMARK,
            says=says,
            summary=summary,
            score=share,
            details={**told, "open": True},
        )
    ]


def find(pixels: Pixels, marks: Sequence[KnownMark] = MARKS) -> Found:
    """The mark that is least likely by chance, of those given, by either method.

    pixels: RGB, at least 32 on each side. Raises nothing for any content.
    """
    tried = list(_tried(pixels, marks))
    best = min(tried, key=lambda one: one.p_value)
    return Found(
        mark=best.mark,
        method=best.method,
        agreeing=best.agreeing,
        p_value=min(1.0, best.p_value * len(tried)),
    )


def _tried(pixels: Pixels, marks: Sequence[KnownMark]) -> Iterator[Found]:
    for method, values in zip(("dwtDct", "dwtDctSvd"), values_of(pixels), strict=True):
        for mark in marks:
            votes, wanted = decode(values, len(mark.bits)), numpy.array(mark.bits)
            agreeing, p_value = int(((votes * 255 > 127) == wanted).sum()), chance(votes, wanted)
            yield Found(mark=mark, method=method, agreeing=agreeing, p_value=p_value)


def values_of(pixels: Pixels) -> tuple[Values, Values]:
    """What dwtDct and dwtDctSvd read in every block; strip by strip, as all at once take 50 bytes a pixel."""
    strips = (blocks_of(pixels[top : top + _STRIP]) for top in range(0, len(pixels), _STRIP))
    found = [(largest_coefficients(blocks), singular(blocks)) for blocks in strips]
    largest, strongest = zip(*found, strict=True)
    return numpy.concatenate(largest), numpy.concatenate(strongest)


def chance(votes: Votes, wanted: Bits) -> float:
    """The share of all orders of the votes in which the mark's ones stand as high above its zeros.

    This is the one-sided exact test of Mann and Whitney; among equal votes, zeros are put above ones.

    >>> chance(numpy.array([0.9, 0.8, 0.2, 0.1]), numpy.array([True, True, False, False]))
    0.16666666666666666
    """
    order = numpy.lexsort((~wanted, votes))
    ranks = numpy.empty(len(votes))
    ranks[order] = numpy.arange(len(votes))
    found = mannwhitneyu(ranks[wanted], ranks[~wanted], alternative="greater", method="exact")
    return float(found.pvalue)


def decode(values: Values, length: int) -> Votes:
    """The votes for the bits of a message of `length`, each the mean of its blocks' halves, 0 to 1.

    The package's decoder reads a one where a vote is over 127 / 255.
    """
    halves = (values % _SCALE > _SCALE / 2).astype(numpy.float64)
    index = numpy.arange(len(halves)) % length
    counts = numpy.bincount(index, minlength=length)
    votes: Votes = numpy.bincount(index, halves, minlength=length) / numpy.maximum(counts, 1)
    return votes


def blocks_of(pixels: Pixels) -> Blocks:
    """The approximation of one Haar step of the U channel, in blocks from the top left, row by row."""
    height, width = (side // 4 * 4 for side in pixels.shape[:2])
    u = blue_chrominance(pixels)[:height, :width].astype(numpy.float64)
    # rounded step by step as PyWavelets does: a value on the edge of a step falls to the same side
    tall = u[::2] * _HAAR + u[1::2] * _HAAR
    half = tall[:, ::2] * _HAAR + tall[:, 1::2] * _HAAR
    rows, columns = half.shape[0] // _BLOCK, half.shape[1] // _BLOCK
    kept = half[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    return kept.transpose(0, 2, 1, 3).reshape(-1, _BLOCK, _BLOCK)


def blue_chrominance(pixels: Pixels) -> Levels:
    """U of OpenCV's COLOR_BGR2YUV for 8 bits: fixed point of 14 bits, rounded, 0 to 255."""
    red, green, blue = (pixels[:, :, channel].astype(numpy.int64) for channel in range(3))
    luminance = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14
    u: Levels = numpy.clip(((blue - luminance) * 8061 + (128 << 14) + 8192) >> 14, 0, 255)
    return u


def largest_coefficients(blocks: Blocks) -> Values:
    """The largest magnitude in each block but for its first value."""
    values: Values = numpy.abs(blocks.reshape(len(blocks), -1)[:, 1:]).max(axis=1, initial=0.0)
    return values


def singular(blocks: Blocks) -> Values:
    """The largest singular value of each block, which the cosine transform does not change."""
    gram = blocks @ blocks.transpose(0, 2, 1)
    values: Values = numpy.sqrt(numpy.maximum(numpy.linalg.eigvalsh(gram)[:, -1], 0))
    return values
