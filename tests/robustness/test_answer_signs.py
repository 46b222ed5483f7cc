"""What answers alone give away: each sign on a model that has it, none on sound ones, all of it counted."""

from typing import Any

import pytest
import torch
from server import digits
from torch import Tensor

from assaymark.reports.model import Gate, Limit, Verdict
from assaymark.robustness import demo
from assaymark.robustness.answer_signs import affordable, examine_answers, queries_a_point
from assaymark.robustness.black_box import BlackBox
from assaymark.robustness.budget import Budget
from assaymark.robustness.check import Threat, check_robustness
from assaymark.robustness.evaluate import Evaluation
from assaymark.robustness.images import ImageData
from assaymark.robustness.masking import Masking
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Passes
from assaymark.robustness.shard import AttackOutcome
from assaymark.robustness.streams import Streams

CHANGE, FLAT, DEAF = (
    "answers change from query to query",
    "saturated scores",
    "small changes do not show",
)


def noisy(x: Tensor) -> Tensor:
    logits: Tensor = digits()(x)
    return logits + 0.1 * torch.randn(logits.shape)


MODELS: dict[str, tuple[Any, list[str]]] = {
    "sound": (lambda x: digits()(x), []),
    "hardened": (lambda x: digits("digits-hardened")(x), []),
    "probabilities": (lambda x: digits()(x).softmax(1), []),
    "random": (noisy, [CHANGE]),
    "counting": (lambda x, seen=[]: digits()(x) + (seen.append(1) or len(seen)), [CHANGE]),
    "certain": (lambda x: (1e4 * digits()(x)).softmax(1), [FLAT, DEAF]),
    "3 bits": (lambda x: digits()((x * 7).round() / 7), [DEAF]),
    "rounded": (lambda x: digits()(x).round(), [DEAF]),
}


def box(ask: Any, access: Any = "scores", total: int | None = None) -> Loaded:
    budget = Budget(total=total)
    module = BlackBox(ask, "box", access, budget, 10 if access == "labels" else None)
    return Loaded(name="box", module=module, sha256=None, classes=10, access=access, budget=budget)


def examined(model: Loaded, n: int = 40) -> Masking:
    x, _ = demo.digits()
    return examine_answers(
        model, x[:n], batch_size=16, streams=Streams.of(0, "signs", list(range(n))), total=n
    )


@pytest.mark.parametrize("access", ["scores", "labels"])
@pytest.mark.parametrize("name", MODELS)
def test_each_sign_is_found_where_it_is(name: str, access: Any) -> None:
    ask, expected = MODELS[name]
    torch.manual_seed(0)
    model = box(ask, access)
    masking = examined(model)
    if (
        access == "labels"
    ):  # only that an answer changes can be seen, and a little noise does not show
        assert [sign.name for sign in masking.signs] == [CHANGE]
        assert any("only labels are seen" in item for item in masking.untested)
        assert not masking.found
    else:
        assert [sign.name for sign in masking.found] == expected
        assert [sign.name for sign in masking.signs] == [CHANGE, FLAT, DEAF]
    assert model.budget is not None
    assert model.budget.spent == masking.queries == 32 * queries_a_point(model)


def test_labels_that_change_are_seen() -> None:
    torch.manual_seed(0)
    masking = examined(box(lambda x: torch.randn(len(x), 10), "labels"))
    assert [sign.name for sign in masking.found] == [CHANGE]


@pytest.mark.parametrize(
    ("total", "points"), [(None, 32), (40, 0), (130, 0), (1000, 16), (20_000, 32), (39, 0)]
)
def test_a_budget_pays_for_signs_or_they_are_not_tested(total: int | None, points: int) -> None:
    """A twentieth of what answers to 40 images leave over, at 3 queries a point, from 4 points on."""
    model = box(digits(), total=total)
    assert affordable(model, 40) == points
    masking = examined(model)
    assert model.budget is not None
    assert model.budget.spent == masking.queries == 3 * points
    if not points:
        assert masking.signs == ()
        assert "did not pay for it" in masking.untested[0]


def test_a_number_that_would_pass_is_not_believed() -> None:
    x, y = demo.digits()
    torch.manual_seed(0)
    gates = (Gate(metric="robust_accuracy", limit=Limit(minimum=0.01)),)
    verdicts = []
    for ask in (digits(), noisy):
        result = check_robustness(
            "box", box(ask), ImageData(name="digits", images=x[:20], labels=y[:20], classes=None),
            Threat(attacks=(("square", {"queries": 5}),), norm="linf", eps=0.01), gates=gates,
        )  # fmt: skip
        verdicts.append(result.findings[0].judged)
    assert verdicts == [Verdict.PASS, Verdict.INCONCLUSIVE]


def outcome(name: str, tried: int, fooled: int) -> AttackOutcome:
    return AttackOutcome(
        name=name, tried=tried, fooled=fooled, outside=0, unconfirmed=0, unmoved=0, unfinished=0,
        seconds=0.0, passes=Passes(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ([("square", 100, 10), ("pgd on surrogates", 90, 30)], True),
        ([("square", 100, 10), ("pgd on surrogates", 90, 2)], False),
        ([("pgd on surrogates", 100, 30), ("square", 70, 1)], None),
        ([("pgd on surrogates", 100, 30)], None),
    ],
)
def test_transfer_that_beats_queries_is_a_sign(
    order: list[tuple[str, int, int]], found: bool | None
) -> None:
    yes = torch.ones(100, dtype=torch.bool)
    result = Evaluation(
        correct=yes, robust=yes, unknown=~yes, outcomes=tuple(outcome(*row) for row in order),
        examples=(), passes=Passes(), seconds=0.0,
    )  # fmt: skip
    masking = Masking(signs=()).after(result, {"pgd on surrogates"})
    assert [sign.found for sign in masking.signs] == ([] if found is None else [found])
    assert bool(masking.untested) == (found is None)
