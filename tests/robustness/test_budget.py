"""Attacks on models that only answer: which may run, what they cost, and what a spent budget means."""

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import server
import torch
from server import Server, serving
from torch import nn

from assaymark.reports.errors import InputError
from assaymark.robustness import borrowed, catalogue, images, models
from assaymark.robustness.check import Threat, check_robustness
from assaymark.robustness.models import Answers

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


@pytest.fixture(scope="module")
def data() -> images.ImageData:
    return images.load("demo:digits")


class Enough(Exception):
    """An attack was watched for long enough."""


class Watched(nn.Module):
    """Three classes of 48 values; sees whether it is asked for gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
        self.asked, self.gradients = 0, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        self.gradients |= x.requires_grad and torch.is_grad_enabled()
        if self.asked > 12:
            raise Enough
        return (x.flatten(1) - 0.5) @ self.weights.T


def test_what_an_attack_needs_is_what_it_is_listed_with() -> None:
    """Every attack of the catalogues that asks for gradients is listed so, and no other is."""
    x = 0.45 + 0.1 * torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    y = Watched()(x).argmax(1)
    wrong = []
    names = [f"foolbox:{name}" for name in borrowed.foolbox_names()]
    for name in [*names, *(f"cleverhans:{name}" for name in borrowed.cleverhans_names())]:
        if name.endswith(("DatasetAttack", "RefinementAttack")):  # these want data of their own
            continue
        attack: Any = None
        for norm in ("linf", "l2", "l1", "l0"):
            with contextlib.suppress(InputError):
                attack = partial(catalogue.find(name, {}, norm), norm=norm)
                break
        targeted = name == "foolbox:GenAttack"
        model = Watched().eval()
        with torch.random.fork_rng(), contextlib.suppress(Enough):
            goal = (y + 1) % 3 if targeted else y
            attack(model, x, goal, eps=0.3, targeted=targeted, streams=None)
        assert model.asked or catalogue.knowledge(name) == "none", name
        # cleverhans' spsa follows a gradient of its own making
        sees = model.gradients and name != "cleverhans:spsa"
        wrong += [name] * (sees != (catalogue.knowledge(name) == "white-box"))
    assert wrong == []


def run(state: Server, data: images.ImageData, attack: str, **settings: Any) -> Any:
    answers = Answers(classes=10, **settings)
    model = models.load(state.url, data.images[:4], answers=answers)
    threat = Threat(attacks=((attack, {}),), norm="linf", eps=0.2)
    return check_robustness("box", model, data, threat, examples=8, seed=1)


def test_an_attack_that_sees_too_little_is_refused(data: images.ImageData) -> None:
    with serving() as state:
        with pytest.raises(
            InputError, match=r"pgd needs gradients, .* only scores are seen: attack"
        ):
            run(state, data, "pgd")
        with pytest.raises(
            InputError, match=r"cleverhans:spsa needs scores, .* only labels are seen"
        ):
            run(state, data, "cleverhans:spsa", access="labels")


@pytest.mark.long
def test_queries_are_counted_and_the_report_says_what_was_seen(data: images.ImageData) -> None:
    with serving() as state:
        result = run(state, data, "foolbox:HopSkipJumpAttack", access="labels", queries=200)
        robust, clean = result.findings
        assert robust.cost.queries == state.images
        # four to try the model, two each for signs, one as it is, 200 and a confirmation or two
        assert state.images <= 4 + 16 + 8 + 8 * (200 + 2)
        assert robust.cost.forward == state.images - 4 - 16
        assert robust.value is not None
        assert robust.value < clean.value
        trios = [item for item in robust.evidence if item.type == "image-trio"]
        assert trios
        assert all(trio.confidence is None for trio in trios)  # labels do not say how sure they are
    steps = " ".join(result.method.steps)
    assert "only labels are seen, at most 200 queries for each attack on an image" in steps
    assert any("whoever has the model can do more" in item for item in result.method.not_tested)


@pytest.mark.long
def test_a_spent_budget_leaves_points_unknown_and_never_passes(data: images.ImageData) -> None:
    from assaymark.reports.model import Gate, Limit

    attack = "foolbox:HopSkipJumpAttack"
    spent = []
    for total, expected in ((13, "not-measured"), (160, "not-measured"), (None, "fail")):
        with serving() as state:
            answers = Answers(access="labels", classes=10, queries=300, max_queries=total)
            model = models.load(state.url, data.images[:4], answers=answers)
            threat = Threat(attacks=((attack, {}),), norm="linf", eps=0.2)
            gates = tuple(
                Gate(metric="robust_accuracy", limit=Limit(minimum=0.7, on=on))
                for on in ("estimate", "lower")
            )
            result = check_robustness("box", model, data, threat, gates=gates, examples=8, seed=1)
            estimate, lower = result.findings[:2]
            assert state.images <= (total or 10**9)
            spent.append(state.images)
        assert estimate.verdict.value == expected
        assert lower.verdict.value == "inconclusive"  # 8 points could not decide it either
        untested = [item for item in result.method.not_tested if "not attacked in full" in item]
        assert bool(untested) == (total is not None)
        if total is not None:
            assert "do not count as robust" in untested[0]
            assert "Between " in estimate.summary
            assert lower.interval is not None
        assert (lower.needs_n is None) == (total is not None)
    assert spent[0] < spent[1] < spent[2]
    with serving() as state, pytest.raises(InputError, match="does not pay for one answer to each"):
        run(state, data, attack, max_queries=11)
    with serving() as state, pytest.raises(InputError, match="does not allow 4 more images"):
        run(state, data, attack, max_queries=3)


def test_a_limit_on_an_open_model_is_no_limit(data: images.ImageData) -> None:
    with pytest.raises(InputError, match='set access = "scores" or "labels"'):
        models.load("demo:digits", data.images[:4], answers=Answers(queries=9))


def walk(
    model: Any, x: Any, y: Any, *, eps: float, norm: Any, targeted: bool, streams: Any,
    queries: int = 20,
) -> Any:  # fmt: skip
    """Random signs inside the ball that asks exactly `queries` times about each standing point."""
    moved = x.clone()
    standing = torch.arange(len(x))
    for step in range(queries):
        if not len(standing):
            break
        noise = streams.select(standing).signs(x[standing], f"walk/{step}")
        tried = (x[standing] + eps * noise).clamp(0, 1)
        fell = model(tried).argmax(1) != y[standing]
        moved[standing] = tried
        standing = standing[~fell]
    return moved


@pytest.mark.parametrize("total", [None, 60, 200, 10_000])
def test_an_attack_that_counts_for_itself_is_paid_in_rounds(
    total: int | None, data: images.ImageData
) -> None:
    from assaymark.robustness.budget import Budget
    from assaymark.robustness.evaluate import evaluate

    x, y = data.images[:30], data.labels[:30]
    network = server.digits()
    attacks = {"walk": walk}
    whole = evaluate(network, x, y, attacks, eps=0.15, norm="linf")
    budget = Budget(per_point=20, total=total)
    asked = 0

    def counted(x: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(x)
        budget.spend(len(x))
        logits: torch.Tensor = network(x)
        return logits

    part = evaluate(counted, x, y, attacks, eps=0.15, norm="linf", budget=budget)
    assert 0 < whole.robust.sum() < len(x)
    assert asked == budget.spent == part.passes.forward
    assert not (part.robust & part.unknown).any()
    # what was attacked in full ended as it does without a limit
    known = ~part.unknown
    assert torch.equal(part.robust[known], whole.robust[known])
    assert bool(part.unknown.any()) == (total in (60, 200))
    assert part.outcomes[0].unfinished == int(part.unknown.sum())


def test_square_over_http_does_what_it_does_to_the_open_model(data: images.ImageData) -> None:
    from assaymark.robustness.evaluate import evaluate
    from assaymark.robustness.square import square

    x, y = data.images[:12], data.labels[:12]
    attacks = {"square": partial(square, queries=60)}
    whole = evaluate(server.digits(), x, y, attacks, eps=0.2, norm="linf", seed=3)
    with serving() as state:
        model = models.load(state.url, x[:4], answers=Answers(queries=60, max_queries=5000))
        part = evaluate(
            model.module,
            x,
            y,
            {"square": square},
            eps=0.2,
            norm="linf",
            seed=3,
            budget=model.budget,
        )
        assert state.images == part.passes.forward + 4
    assert 0 < whole.robust.sum() < 12
    assert torch.equal(part.robust, whole.robust)


@pytest.mark.long
def test_from_the_command_line(cli: Any, tmp_path: Path) -> None:
    with serving() as state:
        done = cli(
            "attack", state.url, "demo:digits", "--access", "scores", "--attack", "square",
            "--eps", "0.2", "--examples", "8", "--queries", "80", "-o", "r.json", "-o", "r.html",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        stored = json.loads((tmp_path / "r.json").read_text())["report"]
        assert stored["findings"][0]["cost"]["queries"] == state.images
        assert f"{state.images:,} queries" in (tmp_path / "r.html").read_text()
        state.request = "instances"
        asked = ["--endpoint", "request=instances", "--endpoint", "images=png"]
        refused = cli("attack", state.url, "demo:digits", "--attack", "pgd", *asked)
        assert refused.returncode == 3
        assert (
            "attack it with square, nes, spsa, simba, foolbox:HopSkipJumpAttack"
            in refused.stdout + refused.stderr
        )
