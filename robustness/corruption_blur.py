"""Corruptions by blur: out of focus, behind frosted glass, moved, zoomed, smoothed."""

import math
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assaymark.robustness.corruption_filters import ALIGNED, gaussian, padded, zoomed
from assaymark.robustness.corruption_severities import Constants
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images


def gaussian_blur(x: Images, c: Constants, streams: Streams) -> Images:
    """Gaussian smoothing. `streams` is not used."""
    return gaussian(x, c[0]).clamp_(0, 1)


def defocus_blur(x: Images, c: Constants, streams: Streams) -> Images:
    """Each point becomes a disk with a soft edge, as a lens draws it. `streams` is not used."""
    kernel = disk(*c)
    reach = len(kernel) // 2
    wide = padded(x, reach, "mirror")
    blurred = _by_taps(wide, kernel) if reach <= 2 else _by_transform(wide, kernel)
    return blurred.clamp_(0, 1)


def _by_taps(wide: Tensor, kernel: Tensor) -> Tensor:
    size = len(kernel) - 1
    height, width = wide.shape[2] - size, wide.shape[3] - size
    out = torch.zeros(*wide.shape[:2], height, width, device=wide.device)
    for top, row in enumerate(kernel.tolist()):
        for left, weight in enumerate(row):
            if weight:
                out.add_(wide[..., top : top + height, left : left + width], alpha=weight)
    return out


def _by_transform(wide: Tensor, kernel: Tensor) -> Tensor:
    reach = len(kernel) // 2
    size = [_fast_length(n) for n in wide.shape[-2:]]
    around = torch.zeros(size, dtype=torch.float64)
    around[: len(kernel), : len(kernel)] = kernel
    around = around.roll((-reach, -reach), (0, 1))
    # the disk is its own mirror image: its transform is real, and correlation is convolution
    response = torch.fft.rfft2(around).real.float().to(wide.device)
    # one plane at a time: in the last bit a transform depends on how many are done at once
    planes = [
        torch.fft.irfft2(torch.fft.rfft2(plane, s=size) * response, s=size)
        for plane in wide.flatten(0, 1)
    ]
    height, width = (n - 2 * reach for n in wide.shape[-2:])
    parts = torch.stack(planes)[:, reach : reach + height, reach : reach + width]
    return parts.reshape(*wide.shape[:2], height, width)


@lru_cache(maxsize=16)
def disk(radius: float, smooth: float) -> Float[Tensor, "size size"]:
    """A disk of sum 1, smoothed with 3 taps (5 for a radius above 8); no empty margin."""
    half = max(8, math.ceil(radius)) + 2
    squares = torch.arange(-half, half + 1, dtype=torch.float64) ** 2
    inside = (squares[:, None] + squares <= radius**2).double()
    reach = 1 if radius <= 8 else 2
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (steps / smooth) ** 2)
    taps /= taps.sum()
    soft = torch.nn.functional.conv2d(
        inside[None, None] / inside.sum(), torch.outer(taps, taps)[None, None], padding=reach
    )[0, 0]
    extent = math.floor(radius) + reach
    return soft[half - extent : half + extent + 1, half - extent : half + extent + 1].float()


def _fast_length(n: int) -> int:
    """The next multiple of 16 made of the factors 2, 3 and 5, for which transforms are fast.

    Images then lie alike in memory, on which the last bit depends.
    """
    n += -n % ALIGNED
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += ALIGNED


def motion_blur(x: Images, c: Constants, streams: Streams) -> Images:
    """A one-sided trail in a direction within 45 degrees of the horizontal."""
    return moved(x, c[0], c[1], _angles(streams, -45.0, 45.0)).clamp_(0, 1)


def _angles(streams: Streams, low: float, high: float) -> list[float]:
    drawn = streams.uniform(torch.empty(len(streams), 1), "angle")[:, 0]
    return (low + (high - low) * drawn.double()).tolist()


def trail(radius: float, sigma: float) -> list[float]:
    """Weights along a motion, from here backwards: half of a Gaussian, of sum 1."""
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(2 * math.ceil(radius) + 1)]
    return [weight / sum(weights) for weight in weights]


