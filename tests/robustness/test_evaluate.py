"""The engine: what counts as fooled, what it costs, and that nothing is left behind."""

from functools import partial
from typing import Any

import linear
import pytest
import torch
from torch import nn

from assaymark.reports.errors import InputError
from assaymark.robustness import demo, formats, images, models
from assaymark.robustness.evaluate import evaluate, subset
from assaymark.robustness.gradient_steps import fgsm, pgd
from assaymark.robustness.shard import Search


def test_robust_accuracy_of_a_linear_model_is_the_share_of_large_margins() -> None:
    x, y = linear.points(101, classes=2)
    margin = linear.distances(x, y, "linf", 2).amin(1)
    eps = float(margin.median()) + 1e-6
    result = evaluate(linear.model(2), x, y, {"pgd": pgd}, eps=eps, norm="linf")
    assert result.correct.all()
    assert torch.equal(result.robust, margin > eps)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # foolbox on SciPy 1.17
def test_no_more_robust_than_under_the_attack_of_a_peer(shared: Any) -> None:
    """Foolbox's PGD of as many steps, on the digits networks of the shared models."""
    import foolbox
    from safetensors.torch import load_file

    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    x, y = demo.digits()
    for name in ("digits_std", "digits_at"):
        network.load_state_dict(load_file(shared / "models" / f"{name}.safetensors"))
        network.eval()
        result = evaluate(network, x, y, {"pgd": pgd}, eps=0.1, norm="linf")
        peer = foolbox.attacks.LinfPGD(steps=40)
        _, _, success = peer(foolbox.PyTorchModel(network, bounds=(0, 1)), x, y, epsilons=0.1)
        theirs = 1 - float(success.float().mean())
        assert float(result.robust.float().mean()) <= theirs + 0.005


@pytest.mark.parametrize("batch_size", [1, 17, 250])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    x, y = demo.digits()
    model = demo.network()
    formats.fill(model, formats.safetensors(demo.weights("digits")), "digits")
    run = partial(
        evaluate,
        model,
        x[:60],
        y[:60],
        {"pgd": partial(pgd, steps=5)},
        eps=0.1,
        norm="linf",
        seed=7,
    )
    assert torch.equal(run(search=Search(batch_size=batch_size)).robust, run().robust)


def test_an_example_has_the_same_random_numbers_alone_as_in_the_data_set() -> None:
    x, y = linear.points(40)
    eps = float(linear.distances(x, y, "linf").amin(1).median())
    weak = {"pgd": partial(pgd, steps=1)}
    whole = evaluate(linear.model(), x, y, weak, eps=eps, norm="linf", seed=5)
    part = evaluate(
        linear.model(),
        x[10:],
        y[10:],
        weak,
        eps=eps,
        norm="linf",
        seed=5,
        indices=list(range(10, 40)),
    )
    assert torch.equal(whole.robust[10:], part.robust)


def test_an_answer_outside_the_ball_or_range_never_counts() -> None:
    def sometimes(model: Any, x: Any, y: Any, **_: Any) -> Any:
        return torch.cat([x[:3] + 10, x[3:]])

    x, y = linear.points(10)
    result = evaluate(linear.model(), x, y, {"cheat": sometimes}, eps=0.1, norm="linf")
    assert result.robust.all()
    assert [outcome.outside for outcome in result.outcomes] == [3]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (10.0, "every answer of cheat lies outside"),
        (float("nan"), "NaN or infinity for 10 of 10"),
        (None, "cheat moved none of the 10 images, so it tested nothing"),
    ],
)
def test_an_attack_that_tested_nothing_is_no_good_news(answer: float | None, expected: str) -> None:
    def cheat(model: Any, x: Any, y: Any, **_: Any) -> Any:
        return x if answer is None else torch.full_like(x, answer)

    x, y = linear.points(10)
    with pytest.raises(InputError, match=expected):
        evaluate(linear.model(), x, y, {"cheat": cheat}, eps=0.1, norm="linf")


