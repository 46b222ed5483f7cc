"""Models that reject: thresholds with a known error, and attackers who know of the detector."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness import demo, formats
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.detectors import (
    DETECTORS,
    Guarded,
    NoiseStability,
    detector,
    evaluate_guarded,
    scores_of,
    threshold_for,
)
from assaymark.robustness.gradient_steps import pgd


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    network = demo.network()
    path = demo.weights("digits")
    formats.fill(network, formats.safetensors(path), path.name)
    x, y = demo.digits()
    return network.eval(), x, y


def test_the_threshold_keeps_its_false_positive_rate() -> None:
    """Of uniform scores the rate is exact: rank / (n + 1) on average over draws."""
    generator = torch.Generator().manual_seed(0)
    rejected = []
    for _ in range(4000):
        scores = torch.rand(39, generator=generator)
        rejected.append(1 - threshold_for(scores, 0.1))
    assert abs(sum(rejected) / 4000 - 0.1) < 0.003
    assert threshold_for(torch.arange(19.0), 0.05) == 18
    for rate, n in ((0.05, 18), (0.0, 100), (1.0, 100)):
        with pytest.raises(InputError, match="clean images, got"):
            threshold_for(torch.rand(n), rate)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_last_logit_says_rejected_exactly_above_the_threshold(
    name: str, digits: tuple[nn.Module, Tensor, Tensor]
) -> None:
    network, x, _ = digits
    model = Guarded(network, detector(name, {}), 0.0)
    scores = scores_of(model, x[:200])
    assert ((scores >= 0) & (scores <= 2)).all()
    model.threshold = float(scores.median())
    answer = model(x[:200])
    assert answer.shape == (200, 11)
    assert torch.equal(answer.argmax(1) == 10, scores > model.threshold)
    assert torch.equal(answer[:, :10], network(x[:200]))
    assert torch.allclose(model(x[3:4]), answer[3:4], atol=1e-4)  # whatever the batch


def test_noise_stability_is_the_mean_shift_of_probabilities() -> None:
    """A network that ignores its input is perfectly stable; a random one is not."""
    constant = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(constant[1].weight)  # type: ignore[arg-type]
    x = torch.rand(5, 1, 2, 2)
    assert scores_of(Guarded(constant, NoiseStability(), 1.0), x).abs().max() < 1e-6
    with torch.no_grad():
        constant[1].weight.copy_(100 * torch.eye(4)[:3])  # type: ignore[operator]
    assert scores_of(Guarded(constant, NoiseStability(1.0), 1.0), x).min() > 0.1


@pytest.mark.long
def test_who_knows_of_the_detector_gets_past_it(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, x, y = digits
    train, _ = demo.digits(train=True)
    model = Guarded(network, NoiseStability(0.15, 8), 0.0)
    model.threshold = threshold_for(scores_of(model, train[:400]), 0.05)
    x, y = x[:50], y[:50]
    naive = pgd(network, x, y, eps=0.15)
    answers = model(naive).argmax(1)
    assert (answers == 10).float().mean() > 0.8  # the paper's experiment
    attacks = {"pgd": partial(pgd, steps=40)}
    found, rejected = evaluate_guarded(model, x, y, attacks, eps=0.15, norm="linf", most=4, keep=50)
    standing = float(found.robust.float().mean())
    ignorant = float(((answers == 10) | (answers == y)).float().mean())
    assert standing < ignorant - 0.2
    assert torch.equal(rejected, model(x).argmax(1) == 10)
    assert torch.equal(found.correct, model(x).argmax(1) == y)
    assert not (found.robust & ~found.correct).any()
    # every fallen point is answered with a wrong class that is not rejected, inside the ball
    assert len(found.examples) >= 5
    for example in found.examples:
        image = example.adversarial[None]
        answer = int(model(image).argmax(1))
        assert answer == example.fooled_prediction
        assert answer not in (10, int(y[example.index]))
        assert within(x[example.index][None], image, 0.15, BALLS["linf"]).all()


def test_without_a_rejection_it_is_the_plain_evaluation(
    digits: tuple[nn.Module, Tensor, Tensor],
) -> None:
    """A threshold that nothing reaches: towards all nine classes, as strong as untargeted."""
    from assaymark.robustness.evaluate import evaluate

    network, x, y = digits
    model = Guarded(network, NoiseStability(0.01, 1), 3.0)
    attacks = {"pgd": partial(pgd, steps=20)}
    found, rejected = evaluate_guarded(model, x[:40], y[:40], attacks, eps=0.1, norm="linf")
    plain = evaluate(network, x[:40], y[:40], attacks, eps=0.1, norm="linf")
    assert not rejected.any()
    assert torch.equal(found.correct, plain.correct)
    assert abs(int(found.robust.sum()) - int(plain.robust.sum())) <= 3


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("squeeze", {}, 'unknown detector "squeeze": did you mean "squeezing"?'),
        ("squeezing", {"depth": 1}, 'squeezing: it has no option "depth"; it takes bits, size'),
        ("squeezing", {"bits": 9}, "squeezing: bits is a whole number from 1 to 8, got 9"),
        ("noise-stability", {"sigma": 0}, "noise-stability: sigma is above 0 and at most 10"),
        ("noise-stability", {"samples": 1.5}, "samples is a whole number, got 1.5"),
    ],
)
def test_a_wrong_detector_is_explained(
    name: str, options: dict[str, object], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        detector(name, options)
    assert expected in str(caught.value)
