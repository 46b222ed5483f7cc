"""Trains small networks on crops of photographs, with checkpoints from which the same weights result.

Every step draws its crops and its noise from the seed and its own number, so a training that was stopped
goes on as if it had not been.
"""

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assaymark.provenance.decoders import (
    Autoencoder,
    Images,
    Pixels,
    Recipe,
    build,
    check_pixels,
)
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

Progress = Callable[[int, float], None]
_KL = 1e-4  # weight of the prior, per number of the picture
_CRITIC = 0.02  # weight of the critic against the mean absolute error


@dataclass(frozen=True, kw_only=True)
class Course:
    """How long and on what is trained.

    steps, batch: crops in a step. side: of a crop, in pixels, a multiple of 16. rate: the highest learning
    rate, which rises for 5 % of the steps and falls along a cosine. seed: of crops, noise and weights.
    """

    steps: int = 600
    batch: int = 16
    side: int = 64
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not 0 < self.rate < 1:
            raise InputError(
                f"expected at least 1 step and 1 crop and a rate in (0, 1), got {self.steps}, "
                f"{self.batch} and {self.rate}"
            )
        if self.side < 16 or self.side % 16:
            raise InputError(f"the side of a crop is a multiple of 16 pixels, got {self.side}")


class Critic(nn.Module):
    """Says of every patch of 18 x 18 pixels how real it looks (https://arxiv.org/abs/1611.07004, 3.2.2)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )

    def forward(self, images: Images) -> Float[Tensor, "batch 1 rows columns"]:
        found: Tensor = self.body(images * 2 - 1)
        return found


class DecoderLoss(nn.Module):
    """The loss of an autoencoder, and of its critic where its recipe has one."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.critic = Critic() if model.recipe.loss == "adversarial" else None

    def forward(self, images: Images, generator: torch.Generator) -> Float[Tensor, ""]:
        mean, spread = self.model.moments(images)
        latents, prior = mean, images.new_zeros(())
        if self.model.recipe.latent == "kl":
            noise = torch.randn(mean.shape, generator=generator).to(mean)
            latents = mean + noise * (spread / 2).exp()
            prior = (mean.square() + spread.exp() - 1 - spread).mean() / 2
        found = self.model.decode(latents)
        loss = (found - images).abs().mean() + _KL * prior
        if self.model.recipe.loss == "detail":
            loss = loss + _gradient_error(found, images)
        return loss if self.critic is None else loss + self._contest(self.critic, found, images)

    def _contest(self, critic: Critic, found: Images, images: Images) -> Float[Tensor, ""]:
        """The hinge loss of both sides in one sum, neither of which moves the other's weights."""
        critic.requires_grad_(False)
        fooled = -critic(found).mean()
        critic.requires_grad_(True)
        told = F.relu(1 - critic(images)).mean() + F.relu(1 + critic(found.detach())).mean()
        total: Tensor = _gradient_error(found, images) / 2 + _CRITIC * fooled + told
        return total


def _gradient_error(a: Images, b: Images) -> Float[Tensor, ""]:
    difference = a - b
    return sum((difference.diff(dim=axis).abs().mean() for axis in (2, 3)), a.new_zeros(()))


def train_decoder(
    recipe: Recipe,
    photos: Sequence[Pixels],
    *,
    course: Course | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    every: int = 100,
    progress: Progress | None = None,
) -> Autoencoder:
    """An autoencoder of the recipe, trained on crops of the photographs; see `train`."""
    course = course or Course()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(course.seed)
        task = DecoderLoss(build(recipe, seed=course.seed))
    train(
        task,
        photos,
        course=course,
        device=device,
        checkpoint=checkpoint,
        every=every,
        told=asdict(recipe),
        progress=progress,
    )
    return task.model


