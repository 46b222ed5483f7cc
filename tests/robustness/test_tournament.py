"""The games of a tournament, against closed forms of linear models and the published scoring rules."""

import time
from collections.abc import Callable
from typing import Any

import linear
import numpy
import pytest
import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.attacks import ATTACKS, AttackCard
from assaymark.robustness.black_box import BlackBox
from assaymark.robustness.budget import Budget
from assaymark.robustness.catalogue import build
from assaymark.robustness.detectors import Detector, Guarded, evaluate_guarded
from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.gradient_steps import fgsm
from assaymark.robustness.models import Loaded
from assaymark.robustness.tournament import Named, Rules, Tournament, tournament
from assaymark.robustness.tournament_attacks import SHARE, clip_to_eight_bits
from assaymark.robustness.tournament_scores import Games, ranking

SEEDS = (0, 3, 11)


def loaded(name: str, module: nn.Module, classes: int = 4, **more: Any) -> Loaded:
    return Loaded(name=name, module=module, sha256=None, classes=classes, **more)


def linears(classes: int) -> list[Loaded]:
    return [loaded(f"linear {seed}", linear.model(classes, seed), classes) for seed in SEEDS]


def margins(module: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Of two classes: the margin of y, and how far a step of 1 in every pixel can lower it."""
    head = module[1]  # type: ignore[index]
    sign = 1 - 2.0 * y
    gap = (head.weight[0] - head.weight[1]).detach()
    offset = float((head.bias[0] - head.bias[1]).detach())
    return sign * (x.flatten(1) @ gap + offset), gap.abs().sum()


@pytest.fixture
def attack(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor]], str]:
    """A function as an attack of the table, under the name "mine"."""

    def add(run: Callable[..., Tensor]) -> str:
        def mine(
            model: Any, x: Any, y: Any, *, eps: Any, norm: Any, targeted: Any, streams: Any
        ) -> Tensor:
            return run(model, x, y, eps=eps)

        card = AttackCard(run=mine, knowledge="white-box", norms=("linf",), paper="none")
        monkeypatch.setitem(ATTACKS, "mine", card)
        return "mine"

    return add


def test_white_box_matrices_of_linear_models_are_their_margins() -> None:
    x, y = linear.points(60, 2)
    defenses, eps = linears(2), 0.02
    rules = Rules(eps=eps, attacks=(("fgsm", {}),), targeted=(("fgsm", {}),))
    games = tournament(defenses, x, y, rules).games
    expected = []
    for defense in defenses:
        margin, reach = margins(defense.module, x, y)
        expected.append(int((margin > eps * reach).sum()))
    assert games.accuracy_on_attacks == (tuple(expected),)
    # of two classes the target is the other one
    assert games.accuracy_on_targeted_attacks == (tuple(expected),)
    assert games.hit_target_class == (tuple(60 - hits for hits in expected),)
    assert games.standing.sum(1).tolist() == expected
    assert len(set(expected)) == 3
    assert 0 < expected[0] < 60


@pytest.mark.parametrize("ensemble", [False, True])
def test_transferred_images_lower_every_margin_by_what_the_surrogate_says(ensemble: bool) -> None:
    x, y = linear.points(40, 2)
    defenses, steps = linears(2), 7
    surrogates = defenses[:2]
    rules = Rules(
        eps=(steps + 0.4) / 255, attacks=(("fgsm", {}),), protocol="nips17", ensemble=ensemble
    )
    games = tournament(defenses, x, y, rules, surrogates=surrogates).games
    base = (x * 255).round() / 255
    heads = [one.module[1].weight.detach() for one in surrogates]  # type: ignore[index]
    attacked = [heads[0] + heads[1]] if ensemble else heads
    names = ("fgsm",) if ensemble else ("fgsm on linear 0", "fgsm on linear 3")
    assert games.attacks == names
    for row, head in zip(games.accuracy_on_attacks, attacked, strict=True):
        towards = (1 - 2.0 * y)[:, None] * (head[1] - head[0]).sign()
        moved = base + steps / 255 * towards.view_as(x)
        right = [int((one.module(moved).argmax(1) == y).sum()) for one in defenses]
        assert row == tuple(right)
    assert games.clean.sum(1).tolist() == [
        int((one.module(base).argmax(1) == y).sum()) for one in defenses
    ]


def test_the_harness_clips_as_the_published_one_does() -> None:
    random = numpy.random.default_rng(0)
    image = random.integers(0, 256, (5, 3, 4, 4), dtype=numpy.uint8)
    written = random.integers(0, 256, image.shape, dtype=numpy.uint8)
    # run_attacks_and_defenses.py: AttacksOutput._load_dataset_clipping, clip_and_copy_attack_outputs
    wide = image.astype("int32")
    low = numpy.clip(wide - 16, 0, 255).astype("uint8")
    high = numpy.clip(wide + 16, 0, 255).astype("uint8")
    expected = numpy.clip(written, low, high)
    ours = clip_to_eight_bits(
        torch.from_numpy(image) / 255, torch.from_numpy(written).double() / 255, 16
    )
    assert numpy.array_equal((ours * 255).round().numpy(), expected)
    wild = torch.full((1, 1, 1, 3), 7.0)
    assert (clip_to_eight_bits(torch.ones(1, 1, 1, 3), wild, 16) == 1).all()


def hand_written(known: Tensor | None = None) -> Games:
    """Two attacks and a targeted one, three defenses, four images; 1 is a correct answer."""
    correct = torch.tensor(
        [
            [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
            [[0, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]],
            [[1, 0, 0, 1], [1, 1, 1, 1], [1, 0, 1, 1]],
        ]
    ).bool()
    hit = torch.zeros_like(correct)
    hit[2] = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    return Games(
        defenses=("a", "b", "c"),
        attacks=("weak", "strong"),
        targeted=("aimed",),
        correct=correct,
        hit=hit,
        known=torch.ones_like(correct) if known is None else known,
        clean=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]).bool(),
        clean_known=torch.ones(3, 4, dtype=torch.bool),
    )


def test_scores_are_those_of_the_published_formulas() -> None:
    games = hand_written()
    matrix = numpy.array(games.accuracy_on_attacks)
    targeted = numpy.array(games.accuracy_on_targeted_attacks)
    assert matrix.tolist() == [[2, 3, 4], [0, 3, 4]]
    assert targeted.tolist() == [[2, 4, 3]]
    assert games.hit_target_class == ((2, 0, 1),)
    # run_attacks_and_defenses.py: compute_and_save_scores_and_ranking
    defense_scores = matrix.sum(0) + targeted.sum(0)
    attack_scores = 4 * 3 - matrix.sum(1)
    targeted_scores = numpy.array(games.hit_target_class).sum(1)
    assert games.defense_points.sum(1).tolist() == defense_scores.tolist() == [4, 10, 11]
    assert games.attack_points.sum(1).tolist() == attack_scores.tolist() == [3, 5]
    assert games.targeted_points.sum(1).tolist() == targeted_scores.tolist() == [3]
    assert [(rank.place, rank.name, rank.score, rank.most) for rank in games.defense_ranking()] == [
        (1, "c", 11, 12), (2, "b", 10, 12), (3, "a", 4, 12),
    ]  # fmt: skip
    assert [rank.name for rank in games.attack_ranking()] == ["strong", "weak"]
    # the last image is wrong unattacked, the second one under the targeted attack
    assert games.standing.tolist()[2] == [True, False, True, False]
    assert [(r.place, r.name, r.score) for r in games.worst_case_ranking()] == [
        (1, "b", 2), (1, "c", 2), (3, "a", 0),
    ]  # fmt: skip


def test_who_did_not_play_gains_nothing_and_is_not_placed() -> None:
    """In the published code an attack without images has the highest score."""
    known = torch.ones(3, 3, 4, dtype=torch.bool)
    known[0, :, :] = False  # "weak" made no images
    games = hand_written(known)
    assert games.accuracy_on_attacks == ((None, None, None), (0, 3, 4))
    assert [(r.place, r.name, r.score) for r in games.attack_ranking()] == [
        (1, "strong", 5), (None, "weak", 0),
    ]  # fmt: skip
    assert all(rank.place is None and rank.p is None for rank in games.defense_ranking())
    assert games.defense_points.sum(1).tolist() == [2, 7, 7]
    assert not games.standing.any()
    known = torch.ones(3, 3, 4, dtype=torch.bool)
    known[1, 2, 1:] = False  # "c" answered one image of "strong"
    games = hand_written(known)
    assert games.accuracy_on_attacks[1] == (0, 3, None)
    assert [(r.place, r.name) for r in games.defense_ranking()] == [(1, "b"), (2, "a"), (None, "c")]
    assert games.standing[2].tolist() == [True, False, False, False]
    assert games.fallen[2].tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("points", "p", "tie"),
    [
        ([[1] * 10, [0] * 10], 2 / 2**10, False),
        ([[1] * 5 + [0] * 5, [0] * 6 + [1] * 4], 2 * (1 + 9 + 36 + 84 + 126) / 2**9, True),
        ([[1] * 5, [1] * 5], 1.0, True),
        ([[3, 3, 3, 3], [2, 0, 1, 3]], 2 / 2**3, True),  # three images differ, whatever by how much
    ],
)
def test_neighbours_are_compared_image_by_image(
    points: list[list[int]], p: float, tie: bool
) -> None:
    first, last = ranking(["one", "two"], torch.tensor(points), torch.tensor([True, True]), 3)
    assert first.p == pytest.approx(min(p, 1))
    assert first.tie is tie
    assert last.p is None


def same(one: Tournament, two: Tournament) -> bool:
    keys = ("correct", "hit", "known", "clean", "clean_known")
    pairs = [(getattr(one.games, key), getattr(two.games, key)) for key in keys]
    return all(bool((a == b).all()) for a, b in [*pairs, (one.targets, two.targets)])


@pytest.mark.parametrize("target", ["random", pytest.param("least-likely", marks=pytest.mark.long)])
@pytest.mark.parametrize("protocol", ["white-box", "nips17"])
@pytest.mark.long
def test_neither_batch_nor_company_changes_a_game(protocol: Any, target: Any) -> None:
    x, y = linear.points(18)
    defenses = linears(4)[:2]
    rules = Rules(
        eps=0.004,
        attacks=(("pgd", {"steps": 3}), ("quick", {}), ("square", {"queries": 10})),
        targeted=(("mi-fgsm", {}),),
        protocol=protocol,
        target=target,
    )
    common: dict[str, Any] = {"surrogates": defenses[:1] if protocol == "nips17" else (), "seed": 3}
    whole = tournament(defenses, x, y, rules, **common)
    assert same(whole, tournament(defenses, x, y, rules, batch_size=5, **common))
    some = [1, 4, 17]
    part = tournament(defenses, x[some], y[some], rules, indices=some, **common)
    assert (part.games.correct == whole.games.correct[:, :, some]).all()
    assert (part.targets == whole.targets[some]).all()
    assert (whole.targets != y).all()
    assert not same(whole, tournament(defenses, x, y, rules, **common | {"seed": 4})) or (
        target == "least-likely"
    )
    if target == "least-likely":
        judges = defenses[:1] if protocol == "nips17" else defenses
        seen = (x * 255).round() / 255 if protocol == "nips17" else x
        mean = torch.stack([one.module(seen).log_softmax(1) for one in judges]).sum(0)
        assert (mean.scatter(1, y[:, None], torch.inf).argmin(1) == whole.targets).all()


@pytest.mark.parametrize(
    "attacks",
    [(("fgsm", {}),), (("quick", {}),), (("square", {"queries": 50}),)],
    ids=["fgsm", "quick", "square"],
)
def test_a_white_box_game_is_what_the_attack_check_would_find(attacks: Any) -> None:
    x, y = linear.points(30)
    (defense, *_) = linears(4)
    played = tournament([defense], x, y, Rules(eps=0.003, attacks=attacks), check="c")
    alone = evaluate(
        defense.module, x, y, build(attacks, "linf"), eps=0.003, norm="linf", check="c"
    )
    assert (played.games.standing[0] == alone.robust).all()
    assert 0 < int(alone.robust.sum()) < 30


class Fragile(nn.Module):
    """Raises where it is asked for a gradient, or after the first images."""

    def __init__(self, images: int | None = None) -> None:
        super().__init__()
        self.network = linear.model()
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and self.images is None:
            raise RuntimeError("no gradient for you\nsecond line")
        if self.images is not None:
            self.images -= len(x)
            if self.images < 0:
                raise RuntimeError("out of order")
        logits: Tensor = self.network(x)
        return logits


def test_a_defense_that_raises_is_not_measured_and_the_others_are() -> None:
    x, y = linear.points(12)
    defenses = [*linears(4)[:1], loaded("fragile", Fragile()), loaded("dead", Fragile(0))]
    attacks: tuple[Named, ...] = (("fgsm", {}), ("square", {"queries": 5}))
    played = tournament(defenses, x, y, Rules(eps=0.02, attacks=attacks))
    first, second = played.games.accuracy_on_attacks
    assert first[0] is not None
    assert first[1:] == (None, None)
    assert None not in second[:2]
    assert second[2] is None
    assert {(m.attack, m.defense, m.images, m.reason) for m in played.missing} == {
        ("fgsm", "fragile", 12, "RuntimeError: no gradient for you"),
        (None, "dead", 12, "RuntimeError: out of order"),
    }
    assert [rank.place for rank in played.games.worst_case_ranking()] == [1, None, None]
    assert not played.games.standing[1:].any()
    assert played.games.attack_ranking()[-1].place is None


def test_a_defense_that_breaks_down_later_keeps_what_it_answered() -> None:
    x, y = linear.points(2 * SHARE)
    defenses = [loaded("fragile", Fragile(3 * SHARE)), *linears(4)[:1]]
    rules = Rules(eps=0.02, attacks=(("fgsm", {}),), protocol="nips17", time_limit=60.0)
    played = tournament(defenses, x, y, rules, surrogates=defenses[1:])
    assert played.games.known[0].sum(1).tolist() == [SHARE, 2 * SHARE]
    assert [(m.defense, m.images) for m in played.missing] == [("fragile", SHARE)]
    assert played.games.accuracy_on_attacks[0][0] is None


def out_of_the_ball(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return (x + 3 * eps).clamp(0, 1)


def nan(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return x * torch.nan


def raising(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    raise KeyError("lost")


def idle(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return x.clone()


def slow(model: Any, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    time.sleep(0.3)
    return fgsm(model, x, y, eps=eps)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (nan, "NaN or infinity"),
        (raising, "KeyError"),
        (idle, "tested nothing"),
        (slow, "over the time limit of 0.2 s for 100 images"),
    ],
)
@pytest.mark.parametrize("protocol", ["white-box", "nips17"])
def test_an_attack_that_fails_is_no_good_news_for_anybody(
    attack: Any, protocol: Any, run: Callable[..., Tensor], reason: str
) -> None:
    x, y = linear.points(8)
    defenses = linears(4)[:2]
    rules = Rules(
        eps=0.02,
        attacks=((attack(run), {}), ("fgsm", {})),
        protocol=protocol,
        time_limit=0.2 if run is slow else None,
    )
    surrogates = defenses[:1] if protocol == "nips17" else ()
    played = tournament(defenses, x, y, rules, surrogates=surrogates)
    assert played.games.accuracy_on_attacks[0] == (None, None)
    assert None not in played.games.accuracy_on_attacks[1]
    assert all(reason in missing.reason and missing.images == 8 for missing in played.missing)
    assert len(played.missing) == (1 if protocol == "nips17" else 2)
    assert not played.games.standing.any()
    assert played.games.attack_ranking()[-1].score == 0


def test_images_outside_the_ball_are_clipped_by_the_harness_and_void_in_a_white_box(
    attack: Any,
) -> None:
    x, y = linear.points(8)
    defenses = linears(4)[:1]
    attacks: tuple[Named, ...] = ((attack(out_of_the_ball), {}),)
    assert tournament(defenses, x, y, Rules(eps=0.02, attacks=attacks)).missing
    blind = Rules(eps=5 / 255, attacks=attacks, protocol="nips17")
    played = tournament(defenses, x, y, blind, surrogates=defenses)
    moved = (x * 255).round() / 255 + 5 / 255
    expected = int((defenses[0].module(moved).argmax(1) == y).sum())
    assert played.games.accuracy_on_attacks == ((expected,),)


def black_box(name: str, budget: Budget) -> Loaded:
    network = linear.model()
    box = BlackBox(lambda x: network(x), name, "scores", budget)
    return loaded(name, box, access="scores", budget=budget)


def test_a_black_box_meets_what_needs_no_more_than_it_shows() -> None:
    x, y = linear.points(10)
    defenses = [*linears(4)[:1], black_box("box", Budget())]
    attacks: tuple[Named, ...] = (("fgsm", {}), ("square", {"queries": 30}))
    games = tournament(defenses, x, y, Rules(eps=0.003, attacks=attacks)).games
    assert games.accuracy_on_attacks[0][1] is None
    # the same network behind both, and the same random numbers
    assert games.accuracy_on_attacks[1][0] == games.accuracy_on_attacks[1][1] != 10
    blind = Rules(eps=5 / 255, attacks=attacks, protocol="nips17")
    transferred = tournament(defenses, x, y, blind, surrogates=defenses[:1])
    assert not transferred.missing
    assert all(row[0] == row[1] for row in transferred.games.accuracy_on_attacks)


def test_what_the_queries_did_not_pay_for_is_unknown() -> None:
    x, y = linear.points(10)
    box = black_box("box", Budget(total=120))
    attacks: tuple[Named, ...] = (("square", {"queries": 30}),)
    played = tournament([box], x, y, Rules(eps=0.001, attacks=attacks))
    known = int(played.games.known.sum())
    assert 0 < known < 10
    assert played.games.accuracy_on_attacks == ((None,),)
    assert [m.images for m in played.missing] == [10 - known]
    assert box.budget is not None
    assert box.budget.spent <= 120


class Watcher(Detector):
    """Suspects what is far from mid-grey in its first value."""

    def score(self, network: nn.Module, x: Tensor, logits: Tensor) -> Tensor:
        return (x[:, 0, 0, 0] - 0.5).abs() * 10


def test_a_defense_that_may_reject_is_judged_as_the_attack_check_judges_it() -> None:
    x, y = linear.points(12)
    model = Guarded(linear.model(), Watcher(), 0.45)
    defense = loaded("guarded", model, rejects=True)
    rules = Rules(eps=0.004, attacks=(("pgd", {}),), targeted=(("fgsm", {}),))
    games = tournament([defense], x, y, rules, check="c").games
    result, _ = evaluate_guarded(
        model, x, y, build([("pgd", {})], "linf"), eps=0.004, norm="linf", check="c"
    )
    assert (games.correct[0, 0] == result.robust).all()
    assert (games.clean[0] == result.correct).all()
    assert games.complete.all()
    assert 0 < int(games.correct[0, 0].sum()) < int(games.clean.sum())


def two(**more: Any) -> dict[str, Any]:
    rules: dict[str, Any] = {"eps": 0.02, "attacks": (("fgsm", {}),)} | more
    return {"defenses": linears(4)[:2], "rules": Rules(**rules)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"defenses": []}, "at least one defense"),
        ({"defenses": linears(4)[:1] * 2}, '"linear 0" takes part twice'),
        ({"defenses": [*linears(4)[:1], loaded("two", linear.model(2), 2)]}, "answers 2 classes"),
        (two(attacks=()), "at least one attack"),
        (two(attacks=(("fgsn", {}),)), "did you mean"),
        (two(attacks=(("fgsm", {"stepz": 1}),)), "stepz"),
        (two(attacks=(("ddn", {}),)), "ddn works in l2"),
        (two(targeted=(("apgd-t", {}),)), "cannot be aimed"),
        (two(norm="l0", attacks=(("autoattack", {}),)), "no l0 form"),
        (two(protocol="nips17"), "at least one surrogate"),
        (two(protocol="nips17", norm="l2") | {"surrogates": linears(4)[:1]}, "in linf, got l2"),
        (two(protocol="nips17", eps=0.003) | {"surrogates": linears(4)[:1]}, "at least 1/255"),
        (two() | {"surrogates": linears(4)[:1]}, "sees the defense itself"),
        (
            two(protocol="nips17") | {"surrogates": [black_box("box", Budget())]},
            "fgsm needs gradients, and of box only scores",
        ),
        (
            two(protocol="nips17", attacks=(("square", {}),))
            | {"surrogates": [black_box("box", Budget(per_point=5))]},
            "box is a surrogate",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_one_sentence(given: dict[str, Any], expected: str) -> None:
    x, y = linear.points(4)
    given = two() | given
    with pytest.raises(InputError, match=expected) as caught:
        tournament(given["defenses"], x, y, given["rules"], surrogates=given.get("surrogates", ()))
    assert "\n" not in str(caught.value)
