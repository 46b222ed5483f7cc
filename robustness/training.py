"""Adversarial training: deterministic, kept after every epoch, judged on images it does not train on.

Robust accuracy on other images rises and then falls while training goes on (robust overfitting,
https://arxiv.org/abs/2002.11569), so the weights of the best epoch are the result.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness import checkpoints
from assaymark.robustness.balls import BALLS
from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.gradient_steps import pgd
from assaymark.robustness.recipes import Recipe, augmented
from assaymark.robustness.streams import Streams, seed_of
from assaymark.robustness.training_losses import METHODS, Batch
from assaymark.robustness.types import Images, Labels, Logits

Choosing = tuple[Float[Tensor, "held channels height width"], Int[Tensor, " held"]]
"""Images and labels that are not trained on."""
_JUDGE_STEPS = 10
_COLLAPSE = 0.5
"""Robust accuracy below this share of the best epoch's: catastrophic overfitting."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch: the mean loss in training; clean and PGD accuracy on the images that choose."""

    number: int
    loss: float
    clean: float
    robust: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training did. best: the number of the epoch whose weights the network now has."""

    history: tuple[Epoch, ...]
    best: int
    collapsed: bool
    """Whether it was ended early, because one-step training had overfitted to its own attack."""
    resumed: int = 0
    """Epochs taken over from a checkpoint."""


def train(
    network: nn.Module,
    images: Images,
    labels: Labels,
    choosing: Choosing,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
    each: Callable[[Epoch], None] = lambda epoch: None,
) -> Training:
    """Train a network in place, and leave it with the weights of its best epoch.

    images: n×C×H×W in [0, 1]; choosing: images and labels that it does not train on, whose accuracy
    under PGD chooses the epoch (clean accuracy for method "standard"). checkpoint: a file written
    after each epoch; where it exists, training goes on from it and ends with the same weights. The
    same seed gives the same weights on one machine and device. Raises InputError when there is
    nothing to train, when the loss is no number any more, or when the checkpoint is of another
    training.
    """
    trained = [parameter for parameter in network.parameters()]
    if not trained:
        raise InputError(
            "the model has no weights that can be trained: name it as weights with an architecture "
            "or as package.module:factory"
        )
    if not len(images) or not len(choosing[0]):
        raise InputError(
            f"training needs images to train on and others to choose by, got {len(images)} and "
            f"{len(choosing[0])}"
        )
    network.to(device)
    before = [parameter.requires_grad for parameter in trained]
    for parameter in trained:
        parameter.requires_grad_(parameter.is_floating_point())
    state = _State(network, recipe, digest=_digest(network, images, labels, choosing, recipe))
    if checkpoint is not None and checkpoint.is_file():
        state.load(checkpoint)
    resumed = len(state.history)
    mode = network.training
    try:
        while len(state.history) < recipe.rounds and not state.collapsed:
            number = len(state.history)
            with _repeatable(recipe.seed, number):
                loss = _epoch(network, images, labels, recipe, state, number, device, progress)
            clean, robust = _judge(network, choosing, recipe, device)
            state.add(Epoch(number=number + 1, loss=loss, clean=clean, robust=robust))
            if checkpoint is not None:
                state.save(checkpoint)
            each(state.history[-1])
    finally:
        network.train(mode)
        for parameter, wanted in zip(trained, before, strict=True):
            parameter.requires_grad_(wanted)
            parameter.grad = None
    network.load_state_dict(state.best)
    return Training(
        history=tuple(state.history),
        best=state.best_number,
        collapsed=state.collapsed,
        resumed=resumed,
    )


class _State:
    """All that the next epoch depends on, beside the data."""

    def __init__(self, network: nn.Module, recipe: Recipe, digest: str) -> None:
        self.network = network
        self.recipe = recipe
        self.digest = digest
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self.carried: dict[str, Tensor] = {}
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self.best_number = 0

    @property
    def collapsed(self) -> bool:
        return self.recipe.method == "fast-at" and collapsed([e.robust for e in self.history])

    def add(self, epoch: Epoch) -> None:
        self.history.append(epoch)
        if not self.best or self._merit(epoch) > self._merit(self.history[self.best_number - 1]):
            self.best_number = epoch.number
            self.best = {key: value.clone() for key, value in self.network.state_dict().items()}

    def _merit(self, epoch: Epoch) -> tuple[float, float]:
        standard = self.recipe.method == "standard"
        return (epoch.clean, epoch.robust) if standard else (epoch.robust, epoch.clean)

    def save(self, path: Path) -> None:
        tensors = {f"network/{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"best/{key}": value for key, value in self.best.items()}
        tensors |= {f"carried/{key}": value for key, value in self.carried.items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum/{name}"] = momentum
        record = {
            "digest": self.digest,
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best_number,
        }
        checkpoints.write(path, tensors, record)

    def load(self, path: Path) -> None:
        tensors, record = checkpoints.read(path)
        if record.get("digest") != self.digest:
            raise InputError(
                f"{path.name} is of another training (another recipe, data, start or seed): move it "
                "away to begin anew, or give the options that it was written with"
            )
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "carried": {}}
        parts["momentum"] = {}
        for name, tensor in tensors.items():
            part, _, key = name.partition("/")
            parts[part][key] = tensor
        self.network.load_state_dict(parts["network"])
        device = next(self.network.parameters()).device
        self.best = {key: value.to(device) for key, value in parts["best"].items()}
        self.carried = {key: value.to(device) for key, value in parts["carried"].items()}
        for name, parameter in self.network.named_parameters():
            if name in parts["momentum"]:
                momentum = parts["momentum"][name].to(device)
                self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.history = [Epoch(**epoch) for epoch in record["history"]]
        self.best_number = record["best"]


def collapsed(robust: list[float]) -> bool:
    """Whether the last of the robust accuracies fell below half of the best before it.

    One-step training may learn to mask its own attack within an epoch (catastrophic overfitting,
    https://arxiv.org/abs/2001.03994, section 5.4).
    """
    return len(robust) > 1 and robust[-1] < _COLLAPSE * max(robust[:-1])


def _epoch(
    network: nn.Module,
    images: Images,
    labels: Labels,
    recipe: Recipe,
    state: _State,
    number: int,
    device: torch.device | str,
    progress: Callable[[int, int], None],
) -> float:
    """One pass over the images; the mean loss."""
    generator = torch.Generator().manual_seed(seed_of(f"{recipe.seed}/training/{number}/order"))
    order = torch.randperm(len(images), generator=generator)
    batches = list(order.split(recipe.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches.pop()  # batch normalisation cannot train on one image
    repeats = recipe.replays if recipe.method == "free" else 1
    total = recipe.rounds * len(batches) * repeats
    losses = []
    for place, rows in enumerate(batches):
        streams = Streams.of(recipe.seed, f"training/{number}", rows.tolist())
        x = augmented(images[rows].to(device), recipe, streams)
        batch = Batch(
            network=partial(_answer, network, recipe.bf16, True),
            steady=partial(_answer, network, recipe.bf16, False),
            x=x,
            y=labels[rows].to(device),
            streams=streams,
            ball=BALLS[recipe.norm],
            eps=recipe.eps,
            steps=recipe.steps,
            step=recipe.step_size or 2.5 * recipe.eps / recipe.steps,
            beta=recipe.beta,
            replays=recipe.replays,
            carried=state.carried,
        )
        for repeat, loss in enumerate(METHODS[recipe.method].losses(batch)):
            done = (number * len(batches) + place) * repeats + repeat
            for group in state.optimizer.param_groups:
                group["lr"] = recipe.rate((done + 1) / (total + 1))
            state.optimizer.zero_grad()
            loss.backward()
            state.optimizer.step()
            losses.append(loss.detach())
        progress(number * len(batches) + place + 1, recipe.rounds * len(batches))
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise InputError(
            f"training lost its way in epoch {number + 1}: the loss is {mean}; try a smaller learning "
            f"rate than {recipe.lr:g}"
        )
    return mean


def _answer(network: nn.Module, bf16: bool, training: bool, x: Images) -> Logits:
    if network.training != training:
        network.train(training)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        logits: Tensor = network(x)
    return logits.float()


def _judge(
    network: nn.Module,
    choosing: Choosing,
    recipe: Recipe,
    device: torch.device | str,
) -> tuple[float, float]:
    """Clean accuracy, and accuracy under ten steps of PGD."""
    result = evaluate(
        network,
        *choosing,
        {"pgd": partial(pgd, steps=_JUDGE_STEPS)},
        eps=recipe.eps,
        norm=recipe.norm,
        seed=recipe.seed,
        check="training",
        device=device,
        keep=0,
    )
    return float(result.correct.float().mean()), float(result.robust.float().mean())


@contextmanager
def _repeatable(seed: int, epoch: int) -> Iterator[None]:
    """Random layers draw the same in an epoch that is run again; the caller's state is put back."""
    with torch.random.fork_rng(), torch.backends.cudnn.flags(deterministic=True):
        torch.manual_seed(seed_of(f"{seed}/training/{epoch}"))
        yield


def _digest(
    network: nn.Module,
    images: Images,
    labels: Labels,
    choosing: Choosing,
    recipe: Recipe,
) -> str:
    import hashlib
    import json

    weights = checkpoints.digest(*network.state_dict().values())
    data = checkpoints.digest(images, labels, *choosing)
    return hashlib.sha256(json.dumps([asdict(recipe), weights, data]).encode()).hexdigest()


def describe(recipe: Recipe, training: Training) -> dict[str, Any]:
    """What a file of trained weights says about itself."""
    return {
        "recipe": asdict(recipe),
        "history": [asdict(epoch) for epoch in training.history],
        "best": training.best,
        "collapsed": training.collapsed,
    }
