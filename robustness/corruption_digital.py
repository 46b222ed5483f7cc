"""Corruptions by processing: brightness, contrast, colour, warping, large pixels, JPEG."""

import io
from functools import lru_cache

import numpy
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional

from assaymark.robustness.corruption_filters import gaussian
from assaymark.robustness.corruption_severities import Constants
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images


def brightness(x: Images, c: Constants, streams: Streams) -> Images:
    """The value of HSV is raised; hue and saturation stay. `streams` is not used."""
    value = x.amax(1, keepdim=True)
    raised = (value + c[0]).clamp_(0, 1)
    # hue and saturation depend on the ratios of the channels alone; black has neither
    return torch.where(value > 0, x * (raised / value.clamp_min(1e-12)), raised).clamp_(0, 1)


def contrast(x: Images, c: Constants, streams: Streams) -> Images:
    """Each channel is drawn towards its own mean. `streams` is not used."""
    mean = x.mean((2, 3), keepdim=True)
    return ((x - mean) * c[0] + mean).clamp_(0, 1)


def saturate(x: Images, c: Constants, streams: Streams) -> Images:
    """The saturation of HSV is multiplied and raised. `streams` is not used.

    A grey pixel has hue 0 by convention, so that a raised saturation makes it red. Images of one
    channel have no saturation and stay as they are.
    """
    if x.shape[1] == 1:
        return x.clone()
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    spread = value - least
    saturation = spread / value.clamp_min(1e-12)
    wanted = (saturation * c[0] + c[1]).clamp_(0, 1)
    # how far below the value each channel lies, as a share of the farthest
    depth = (value - x) / spread.clamp_min(1e-12)
    red = torch.tensor([0.0, 1.0, 1.0], device=x.device).view(1, 3, 1, 1)
    depth = torch.where(spread > 0, depth, red)
    return (value * (1 - wanted * depth)).clamp_(0, 1)


def pixelate(x: Images, c: Constants, streams: Streams) -> Images:
    """Fewer, larger pixels, each the mean of those it covers. `streams` is not used."""
    for dim in (2, 3):
        n = x.shape[dim]
        members, shown, shares = (part.to(x.device) for part in _blocks(n, max(1, int(n * c[0]))))
        shape = list(x.shape)
        shape[dim] = len(shares)
        sums = torch.zeros(shape, device=x.device).index_add_(dim, members, x)
        means = sums * (shares[:, None] if dim == 2 else shares)
        x = means.index_select(dim, shown)
    return x.clamp_(0, 1)


@lru_cache(maxsize=32)
def _blocks(n: int, m: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, " m"]]:
    """Of n places in m blocks: the block each counts for, the one it shows, one over their sizes.

    A block holds the centres it covers, and a place shows the block that covers its centre; a centre
    on a border belongs to the lower block, and shows the upper one, as in Pillow.
    """
    centres = (torch.arange(n, dtype=torch.float64) + 0.5) * m / n
    members = centres.ceil().long() - 1
    return members, centres.long(), 1 / torch.bincount(members, minlength=m).float()


def jpeg_compression(x: Images, c: Constants, streams: Streams) -> Images:
    """Written as a JPEG file and read again, by Pillow on the CPU. `streams` is not used."""
    planes = (x * 255).round_().byte().cpu().contiguous().numpy()
    decoded = numpy.empty_like(planes)
    for image, read in zip(planes, decoded, strict=True):
        parts = [Image.fromarray(plane) for plane in image]
        stream = io.BytesIO()
        picture = parts[0] if len(parts) == 1 else Image.merge("RGB", parts)
        picture.save(stream, "JPEG", quality=int(c[0]))
        with Image.open(stream) as opened:
            for plane, part in zip(read, opened.split(), strict=True):
                plane[:] = part
    return torch.from_numpy(decoded).to(x.device).float().div_(255)


def elastic_transform(x: Images, c: Constants, streams: Streams) -> Images:
    """A random affine map, and then smooth random displacements."""
    height, width = x.shape[-2:]
    side = min(height, width)
    height_of_waves, smoothness, corner_moves = (length * side for length in c)
    warped = _affine(x, corner_moves, streams)
    if height_of_waves == 0:
        return warped.clamp_(0, 1)
    drawn = streams.uniform(torch.empty(len(x), 2, height, width, device=x.device), "waves")
    waves = gaussian(2 * drawn - 1, smoothness, truncate=3.0, border="reflect") * height_of_waves
    rows = torch.arange(height, device=x.device)[:, None] + waves[:, 1]
    columns = torch.arange(width, device=x.device) + waves[:, 0]
    # pixels are squares here: beyond the edge the image is reflected, the edge itself included
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return functional.grid_sample(
        warped, grid, padding_mode="reflection", align_corners=False
    ).clamp_(0, 1)


def _affine(x: Images, corner_moves: float, streams: Streams) -> Images:
    """Three corners of a centred square are moved at random and take the image with them."""
    height, width = x.shape[-2:]
    half = max(1, min(height, width) // 3)
    middle = torch.tensor([float(width // 2), float(height // 2)], dtype=torch.float64)
    corners = middle + half * torch.tensor([[1.0, 1], [1, -1], [-1, -1]], dtype=torch.float64)
    drawn = streams.uniform(torch.empty(len(x), 3, 2), "corners").double()
    moved = corners + corner_moves * (2 * drawn - 1)
    # the square's sides are parallel to the axes, so their images are the columns of the map
    ex = (moved[:, 1] - moved[:, 2]) / (2 * half)
    ey = (moved[:, 0] - moved[:, 1]) / (2 * half)
    determinant = ex[:, 0] * ey[:, 1] - ex[:, 1] * ey[:, 0]
    # corners in one line would have no way back
    determinant = torch.where(determinant.abs() < 1e-3, 1e-3, determinant)
    across = torch.stack([ey[:, 1], -ex[:, 1]], dim=1) / determinant[:, None]
    down = torch.stack([-ey[:, 0], ex[:, 0]], dim=1) / determinant[:, None]
    start = corners[0] - across * moved[:, 0, :1] - down * moved[:, 0, 1:]
    # grid_sample counts from -1 to 1 between the centres of the outermost pixels
    unit = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], dtype=torch.float64)
    across, down, start = (part.to(x.device, torch.float32) for part in (
        across * unit, down * unit, start * unit - 1
    ))  # fmt: skip
    rows = torch.arange(height, device=x.device)[None, :, None, None]
    columns = torch.arange(width, device=x.device)[None, None, :, None]
    grid = (start[:, None, None] + rows * down[:, None, None]) + columns * across[:, None, None]
    return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=True)
