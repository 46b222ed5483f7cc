"""Our corruptions beside imagecorruptions': CPU seconds for an image, and how alike the results are.

Side by side in one run, one thread, 224×224 photographs (scikit-learn's two, cut up), severity 3:

    pip install --no-deps imagecorruptions opencv-python-headless scikit-image lazy-loader imageio
    OMP_NUM_THREADS=1 python tests/bench/corruptions.py

imagecorruptions 1.1.2 breaks on present NumPy, scikit-image and setuptools; `peer` mends the names
it misses and changes nothing else. For the comparison of results its random numbers are replaced by
ours, so that what is left is the difference of the two programs.
"""

import math
import os
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
from sklearn.datasets import load_sample_images

from assaymark.robustness.corruption_severities import constants
from assaymark.robustness.corruptions import CORRUPTIONS, corrupt
from assaymark.robustness.streams import Streams, seed_of

SIZE, IMAGES, ROUNDS, SEVERITY = 224, 8, 3, 3


def peer() -> Any:
    """imagecorruptions, with the names that its dependencies have dropped since."""
    import scipy.ndimage
    import skimage.filters

    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, name: str(  # type: ignore[attr-defined]
        Path(sys.modules[package].__file__ or "").parent / name
    )
    sys.modules["pkg_resources"] = resources
    interpolation = types.ModuleType("scipy.ndimage.interpolation")
    interpolation.map_coordinates = scipy.ndimage.map_coordinates  # type: ignore[attr-defined]
    sys.modules["scipy.ndimage.interpolation"] = interpolation
    numpy.float_ = numpy.float64  # type: ignore[attr-defined]
    gaussian: Any = skimage.filters.gaussian

    def mended(image: Any, *arguments: Any, multichannel: bool = False, **options: Any) -> Any:
        return gaussian(image, *arguments, channel_axis=-1 if multichannel else None, **options)

    skimage.filters.gaussian = mended
    import cv2
    import imagecorruptions

    cv2.setNumThreads(1)
    return imagecorruptions


def photographs() -> torch.Tensor:
    """n×3×224×224 in [0, 1], whole 255ths."""
    images = load_sample_images().images
    parts = [images[i % 2][25 * i :, 50 * i :][:SIZE, :SIZE] for i in range(IMAGES)]
    return torch.stack([torch.from_numpy(part.copy()).permute(2, 0, 1) / 255 for part in parts])


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def ssim(ours: numpy.ndarray, theirs: numpy.ndarray) -> float:
    from skimage.metrics import structural_similarity

    measure: Any = structural_similarity
    return float(measure(ours, theirs, channel_axis=-1, data_range=255))


class Queue:
    """Stands in for numpy.random: hands out prepared numbers in order."""

    def __init__(self, *draws: numpy.ndarray | float) -> None:
        self.draws: Iterator[numpy.ndarray | float] = iter(draws)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        return loc + scale * numpy.asarray(next(self.draws), dtype=numpy.float64)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        return low + (high - low) * numpy.asarray(next(self.draws), dtype=numpy.float64)

    def randint(self, low: int, high: int, size: Any = None) -> Any:
        return next(self.draws)


@contextmanager
def random_numbers(module: Any, queue: Queue) -> Iterator[None]:
    """The peer draws from `queue` for a while."""
    kept = module.np
    stand_in = types.ModuleType("numpy")
    stand_in.__dict__.update(kept.__dict__)
    stand_in.random = queue  # type: ignore[attr-defined]
    module.np = stand_in
    try:
        yield
    finally:
        module.np = kept


