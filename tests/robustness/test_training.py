"""Training against closed forms, and against the promise that nothing depends on interruptions."""

import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import linear
import pytest
import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness import checkpoints, demo, formats
from assaymark.robustness.balls import BALLS
from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.gradient_steps import pgd
from assaymark.robustness.recipes import Recipe, augmented, parts
from assaymark.robustness.streams import Streams
from assaymark.robustness.training import Epoch, collapsed, describe, train
from assaymark.robustness.training_losses import METHODS, Batch
from assaymark.robustness.types import Norm


def batch(
    network: nn.Module, x: Tensor, y: Tensor, *, norm: Norm = "linf", **given: float
) -> Batch:
    return Batch(
        network=network,
        steady=network,
        x=x,
        y=y,
        streams=Streams.of(0, "test", list(range(len(x)))),
        ball=BALLS[norm],
        eps=given.get("eps", 0.05),
        steps=20,
        step=given.get("eps", 0.05) / 4,
        beta=given.get("beta", 6.0),
        replays=3,
        carried={},
    )


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_the_loss_of_pgd_training_is_the_exact_worst_case_of_a_linear_model(
    norm: Norm, dual: int
) -> None:
    """Two classes: the margin falls by eps times the dual norm of the difference of weights."""
    network = linear.model(2)
    x, y = linear.points(24, 2)
    distance = linear.distances(x, y, norm, 2).amin(1)
    weight = network[1].weight.detach()  # type: ignore[index]
    length = (weight[1] - weight[0]).norm(p=dual)
    expected = torch.nn.functional.softplus((0.05 - distance) * length).mean()
    (loss,) = METHODS["pgd-at"].losses(batch(network, x, y, norm=norm))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    (clean,) = METHODS["standard"].losses(batch(network, x, y))
    (one_step,) = METHODS["fast-at"].losses(batch(network, x, y, norm=norm))
    assert clean.item() < one_step.item() <= loss.item() * (1 + 1e-5)


def test_trades_is_cross_entropy_and_the_worst_shift() -> None:
    network = linear.model(2)
    x, y = linear.points(24, 2)
    (clean,) = METHODS["standard"].losses(batch(network, x, y))
    (none,) = METHODS["trades"].losses(batch(network, x, y, beta=0.0))
    assert none.item() == pytest.approx(clean.item())
    (loss,) = METHODS["trades"].losses(batch(network, x, y, beta=2.0))
    # the worst shift of a linear model is a corner of the cube, on one side or the other
    weight = network[1].weight.detach()  # type: ignore[index]
    corner = 0.05 * (weight[1] - weight[0]).sign().view(linear.SHAPE)
    before = network(x).log_softmax(1)
    shifts = []
    for side in (corner, -corner):
        after = network(x + side).log_softmax(1)
        shifts.append((before.exp() * (before - after)).sum(1))
    worst = torch.stack(shifts).amax(0).mean()
    assert (loss - clean).item() / 2 == pytest.approx(worst.item(), rel=0.02)
    assert (loss - clean).item() / 2 <= worst.item() * (1 + 1e-5)


def test_free_hands_its_change_to_the_next_batch() -> None:
    network = linear.model(2)
    x, y = linear.points(10, 2)
    one = batch(network, x, y)
    losses = []
    for loss in METHODS["free"].losses(one):
        loss.backward()
        losses.append(loss.item())
    assert len(losses) == 3
    assert losses[1] > losses[0]  # the change is no longer 0
    (worst,) = METHODS["pgd-at"].losses(batch(network, x, y))
    assert losses[1] == pytest.approx(worst.item(), rel=1e-4)  # one whole step reaches the corner
    assert torch.allclose(one.carried["delta"].abs(), torch.tensor(0.05))
    smaller = replace(one, x=x[:4], y=y[:4])
    for loss in METHODS["free"].losses(smaller):
        loss.backward()
    assert len(smaller.carried["delta"]) == 10


