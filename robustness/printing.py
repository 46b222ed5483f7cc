"""What a printer can do to a patch: smooth it, and miss colours it has no ink for."""

import io
import re
from pathlib import Path

import numpy
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from assaymark.reports.errors import InputError

Patches = Float[Tensor, "patches channels rows columns"]
Palette = Float[Tensor, "colours channels"]
_TINY = 1e-12
_LUMA = (0.299, 0.587, 0.114)
"""Of ITU-R BT.601: what a colour is worth in a grey picture."""

_INKS = ("00aeef", "ec008c", "fff200", "ed1c24", "00a651", "2e3192", "231f20")
"""Process cyan, magenta and yellow, their pairs and black, as usual screen values of coated paper."""


def printable(channels: int, colours: Palette | None = None) -> Palette:
    """The printable colours for images with 1 or 3 channels.

    colours: K×3 in [0, 1], by default paper white and seven process inks, each solid and at half tone.
    Raises InputError for another number of channels.
    """
    if colours is None:
        solid = torch.tensor([_rgb(code) for code in _INKS])
        colours = torch.cat([torch.ones(1, 3), solid, (1 + solid) / 2])
    if channels == 3:
        return colours
    if channels == 1:
        return colours @ torch.tensor(_LUMA)[:, None]
    raise InputError(
        f"printable colours are known for 1 or 3 channels, the images have {channels}: leave out "
        "palette and printability"
    )


def read_palette(path: Path, name: str) -> Palette:
    """K×3 colours of a text file with one colour a line: `#00aeef` or `0 174 239`.

    Raises InputError where the file cannot be read, a line is no colour, or it holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the palette {name}: {error}") from error
    colours = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        values = [int(part) for part in re.findall(r"\d{1,3}", text)]
        if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
            colours.append(_rgb(text[1:]))
        elif re.fullmatch(r"\d{1,3}([,;\s]+\d{1,3}){2}", text) and max(values) <= 255:
            colours.append([value / 255 for value in values])
        else:
            raise InputError(
                f'{name}:{number}: expected a colour such as #00aeef or "0 174 239", got '
                f"{text[:30]!r}"
            )
    if not colours:
        raise InputError(f"the palette {name} holds no colour: write one a line, such as #00aeef")
    return torch.tensor(colours)


def _rgb(code: str) -> list[float]:
    return [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]


def colour_distances(
    patches: Patches, palette: Palette
) -> Float[Tensor, "patches colours rows columns"]:
    """The Euclidean distance of each pixel to each printable colour."""
    palette = palette.to(patches)
    squares = (patches[:, None] - palette[None, :, :, None, None]).square().sum(2)
    return (squares + _TINY).sqrt()


def non_printability(
    patches: Patches, palette: Palette, mask: Bool[Tensor, "rows columns"]
) -> Float[Tensor, " patches"]:
    """The NPS of https://dl.acm.org/doi/10.1145/2976749.2978392 (section 5.3), a mean over pixels.

    For each pixel the product of its distances to all printable colours; 0 where all pixels have one.
    """
    return _inside(colour_distances(patches, palette).prod(1), mask)


def nearest_colour(
    patches: Patches, palette: Palette, mask: Bool[Tensor, "rows columns"]
) -> Float[Tensor, " patches"]:
    """The mean distance to the nearest printable colour (https://arxiv.org/abs/1904.08653, 3.2).

    It is 0 where the NPS is, and is what patches are trained with: a product of fifteen distances is so
    small that its gradient moves nothing.
    """
    return _inside(colour_distances(patches, palette).amin(1), mask)


def total_variation(
    patches: Patches, mask: Bool[Tensor, "rows columns"]
) -> Float[Tensor, " patches"]:
    """How rough a patch is (https://dl.acm.org/doi/10.1145/2976749.2978392, section 5.2).

    The mean over pixels whose right and lower neighbours also belong to the patch.
    """
    here = patches[:, :, :-1, :-1]
    across, down = patches[:, :, :-1, 1:] - here, patches[:, :, 1:, :-1] - here
    whole = mask[:-1, :-1] & mask[:-1, 1:] & mask[1:, :-1]
    return _inside(((across**2 + down**2).sum(1) + _TINY).sqrt(), whole)


def _inside(
    values: Float[Tensor, "patches rows columns"], mask: Bool[Tensor, "rows columns"]
) -> Float[Tensor, " patches"]:
    return (values * mask).sum((1, 2)) / mask.sum().clamp_min(1)


def png(picture: Float[Tensor, "channels rows columns"]) -> bytes:
    """A picture in [0, 1] as PNG: grey, grey with alpha, colour or colour with alpha."""
    planes = (picture.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    array = planes.permute(1, 2, 0).contiguous().numpy()
    stream = io.BytesIO()
    Image.fromarray(numpy.squeeze(array, 2) if array.shape[2] == 1 else array).save(stream, "PNG")
    return stream.getvalue()
