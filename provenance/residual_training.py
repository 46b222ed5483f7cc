"""Training of the residual network on pairs: a crop of a photograph, and what one process made of it.

Both sides get the same cut, flip and deliveries, so that neither content nor compression tells them apart:
only the process does (Guillaro et al., A Bias-Free Training Paradigm for More General AI-generated Image
Detection, CVPR 2025, section 3). The loss is the logistic loss of each side and of their difference.
Every step draws from a generator seeded with its number: a training that is resumed goes on as if it had
never stopped.
"""

import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from assaymark.provenance.deliveries import deliver
from assaymark.provenance.detection_scores import auc
from assaymark.provenance.image_planes import Pixels
from assaymark.provenance.material import read_picture
from assaymark.provenance.residual_network import ResidualNetwork, save_network
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

CUT = 160  # pixels a side of what a step sees
PAIRS = 8  # a step
RATE = 2e-3  # of Adam, falling to zero along a half cosine
_BEFORE = ("unchanged", "resize75-bicubic", "resize125-bicubic", "blur0.5", "noise2")
_SAVED = ("jpeg95", "jpeg90", "jpeg80", "jpeg75", "jpeg70", "jpeg60", "webp75", "jpeg95-444")

Images = Float[Tensor, "batch 3 side side"]


@dataclass(frozen=True, kw_only=True)
class PairFile:
    """Two pictures of one size. process: what made the second of the first; source: of the photograph."""

    real: Path
    fake: Path
    process: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training did. auc: of each process, on the sources and with the history it has not seen."""

    steps: int
    loss: float
    auc: dict[str, float | None]
    held_out: tuple[str, ...]


def pairs(folder: Path) -> list[PairFile]:
    """All pairs of `real/<source>/*` and `<process>/<source>/*`; raises InputError where there are none."""
    found = [
        PairFile(real=real, fake=fake, process=process.name, source=source.name)
        for process in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if process.is_dir() and process.name != "real"
        for source in sorted(process.iterdir())
        if source.is_dir()
        for fake in sorted(source.iterdir())
        if (real := folder / "real" / source.name / fake.name).is_file()
    ]
    if len({pair.source for pair in found}) < 2:
        raise InputError(
            f"{folder} holds {len(found)} pairs of fewer than two sources: expected real/<source>/NAME and "
            "<process>/<source>/NAME, so that a source can be held out"
        )
    return found


def split(of: Sequence[PairFile], share: float = 0.2) -> tuple[list[PairFile], list[PairFile]]:
    """To train on, and to judge by: whole sources, the last by name until a share of pairs is reached."""
    sources = sorted({pair.source for pair in of})
    judged: set[str] = set()
    for source in reversed(sources[1:]):
        if sum(pair.source in judged for pair in of) >= share * len(of):
            break
        judged.add(source)
    return [p for p in of if p.source not in judged], [p for p in of if p.source in judged]


def train_network(
    folder: Path,
    out: Path,
    *,
    steps: int = 1500,
    seconds: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    resume: bool = True,
    widths: tuple[int, int, int, int] = (16, 24, 32, 48),
    every: int = 100,
    note: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train on the pairs of a folder; writes residual.ckpt and image_residual.safetensors to `out`.

    seconds: of wall time after which it stops early; the next call goes on from there. every: steps between
    checkpoints. note: told of progress.
    """
    learnt, judged = split(pairs(folder))
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = ResidualNetwork(widths).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    checkpoint, begun, loss = out / "residual.ckpt", time.monotonic(), float("nan")
    first = _resumed(checkpoint, network, optimiser, device, seed) if resume else 0
    done = first
    for step in range(first, steps):
        if seconds is not None and time.monotonic() - begun > seconds:
            break
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        reals, fakes = batch(learnt, numpy.random.default_rng((seed, step)))
        loss = _step(network, optimiser, reals.to(device), fakes.to(device))
        done = step + 1
        if done % every == 0:
            _save(checkpoint, network, optimiser, done, seed)
            note(f"step {done} of {steps}: loss {loss:.3f}")
    _save(checkpoint, network, optimiser, done, seed)
    save_network(network, out / "image_residual.safetensors")
    sources = tuple(sorted({pair.source for pair in judged}))
    return Trained(steps=done, loss=loss, auc=judge(network, judged, seed=seed), held_out=sources)


