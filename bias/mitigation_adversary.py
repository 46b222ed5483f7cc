"""Adversarial debiasing (Zhang, Lemoine and Mitchell 2018, arXiv 1801.07593) of a linear model, by fairlearn.

A module of its own, since torch is slow to import: only a fit imports it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy
import torch
from fairlearn.adversarial import AdversarialFairnessClassifier

from assaymark.bias.codes import Codes
from assaymark.bias.encoders import Matrix
from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.errors import InputError

STAGES, EPOCHS, RATE = 12, 50, 0.1
"""600 steps on all rows at once; the learning rate of the predictor is RATE / (1 + step / 100)."""
SHARPEST, BLIND = 1e-6, 1e-5
LAST = STAGES // 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Debiased:
    """Positive where coefficients · x + intercept is above 0.

    moved: share of the rows whose decision changed in the last 100 steps. classifier: what
    fairlearn fitted; it reads x with a column of 1 on its right.
    """

    coefficients: Numbers
    intercept: float
    decision: Flags
    moved: float
    classifier: AdversarialFairnessClassifier


class Adversary(torch.nn.Module):
    """Guesses the group from the probability, and for equalized odds the label (section 4 of the paper).

    The paper's s = sigmoid((1 + |c|) logit(p)) is taken as 2 s - 1, and its [s, s y, s (1 - y)] as
    [s, y, s y] with y of -1 and 1: the same functions, in numbers that gradient descent does well with.
    """

    def __init__(self, groups: int, *, labelled: bool) -> None:
        super().__init__()
        inputs, outputs = (3 if labelled else 1), (1 if groups == 2 else groups)
        self.sharpness = torch.nn.Parameter(torch.ones(1, device="cpu"))
        self.guess = torch.nn.Linear(inputs, outputs, device="cpu")
        weights = torch.linspace(-0.1, 0.1, inputs * outputs + 1)[1:]  # with zeros nothing starts
        with torch.no_grad():
            self.guess.weight.copy_(weights.view(outputs, inputs))
            self.guess.bias.zero_()

    def forward(self, answers: torch.Tensor) -> torch.Tensor:
        probability = answers[:, :1].clamp(SHARPEST, 1 - SHARPEST)
        sharp = torch.tanh((1 + self.sharpness.abs()) * torch.logit(probability) / 2)
        if answers.shape[1] > 1:
            label = 2 * answers[:, 1:] - 1
            sharp = torch.cat((sharp, label, sharp * label), 1)
        guess: torch.Tensor = self.guess(sharp)
        return torch.sigmoid(guess) if guess.shape[1] == 1 else guess

    @property
    def rate(self) -> float:
        """The inverse of the largest curvature of its loss, whose inputs are at most 1."""
        return 4 / (self.guess.in_features + 1)

    @property
    def blind(self) -> bool:
        """Whether the probability tells it next to nothing, so that there is nothing left to train.

        fairlearn divides by the norm of the gradient through it, which soon is exactly 0.
        """
        weights = self.guess.weight.detach()[:, ::2]
        if len(weights) > 1:
            weights = weights - weights.mean(dim=0)
        return bool(weights.abs().max() < BLIND)


def debiased(
    x: Matrix,
    label: Flags,
    group: Codes,
    start: tuple[Numbers, float],
    *,
    constraint: str,
    alpha: float,
) -> Debiased:
    """Train a linear predictor against an adversary, from the coefficients and intercept of `start`.

    alpha: how much the predictor avoids what helps the adversary. constraint: demographic_parity or
    equalized_odds. No random number is drawn, so the same rows give the same result. The intercept is
    a coefficient of a column of 1: fairlearn projects the gradient of each parameter apart, so that a
    bias of its own would never learn from the labels. Raises InputError when the training does not
    stay finite.
    """
    ones = with_ones(x)
    with _alone():
        predictor = torch.nn.Linear(ones.shape[1], 1, bias=False, device="cpu")
        with torch.no_grad():
            predictor.weight[0] = torch.tensor(numpy.append(*start))
        adversary = Adversary(len(numpy.unique(group)), labelled=constraint == "equalized_odds")
        optimizer = torch.optim.SGD(predictor.parameters(), lr=RATE)
        classifier = AdversarialFairnessClassifier(
            backend="torch",
            predictor_model=torch.nn.Sequential(predictor, torch.nn.Sigmoid()),
            adversary_model=adversary,
            predictor_optimizer=optimizer,
            adversary_optimizer=torch.optim.SGD(adversary.parameters(), lr=adversary.rate),
            constraints=constraint,
            alpha=alpha,
            epochs=EPOCHS,
            batch_size=-1,
            random_state=0,
        )
        weights = []
        for stage in range(STAGES):
            optimizer.param_groups[0]["lr"] = RATE / (1 + stage * EPOCHS / 100)
            weights.append(_stage(classifier, predictor, ones, label, group))
            if stage >= LAST and adversary.blind:
                break
    before, decision = (ones @ weights[place] > 0 for place in (-1 - LAST, -1))
    return Debiased(
        coefficients=weights[-1][:-1],
        intercept=float(weights[-1][-1]),
        decision=decision,
        moved=float((before != decision).mean()),
        classifier=classifier,
    )


def with_ones(x: Matrix) -> Matrix:
    """x and a column of 1."""
    return numpy.hstack([x, numpy.ones((len(x), 1))])


def _stage(
    classifier: AdversarialFairnessClassifier,
    predictor: torch.nn.Linear,
    x: Matrix,
    label: Flags,
    group: Codes,
) -> Numbers:
    """Train on from where the models are; the weights after it."""
    try:
        classifier.fit(x, label.astype(int), sensitive_features=group)
    except RuntimeError as error:  # torch, of probabilities that are none
        raise InputError(_diverged()) from error
    weights: Numbers = predictor.weight.detach().numpy()[0].astype(numpy.float64)
    if not numpy.isfinite(weights).all():
        raise InputError(_diverged())
    return weights


def _diverged() -> str:
    return "the training against the adversary did not stay finite: take a smaller alpha"


@contextmanager
def _alone() -> Iterator[None]:
    """One thread, as the steps are short; and fairlearn, which seeds torch, seeds it for itself alone."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=cuda), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