def test_the_learning_rate_is_that_of_its_schedule() -> None:
    recipe = Recipe(method="standard", eps=0.1, lr=0.2)
    assert [recipe.rate(t) for t in (0.0, 0.2, 0.4, 0.7, 1.0)] == pytest.approx(
        [0, 0.1, 0.2, 0.1, 0]
    )
    cosine = replace(recipe, schedule="cosine")
    assert [cosine.rate(t) for t in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.1, 0])
    assert replace(recipe, method="free", epochs=10, replays=4).rounds == 3


def test_images_are_mirrored_and_moved_over_black() -> None:
    x = torch.rand(64, 2, 6, 5) + 0.1
    streams = Streams.of(0, "augment", list(range(64)))
    recipe = Recipe(method="standard", eps=0.1)
    assert augmented(x, recipe, streams) is x
    mirrored = augmented(x, replace(recipe, flip=True), streams)
    same = (mirrored == x).flatten(1).all(1)
    assert 16 < int(same.sum()) < 48
    assert torch.equal(mirrored[~same], x[~same].flip(3))
    moved = augmented(x, replace(recipe, shift=2), streams)
    assert moved.shape == x.shape
    seen = set()
    for before, after in zip(x, moved, strict=True):
        for down in range(-2, 3):
            for across in range(-2, 3):
                rolled = torch.roll(
                    torch.nn.functional.pad(before, (2,) * 4), (down, across), (1, 2)
                )
                if torch.equal(rolled[:, 2:-2, 2:-2], after):
                    seen.add((down, across))
    assert len(seen) > 15