def _step(
    network: ResidualNetwork, optimiser: torch.optim.Optimizer, reals: Images, fakes: Images
) -> float:
    logits = network(torch.cat([reals, fakes]))
    real, fake = logits.chunk(2)
    apart = functional.softplus(real - fake).mean()
    loss = functional.softplus(real).mean() + functional.softplus(-fake).mean() + apart
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def batch(
    of: Sequence[PairFile], rng: numpy.random.Generator, size: int = PAIRS
) -> tuple[Images, Images]:
    """So many pairs, processes equally likely, each with its own cut and deliveries for both sides."""
    processes = sorted({pair.process for pair in of})
    drawn = []
    for _ in range(size):
        process = processes[int(rng.integers(len(processes)))]
        own = [pair for pair in of if pair.process == process]
        drawn.append(delivered(own[int(rng.integers(len(own)))], rng))
    reals, fakes = zip(*drawn, strict=True)
    return _images(reals), _images(fakes)


def delivered(pair: PairFile, rng: numpy.random.Generator) -> tuple[Pixels, Pixels]:
    """Both sides after one cut, flip and chain of deliveries, 160 pixels a side."""
    before = _BEFORE[int(rng.integers(len(_BEFORE)))]
    saved = _SAVED[int(rng.integers(len(_SAVED)))]
    flip, at, seed = bool(rng.integers(2)), rng.random(2), int(rng.integers(2**31))
    sides = []
    for path in (pair.real, pair.fake):
        pixels = read_picture(path).pixels
        if flip:
            pixels = numpy.ascontiguousarray(pixels[:, ::-1])
        same = numpy.random.default_rng(seed)
        sides.append(_cut(deliver(deliver(pixels, before, same), saved, same), at))
    return sides[0], sides[1]


def _cut(pixels: Pixels, at: Float[numpy.ndarray, "2"]) -> Pixels:
    """A cut of 160 x 160 pixels, mirrored at the border where there are fewer."""
    missing = [max(0, CUT - side) for side in pixels.shape[:2]]
    if any(missing):
        pixels = numpy.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
    top, left = (
        int(place * (side - CUT + 1)) for place, side in zip(at, pixels.shape, strict=False)
    )
    return pixels[top : top + CUT, left : left + CUT]


def _images(of: Sequence[Pixels]) -> Images:
    return torch.from_numpy(numpy.stack(of)).permute(0, 3, 1, 2).float() / 255


def judge(
    network: ResidualNetwork, of: Sequence[PairFile], *, seed: int = 0, most: int = 48
) -> dict[str, float | None]:
    """AUC of each process over at most so many of its pairs, delivered as in training."""
    network.eval()
    device = next(network.parameters()).device
    found = {}
    for process in sorted({pair.process for pair in of}):
        own = [pair for pair in of if pair.process == process][:most]
        scores = list(_scored(network, own, numpy.random.default_rng((seed, 2**31)), device))
        found[process] = auc([False, True] * len(own), [s for both in scores for s in both])
    return found


def _scored(
    network: ResidualNetwork,
    of: Sequence[PairFile],
    rng: numpy.random.Generator,
    device: torch.device,
) -> Iterator[list[float]]:
    for pair in of:
        with torch.inference_mode():
            yield network(_images(delivered(pair, rng)).to(device)).tolist()


def _save(
    path: Path, network: ResidualNetwork, optimiser: torch.optim.Optimizer, step: int, seed: int
) -> None:
    stream = io.BytesIO()
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save(state | {"step": step, "seed": seed}, stream)
    write_atomically(path, stream.getvalue())


def _resumed(
    path: Path,
    network: ResidualNetwork,
    optimiser: torch.optim.Optimizer,
    device: str,
    seed: int,
) -> int:
    """The step to go on from; 0 without a checkpoint."""
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if state["seed"] != seed:
            raise ValueError(f"it was begun with seed {state['seed']}")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    except Exception as error:  # torch.load raises errors of pickle, zipfile and its own
        raise InputError(
            f"{path} is no checkpoint of this training ({str(error).splitlines()[0][:80]}): remove it, or "
            "begin again with resume=False"
        ) from error