def test_a_gradient_of_nan_is_no_robustness() -> None:
    """x^0.45 has an infinite slope at black pixels."""
    x, _ = linear.points(6)
    x[:, :, 0] = 0

    def model(x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = linear.model()(x**0.45)
        return logits

    y = model(x).argmax(1)
    for name in ("fgsm", "pgd"):
        run = {"fgsm": fgsm, "pgd": pgd}[name]
        with pytest.raises(InputError, match="gradient is NaN or infinite for 6 of 6"):
            evaluate(model, x, y, {name: run}, eps=0.5, norm="l2")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_confidence_is_no_robustness(norm: Any) -> None:
    """The same decisions with logits ten and a hundred times as large fall to pgd as often."""
    x, y = demo.digits()
    x, y = x[:100], y[:100]
    model = demo.network()
    formats.fill(model, formats.safetensors(demo.weights("digits")), "digits")
    eps = {"linf": 0.1, "l2": 0.8}[norm]

    def scaled(factor: int, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = factor * model(x)
        return logits

    standing = [
        int(evaluate(partial(scaled, k), x, y, {"pgd": pgd}, eps=eps, norm=norm).robust.sum())
        for k in (1, 10, 100)
    ]
    assert max(standing) - min(standing) <= 3


def test_passes_are_counted_per_example() -> None:
    x, y = linear.points(8)
    result = evaluate(linear.model(), x, y, {"fgsm": fgsm}, eps=1e-5, norm="linf")
    (outcome,) = result.outcomes
    assert (outcome.passes.forward, outcome.passes.backward) == (16, 8)  # one step and the check
    assert (result.passes.forward, result.passes.backward) == (24, 8)  # and the clean answer
    still = partial(pgd, steps=5, random_start=False)
    result = evaluate(linear.model(), x, y, {"pgd": still}, eps=1e-5, norm="linf")
    assert result.outcomes[0].passes.backward == 5 * 8


def test_fallen_points_cost_nothing_more() -> None:
    x, y = linear.points(8)
    result = evaluate(linear.model(), x, y, {"pgd": pgd, "again": pgd}, eps=0.4, norm="linf")
    assert not result.robust.any()
    assert result.outcomes[1].tried == 0
    assert result.outcomes[0].passes.backward <= 8 * 6


def test_the_model_is_left_as_it_was_found() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(18, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)
    ).train()
    model[2].eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    x, _ = linear.points(6)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    evaluate(model, x, torch.zeros(6, dtype=torch.long), {"pgd": pgd}, eps=0.1, norm="l2")
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers go on
    assert model.training
    assert not model[2].training
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in model.parameters()
    )
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_targeted_counts_the_target_only() -> None:
    x, y = linear.points(30)
    exact = linear.distances(x, y, "linf")
    targets = exact.argsort(1)[:, 1]  # not the nearest class
    eps = float(exact.gather(1, targets[:, None]).min()) * 0.9
    result = evaluate(linear.model(), x, y, {"pgd": pgd}, eps=eps, norm="linf", targets=targets)
    assert result.robust.all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_answers_nan_is_an_error(value: float) -> None:
    x, y = linear.points(4)
    with pytest.raises(InputError, match="NaN or infinity for 4 of 4"):
        evaluate(
            lambda x: torch.full((len(x), 3), value), x, y, {"fgsm": fgsm}, eps=0.1, norm="linf"
        )


def test_a_model_without_gradient_is_an_error_with_the_way_out() -> None:
    x, y = linear.points(4)

    def steps(x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = linear.model()(x)
        return logits.detach()

    with pytest.raises(InputError, match="HopSkipJump"):
        evaluate(steps, x, y, {"fgsm": fgsm}, eps=0.1, norm="linf")


def test_a_sample_is_random_and_repeatable() -> None:
    first, again, other = subset(500, 50, 0, "a"), subset(500, 50, 0, "a"), subset(500, 50, 1, "a")
    assert first == again != other
    assert len(set(first)) == 50
    assert first == sorted(first)
    assert subset(500, None, 0, "a") == subset(500, 900, 0, "a") == list(range(500))


def test_the_shipped_weights_do_what_their_script_says() -> None:
    data = images.load("demo:digits")
    for name, at_least in (("digits", 0.94), ("digits-hardened", 0.95)):
        model = models.load(f"demo:{name}", data.images[:2])
        with torch.no_grad():
            right = (model.module(data.images).argmax(1) == data.labels).float().mean()
        assert float(right) >= at_least
        assert demo.weights(name).stat().st_size <= 300_000