def train(
    task: nn.Module,
    photos: Sequence[Pixels],
    *,
    course: Course,
    device: str = "cpu",
    checkpoint: Path | None = None,
    every: int = 100,
    told: object = None,
    progress: Progress | None = None,
) -> None:
    """Train `task` in place: a module that gives the loss of (images, generator).

    checkpoint: written every `every` steps and at the end; where it exists, training goes on from it.
    told: what the task is, which a checkpoint must agree to. progress is called with the step and its loss.
    Raises InputError for photographs that are no 8-bit RGB or smaller than a crop, for a checkpoint of
    another training, and when the loss is not finite.
    """
    _check(photos, course.side)
    task.to(device).train()
    optimiser = torch.optim.AdamW(task.parameters(), lr=course.rate, betas=(0.9, 0.99))
    mark = _mark(told, course, photos)
    first = _resume(checkpoint, mark, task, optimiser, device)
    for step in range(first, course.steps):
        for group in optimiser.param_groups:
            group["lr"] = course.rate * _rate(step, course.steps)
        images = crops(photos, course, step).to(device)
        loss = task(images, torch.Generator().manual_seed(_noise_seed(course.seed, step)))
        if not math.isfinite(value := float(loss.detach())):
            raise InputError(
                f"the loss of step {step} is {value}: train again with a rate below {course.rate}"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimiser.step()
        if progress is not None:
            progress(step + 1, value)
        if checkpoint is not None and ((step + 1) % every == 0 or step + 1 == course.steps):
            _save(checkpoint, mark, task, optimiser, step + 1)
    task.eval()


def crops(photos: Sequence[Pixels], course: Course, step: int) -> Images:
    """The crops of one step, in [0, 1], on the CPU: one of each photograph drawn, half of them mirrored."""
    rng = numpy.random.default_rng([course.seed, step])
    chosen = []
    for photo in rng.choice(len(photos), course.batch):
        pixels = photos[photo]
        top, left = (rng.integers(0, size - course.side + 1) for size in pixels.shape[:2])
        crop = pixels[top : top + course.side, left : left + course.side]
        chosen.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return torch.from_numpy(numpy.stack(chosen)).permute(0, 3, 1, 2).float() / 255


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def _noise_seed(seed: int, step: int) -> int:
    return int(numpy.random.SeedSequence([seed, step, 1]).generate_state(1)[0])


def _check(photos: Sequence[Pixels], side: int) -> None:
    if not photos:
        raise InputError("there is no photograph to train on: expected at least one")
    for pixels in photos:
        check_pixels(pixels)
        if min(pixels.shape[:2]) < side:
            raise InputError(
                f"a photograph of {pixels.shape[1]} x {pixels.shape[0]} pixels is smaller than a crop "
                f"of {side}: leave it out or choose a smaller side"
            )


def _mark(told: object, course: Course, photos: Sequence[Pixels]) -> str:
    """A digest of all that must agree for a training to go on."""
    digest = hashlib.sha256(repr((told, course, len(photos))).encode())
    for pixels in photos:
        digest.update(repr(pixels.shape).encode() + numpy.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _save(
    path: Path, mark: str, task: nn.Module, optimiser: torch.optim.Optimizer, step: int
) -> None:
    stream = io.BytesIO()
    state = {"mark": mark, "step": step, "task": task.state_dict()}
    torch.save(state | {"optimiser": optimiser.state_dict()}, stream)
    write_atomically(path, stream.getvalue())


def _resume(
    path: Path | None,
    mark: str,
    task: nn.Module,
    optimiser: torch.optim.Optimizer,
    device: str,
) -> int:
    """The step to go on from; 0 where there is no checkpoint."""
    if path is None or not path.exists():
        return 0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if state["mark"] != mark:
            raise InputError(
                f"{path} is the checkpoint of another training (recipe, course or photographs differ): "
                "name another file or remove it"
            )
        task.load_state_dict(state["task"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    except InputError:
        raise
    except Exception as error:  # of bytes that are no pickle the reader raises nearly anything
        raise InputError(
            f"{path} is no checkpoint that was saved here ({type(error).__name__}): remove it to "
            "begin again"
        ) from error
