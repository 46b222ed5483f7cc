"""How the splice localiser is fitted: planted regions in photographs, and a few minutes of one core.

Region and surroundings get histories of their own, then one final save together, so that the final
compression is no clue. A quarter of the cases has no region: what is done to the whole picture must not be
found.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw, ImageFilter
from torch import nn

from assaymark.provenance.splice_features import Features, splice_features
from assaymark.provenance.splice_network import FEATURES, SpliceNetwork

SIDE = 256  # pixels of a case
_FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
# Rows of features that are hidden together now and then, so that no single trace decides.
_GROUPS = ((0, 15), (15, 26), (26, 35), (35, 51), (53, 60), (60, 63))


@dataclass(frozen=True, kw_only=True)
class Planted:
    """pixels as decoded after the last save, its tables (none: saved without loss), and the truth."""

    pixels: UInt8[numpy.ndarray, "height width 3"]
    tables: tuple[tuple[int, ...], ...]
    region: Bool[numpy.ndarray, "height width"]


def plant(host: Image.Image, other: Image.Image | None, random: numpy.random.Generator) -> Planted:
    """Put a region of `other` (another photograph, or the host through a decoder) into the host.

    host and other: RGB, enlarged where smaller than SIDE. None: nothing is planted.
    """
    made = _with_history(host, random)
    region = Image.new("L", (SIDE, SIDE))
    if other is not None:
        region = _shape(random)
        soft = region.filter(ImageFilter.GaussianBlur(float(random.choice((0, 0.7, 1.5, 2.5)))))
        made = Image.composite(_with_history(other, random), made, soft)
    if random.random() < 0.06:
        made = made.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.9)))
    tables: tuple[tuple[int, ...], ...] = ()
    if random.random() < 0.9:
        made, tables = _saved(made, int(random.integers(62, 99)), random)
    return Planted(pixels=numpy.asarray(made), tables=tables, region=numpy.asarray(region) > 127)


def _with_history(photograph: Image.Image, random: numpy.random.Generator) -> Image.Image:
    """Resized or not, saved as JPEG or not, cut on a grid of its own or not."""
    made = photograph
    if random.random() < 0.5:
        made = _scaled(made, random.uniform(0.5, 1.6), random)
    least = max((SIDE + 8) / side for side in made.size)
    if least > 1:
        made = _scaled(made, least, random)
    if random.random() < 0.85:
        made, _ = _saved(made, int(random.integers(55, 99)), random)
    left, top = (int(random.integers(0, side - SIDE + 1)) for side in made.size)
    if random.random() < 0.5:
        left, top = left // 8 * 8, top // 8 * 8
    return made.crop((left, top, left + SIDE, top + SIDE))


def _scaled(picture: Image.Image, factor: float, random: numpy.random.Generator) -> Image.Image:
    size = (int(numpy.ceil(picture.width * factor)), int(numpy.ceil(picture.height * factor)))
    return picture.resize(size, _FILTERS[int(random.integers(len(_FILTERS)))])


def _saved(
    picture: Image.Image, quality: int, random: numpy.random.Generator
) -> tuple[Image.Image, tuple[tuple[int, ...], ...]]:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, subsampling=int(random.choice((0, 2))))
    opened = Image.open(stream)
    tables = getattr(opened, "quantization", {})
    return opened.convert("RGB"), tuple(tuple(tables[key]) for key in sorted(tables))


def _shape(random: numpy.random.Generator) -> Image.Image:
    """An ellipse, a rectangle or a star of a fifth to two fifths of the side."""
    width, height = random.integers(SIDE // 5, SIDE * 2 // 5, 2).tolist()
    left = int(random.integers(0, SIDE - width))
    top = int(random.integers(0, SIDE - height))
    region = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(region)
    kind = random.random()
    if kind < 0.45:
        draw.ellipse((left, top, left + width, top + height), fill=255)
    elif kind < 0.65:
        draw.rectangle((left, top, left + width, top + height), fill=255)
    else:
        turns = numpy.linspace(0, 2 * numpy.pi, 9, endpoint=False)
        reach = random.uniform(0.5, 1, 9) / 2
        corners = [
            (left + width * (0.5 + r * numpy.cos(t)), top + height * (0.5 + r * numpy.sin(t)))
            for t, r in zip(turns, reach, strict=True)
        ]
        draw.polygon(corners, fill=255)
    return region


def case(planted: Planted) -> tuple[Features, Float32[numpy.ndarray, "rows columns"]]:
    """Features, and the share of each block that lies in the region."""
    rows, columns = planted.region.shape[0] // 8, planted.region.shape[1] // 8
    part = planted.region[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    share = part.mean(axis=(1, 3)).astype(numpy.float32)
    return splice_features(planted.pixels, planted.tables), share


def fit(
    cases: Sequence[tuple[Features, Float32[numpy.ndarray, "rows columns"]]],
    *,
    steps: int = 1500,
    batch: int = 10,
    seed: int = 0,
) -> SpliceNetwork:
    """AdamW with a cosine of learning rates; a block in a region weighs three times one outside.

    Cases are of one size. About 50 ms of one core a step.
    """
    random = numpy.random.default_rng(seed)
    torch.manual_seed(seed)
    network = SpliceNetwork()
    some = numpy.concatenate(
        [features[:, ::3, ::3].reshape(FEATURES, -1) for features, _ in cases], 1
    )
    network.mean.copy_(torch.from_numpy(some.mean(axis=1)))
    network.deviation.copy_(torch.from_numpy(some.std(axis=1) + 1e-3))
    adam = torch.optim.AdamW(network.parameters(), lr=2.5e-3, weight_decay=2e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        chosen = random.integers(0, len(cases), batch)
        x = torch.from_numpy(numpy.stack([cases[index][0] for index in chosen]))
        y = torch.from_numpy(numpy.stack([cases[index][1] for index in chosen]))
        if random.random() < 0.3:
            first, last = _GROUPS[int(random.integers(len(_GROUPS)))]
            x[:, first:last] = network.mean[first:last, None, None]
        shift = torch.randn(batch, FEATURES, 1, 1)
        found = network(x + 0.1 * network.deviation[None, :, None, None] * shift)
        loss = nn.functional.binary_cross_entropy_with_logits(found, y, weight=1 + 2 * y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        rates.step()
    return network.eval()