def same_draws(name: str, streams: Streams) -> Queue | None:
    """What our corruption draws for one image, in the order in which the peer asks for it."""
    plane, pixels = torch.empty(1, 1, SIZE, SIZE), torch.empty(1, 3, SIZE, SIZE)
    c = constants(name, SEVERITY, SIZE, SIZE)

    def picture(drawn: torch.Tensor) -> numpy.ndarray:
        return drawn[0].permute(1, 2, 0).numpy()

    if name in ("gaussian_noise", "speckle_noise"):
        return Queue(picture(streams.normal(pixels, "noise")))
    angle = float(streams.uniform(torch.empty(1, 1), "angle")[0, 0].double())
    if name == "motion_blur":
        return Queue(angle)
    if name == "snow":
        return Queue(streams.normal(plane, "flakes")[0, 0].numpy(), angle)
    if name == "spatter":
        return Queue(streams.normal(plane, "drops")[0, 0].numpy())
    if name == "fog":
        steps = [2**k for k in range(8, 0, -1)]
        draws = []
        for step in steps:
            like = torch.empty(1, 256 // step, 256 // step)
            draws += [
                streams.uniform(like, f"{part}/{step}")[0].numpy()
                for part in ("square", "across", "down")
            ]
        return Queue(*draws)
    if name == "glass_blur":
        return Queue(*_moves(streams, int(c[1]), int(c[2])))
    return Queue()


def _moves(streams: Streams, reach: int, rounds: int) -> Iterator[numpy.ndarray]:
    """(dx, dy) of each visit in raster order; ours are drawn in the order of the wavefronts."""
    from assaymark.robustness.corruption_blur import _wavefronts

    _, bounds, rank = _wavefronts(SIZE, SIZE, reach)
    side = 2 * reach
    for number in range(rounds):
        drawn = streams.uniform(torch.empty(1, bounds[-1]), f"move/{number}")[0]
        choice = (drawn * side**2).long()
        moves = torch.stack([choice % side - reach, choice // side - reach], dim=1)
        for row in range(SIZE - reach, reach, -1):
            for column in range(SIZE - reach, reach, -1):
                yield moves[rank[row * SIZE + column]].numpy()


def likeness(module: Any, name: str, x: torch.Tensor) -> float | None:
    """Mean SSIM of both results over images, with the same random numbers; None where impossible."""
    if name in ("frost", "shot_noise", "impulse_noise", "elastic_transform"):
        return None  # other textures; other ways to draw; other constants than ImageNet-C's
    values = []
    count = 1 if name == "glass_blur" else len(x)
    for i in range(count):
        streams = Streams.of(0, "bench", [i])
        own = Streams(streams.keys ^ seed_of(f"corruption/{name}/{SEVERITY}"))
        image = (x[i].permute(1, 2, 0) * 255).round().byte().numpy()
        queue = same_draws(name, own)
        with random_numbers(module.corruptions, queue or Queue()):
            theirs = module.corrupt(image, corruption_name=name, severity=SEVERITY)
        ours = corrupt(x[i : i + 1], name, SEVERITY, streams)[0].permute(1, 2, 0)
        # the peer rounds down
        values.append(ssim((ours * 255 + 1e-3).floor().byte().numpy(), theirs))
    return sum(values) / len(values)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if find_spec("imagecorruptions") is None:
        sys.exit("imagecorruptions is not installed: see the first lines of this file")
    module = peer()
    x = photographs()
    arrays = [(image.permute(1, 2, 0) * 255).round().byte().numpy() for image in x]
    streams = Streams.of(0, "bench", list(range(len(x))))
    print("| corruption | imagecorruptions ms | ours ms | times faster | SSIM, same draws |")
    print("|---|---|---|---|---|")
    totals = [0.0, 0.0]
    ratios = []
    for name in CORRUPTIONS:
        corrupt(x, name, SEVERITY, streams)  # tables and textures are made once
        fewer = arrays[:2] if name == "glass_blur" else arrays

        def theirs(name: str = name, fewer: list[numpy.ndarray] = fewer) -> None:
            for array in fewer:
                module.corrupt(array, corruption_name=name, severity=SEVERITY)

        def ours(name: str = name) -> None:
            corrupt(x, name, SEVERITY, streams)

        theirs()
        pairs = [(cpu(theirs) / len(fewer), cpu(ours) / len(x)) for _ in range(ROUNDS)]
        slow, fast = (sorted(column)[ROUNDS // 2] * 1e3 for column in zip(*pairs, strict=True))
        totals[0] += slow
        totals[1] += fast
        ratios.append(slow / fast)
        alike = likeness(module, name, x)
        shown = "–" if alike is None else f"{alike:.4f}"
        print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} | {shown} |", flush=True)
    geometric = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    print(
        f"| all 19 | {totals[0]:.1f} | {totals[1]:.1f} | {totals[0] / totals[1]:.1f}, geometric mean "
        f"{geometric:.1f} | |"
    )


if __name__ == "__main__":
    main()