class Noisy(nn.Module):
    """All that a resumed training might forget: running statistics, dropout, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.norm = nn.BatchNorm2d(1)
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(self.first(self.norm(x).flatten(1)).relu())
        answer: Tensor = self.last(self.second(hidden).relu())
        return answer


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    x, y = demo.digits(train=True)
    return x[:320], y[:320], (x[320:400], y[320:400])


@pytest.mark.parametrize("method", ["pgd-at", "free", "trades"])
def test_a_training_that_was_interrupted_ends_with_the_same_weights(
    method: str, data: tuple[Tensor, Tensor, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    x, y, choosing = data
    recipe = Recipe(
        method=method, eps=0.1, epochs=8 if method == "free" else 4, replays=2, steps=2, lr=0.05,
        batch_size=50, flip=True, shift=1,
    )  # fmt: skip
    whole = Noisy()
    straight = train(whole, x, y, choosing, recipe)
    file = tmp_path / "state.safetensors"

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    broken = Noisy()
    with pytest.raises(KeyboardInterrupt):
        train(broken, x, y, choosing, recipe, checkpoint=file, each=stop)
    torch.manual_seed(99)  # the state of the caller does not matter
    resumed = Noisy()
    again = train(resumed, x, y, choosing, recipe, checkpoint=file)
    assert again.resumed == 2
    assert again.history == straight.history
    assert len(straight.history) == 4
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    other = replace(recipe, lr=0.06)
    with pytest.raises(InputError, match="is of another training"):
        train(Noisy(), x, y, choosing, other, checkpoint=file)


@pytest.mark.parametrize(("method", "epochs", "lr"), [("fast-at", 4, 0.03), ("free", 12, 0.02)])
@pytest.mark.long
def test_training_raises_robust_accuracy(method: str, epochs: int, lr: float) -> None:
    """The shipped plain network stands 0.14 of PGD-20 at 0.15; a few epochs bring it above 0.4."""
    network = demo.network()
    path = demo.weights("digits")
    formats.fill(network, formats.safetensors(path), path.name)
    x, y = demo.digits(train=True)
    test_x, test_y = demo.digits()

    def robust() -> float:
        attacks = {"pgd": partial(pgd, steps=20)}
        found = evaluate(network, test_x[:300], test_y[:300], attacks, eps=0.15, norm="linf")
        return float(found.robust.float().mean())

    assert robust() < 0.2
    recipe = Recipe(method=method, eps=0.15, epochs=epochs, lr=lr, batch_size=64)
    result = train(network, x[:1000], y[:1000], (x[1000:], y[1000:]), recipe)
    assert robust() > 0.4
    best = result.history[result.best - 1]
    assert best.robust == max(epoch.robust for epoch in result.history)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_weights_are_those_of_the_best_epoch(
    data: tuple[Tensor, Tensor, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    x, y, choosing = data
    recipe = Recipe(method="fast-at", eps=0.15, epochs=4, lr=0.3, batch_size=40)
    kept: list[dict[str, Tensor]] = []
    network = Noisy()

    def keep(epoch: Epoch) -> None:
        kept.append({key: value.clone() for key, value in network.state_dict().items()})

    result = train(network, x, y, choosing, recipe, each=keep)
    for key, value in kept[result.best - 1].items():
        assert torch.equal(value, network.state_dict()[key])
    checkpoints.write(tmp_path / "w.safetensors", network.state_dict(), describe(recipe, result))
    assert checkpoints.record_of(tmp_path / "w.safetensors")["recipe"]["method"] == "fast-at"
    formats.fill(Noisy(), formats.safetensors(tmp_path / "w.safetensors"), "w")


def test_one_step_training_that_fools_itself_is_ended() -> None:
    """Robust accuracies of a catastrophic overfitting: up, up, and then nearly nothing."""
    assert not collapsed([0.3])
    assert not collapsed([0.3, 0.45, 0.4])
    assert collapsed([0.3, 0.45, 0.05])


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    checkpoints.write(path, {"a": torch.ones(3)}, {"n": 1})
    before = path.read_bytes()

    def fails(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(InputError, match="No space left"):
            checkpoints.write(path, {"a": torch.zeros(3)}, {"n": 2})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_is_held_out_is_never_trained_on() -> None:
    train_on, choose, report = parts(100, 0.2, seed=3)
    assert sorted([*train_on, *choose, *report]) == list(range(100))
    assert (len(train_on), len(choose), len(report)) == (80, 10, 10)
    assert parts(100, 0.2, seed=3) == (train_on, choose, report)
    assert parts(100, 0.2, seed=4)[2] != report
    for n, share in ((100, 0.0), (100, 1.0), (4, 0.1), (2, 0.9)):
        with pytest.raises(InputError, match="held-out share"):
            parts(n, share, seed=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "pgd"}, 'unknown training method "pgd": did you mean "pgd-at"?'),
        ({"epochs": 0}, "epochs is at least 1, got 0"),
        ({"lr": math.inf}, "lr is a number above 0, got inf"),
        ({"eps": 0.0}, "eps is a number above 0, got 0"),
        ({"schedule": "linear"}, 'schedule is one-cycle or cosine, got "linear"'),
        ({"shift": -1}, "beta and shift are not below 0"),
    ],
)
def test_a_wrong_recipe_is_explained(options: dict[str, object], expected: str) -> None:
    given: dict[str, object] = {"method": "pgd-at", "eps": 0.1} | options
    with pytest.raises(InputError) as caught:
        Recipe(**given)  # type: ignore[arg-type]
    assert expected in str(caught.value)


def test_training_that_cannot_work_says_why(
    data: tuple[Tensor, Tensor, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    x, y, choosing = data
    recipe = Recipe(method="standard", eps=0.1, epochs=2)
    with pytest.raises(InputError, match="no weights that can be trained"):
        train(nn.Flatten(), x, y, choosing, recipe)
    with pytest.raises(InputError, match="got 320 and 0"):
        train(Noisy(), x, y, (x[:0], y[:0]), recipe)
    with pytest.raises(InputError, match="lost its way in epoch 1: the loss is nan"):
        train(Noisy(), x, y, choosing, replace(recipe, lr=1e30))
    (tmp_path / "c.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(InputError, match="is not a safetensors file"):
        train(Noisy(), x, y, choosing, recipe, checkpoint=tmp_path / "c.safetensors")