def moved(x: Images, radius: float, sigma: float, angles: list[float]) -> Images:
    """Each image smeared along its angle, in degrees; the edge is repeated beyond the border."""
    weights = trail(radius, sigma)
    reach = len(weights) - 1
    height, width = x.shape[-2:]
    wide = padded(x, reach, "nearest")
    out = torch.zeros_like(x, memory_format=torch.contiguous_format)
    for image, source, angle in zip(out, wide, angles, strict=True):
        down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        for i, weight in enumerate(weights):
            top = reach + math.ceil(i * down - 0.5)
            left = reach + math.ceil(i * right - 0.5)
            image.add_(source[:, top : top + height, left : left + width], alpha=weight)
    return out


def snow_angles(streams: Streams) -> list[float]:
    """Flakes fall from above."""
    return _angles(streams, -135.0, -45.0)


def zoom_blur(x: Images, c: Constants, streams: Streams) -> Images:
    """The mean of the image and of it magnified more and more. `streams` is not used."""
    count = int(c[1])
    # as numpy.arange counts: the step's last digit decides how many pixels are cut off
    step = (1 + c[0]) - 1
    total = 2 * x  # the image itself, and the zoom by 1
    for i in range(1, count):
        total += zoomed(x, 1 + i * step)
    return (total / (count + 1)).clamp_(0, 1)


def glass_blur(x: Images, c: Constants, streams: Streams) -> Images:
    """Smoothed, each pixel replaced by one nearby, smoothed again."""
    sigma, reach, rounds = c[0], int(c[1]), int(c[2])
    smooth = gaussian(x, sigma)
    n, channels, height, width = x.shape
    taken = scrambled(n, height, width, reach, rounds, streams, x.device)
    places = taken[:, None].expand(-1, channels, -1)
    scattered = smooth.flatten(2).gather(2, places).view(x.shape)
    return gaussian(scattered, sigma).clamp_(0, 1)


def scrambled(
    n: int,
    height: int,
    width: int,
    reach: int,
    rounds: int,
    streams: Streams,
    device: torch.device,
) -> Int[Tensor, "n pixels"]:
    """Which pixel stands at each place after `rounds` of local moves.

    A round visits the pixels from the lower right to the upper left, and each takes the value of a
    random neighbour at most `reach` away, as that stands by then: in the published program the
    intended swap is a copy. Pixels whose neighbourhoods do not touch may be visited at once without
    changing the result; `_wavefronts` says which.
    """
    cells, bounds, rank = _wavefronts(height, width, reach)
    active = bounds[-1]
    # one row a cell in the order of visits, one column an image
    standing = cells.to(device)[:, None].repeat(1, n)
    column = torch.arange(n, device=device)
    side = 2 * reach
    for number in range(rounds):
        like = torch.empty(n, active, device=device)
        choice = (streams.uniform(like, f"move/{number}") * side**2).long()
        move = (choice // side - reach) * width + choice % side - reach
        source = rank.to(device)[cells.to(device)[:active] + move].T * n + column
        source = source.contiguous().flatten()
        flat = standing.flatten()
        for begin, end in pairwise(bounds):
            flat[begin * n : end * n] = flat.index_select(0, source[begin * n : end * n])
        standing = flat.view(-1, n)
    return standing[rank.to(device)].T.contiguous()


@lru_cache(maxsize=16)
def _wavefronts(
    height: int, width: int, reach: int
) -> tuple[Int[Tensor, " pixels"], list[int], Int[Tensor, " pixels"]]:
    """The pixels in the order of visits, where each wavefront begins, and each pixel's rank.

    Row i from below and column j from the right are visited at time 2 · reach · i + j: later than
    all that came before in raster order and lies within reach, and together with pixels of other
    rows that are at least 2 · reach columns away. The margin is not visited and comes last.
    """
    place = torch.arange(height * width).view(height, width)
    rows = torch.arange(height - reach, reach, -1)
    columns = torch.arange(width - reach, reach, -1)
    time = 2 * reach * torch.arange(len(rows))[:, None] + torch.arange(len(columns))
    order = time.flatten().argsort(stable=True)
    visited = place[rows][:, columns].flatten()[order]
    counts = torch.bincount(time.flatten())
    bounds = [0, *counts.cumsum(0).tolist()]
    margin = torch.ones(height * width, dtype=torch.bool)
    margin[visited] = False
    cells = torch.cat([visited, place.flatten()[margin]])
    rank = torch.empty_like(cells)
    rank[cells] = torch.arange(len(cells))
    return cells, bounds, rank
