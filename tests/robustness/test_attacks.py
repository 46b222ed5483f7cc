"""Attacks against a truth that is not our code: the exact margins of a linear model."""

import inspect
from functools import partial

import linear
import pytest
import torch

from assaymark.reports.errors import InputError
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.balls import BALLS, within
from assaymark.robustness.borrowed import cleverhans_names, foolbox_names
from assaymark.robustness.catalogue import find
from assaymark.robustness.gradient_steps import pgd
from assaymark.robustness.losses import fooled
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Norm

# With two classes the steepest step of the cross-entropy is the exact one; with more, an ascent of
# the cross-entropy may end beside the nearest class, so there only the other half is certain: no
# attack succeeds below the margin.
ORACLE: list[tuple[str, dict[str, object]]] = [
    ("fgsm", {}),
    ("pgd", {}),
    ("cleverhans:fast_gradient_method", {}),
    ("foolbox:LinfDeepFoolAttack", {}),
    ("foolbox:L2DeepFoolAttack", {}),
    ("foolbox:LinfPGD", {"steps": 100}),
    ("foolbox:L2PGD", {"steps": 100}),
    ("cleverhans:projected_gradient_descent", {}),
]
NORM_OF: dict[str, Norm] = {"foolbox:LinfDeepFoolAttack": "linf", "foolbox:L2DeepFoolAttack": "l2"}
NORM_OF |= {"foolbox:LinfPGD": "linf", "foolbox:L2PGD": "l2"}


def cases() -> list[tuple[str, dict[str, object], Norm]]:
    norms: tuple[Norm, ...] = ("linf", "l2")
    return [
        (name, options, norm)
        for name, options in ORACLE
        for norm in norms
        if NORM_OF.get(name, norm) == norm
    ]


@pytest.mark.parametrize(("name", "options", "norm"), cases())
@pytest.mark.parametrize("classes", [2, 4])
def test_succeeds_just_beyond_the_margin_and_fails_just_before(
    name: str, options: dict[str, object], norm: Norm, classes: int
) -> None:
    x, y = linear.points(classes=classes)
    network = linear.model(classes)
    margin = linear.distances(x, y, norm, classes).amin(1)
    attack = find(name, options, norm)
    tried = 0
    for factor, expected in ((1.05, True), (0.95, False)):
        for i in range(0, len(x), 3):
            eps = float(margin[i]) * factor
            if eps > 0.4:
                continue  # the pixel range would bind
            one = slice(i, i + 1)
            moved = attack(
                network, x[one], y[one], eps=eps, norm=norm, targeted=False, streams=None
            )
            assert within(x[one], moved, eps, BALLS[norm], 1e-5).all()
            fell = bool(fooled(network(moved), y[one], targeted=False))
            assert fell is expected or (classes > 2 and expected)
            tried += 1
    assert tried >= 8


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@pytest.mark.parametrize("classes", [2, 4])
def test_targeted_attacks_reach_the_target_at_its_exact_distance(
    name: str, norm: Norm, classes: int
) -> None:
    x, y = linear.points(classes=classes)
    network = linear.model(classes)
    exact = linear.distances(x, y, norm, classes)
    nearest = exact.argmin(1)
    hits = []
    for i in range(0, len(x), 3):
        one, target = slice(i, i + 1), nearest[i : i + 1]
        for factor, expected in ((1.05, True), (0.95, False)):
            eps = float(exact[i].min()) * factor
            if eps > 0.4:
                continue
            run = ATTACKS[name].run
            moved = run(network, x[one], target, eps=eps, norm=norm, targeted=True, streams=None)
            hit = bool((network(moved).argmax(1) == target).item())
            assert hit is expected or (classes > 2 and expected)
            hits.append(hit)
    assert any(hits) or classes > 2
    assert len(hits) == 16


def brief(name: str, norm: Norm) -> Attack:
    """An attack with few queries, where it takes a number of them, and few steps of those that take many."""
    takes = inspect.signature(ATTACKS[name].run).parameters
    options = {"queries": 60} if "queries" in takes else {}
    if name in ("carlini-wagner", "ead"):
        options["steps"] = 50
    return find(name, options, norm)


@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for name, card in ATTACKS.items() for norm in card.norms]
)
def test_every_attack_keeps_ball_range_shape_and_input(name: str, norm: Norm) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(7, *linear.SHAPE, generator=generator)
    x[0], x[1] = 0, 1
    x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last
    before, y = x.clone(), torch.arange(7) % linear.CLASSES
    network = linear.model()
    moved = brief(name, norm)(network, x, y, eps=0.3, norm=norm, targeted=False, streams=None)
    assert moved.shape == x.shape
    assert within(x, moved, 0.3, BALLS[norm]).all()
    assert torch.equal(x, before)
    assert not moved.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_takes_an_empty_batch(name: str) -> None:
    x, y = torch.empty(0, *linear.SHAPE), torch.empty(0, dtype=torch.long)
    norm = ATTACKS[name].norms[0]
    moved = brief(name, norm)(
        linear.model(), x, y, eps=0.1, norm=norm, targeted=False, streams=None
    )
    assert moved.shape == x.shape


def test_restarts_only_add_fallen_points() -> None:
    """A bumpy model: more restarts from the same streams can only fool more."""
    torch.manual_seed(0)
    first = torch.nn.Linear(18, 64)
    first.weight.data.mul_(20)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), first, torch.nn.Tanh(), torch.nn.Linear(64, 4)
    )
    x = torch.rand(64, *linear.SHAPE)
    y = network(x).argmax(1)
    streams = Streams.of(0, "restarts", list(range(64)))
    fell = []
    for restarts in (1, 4):
        run = partial(pgd, steps=3, restarts=restarts)
        moved = run(network, x, y, eps=0.02, norm="linf", streams=streams)
        fell.append(network(moved).argmax(1) != y)
    assert (fell[1] | ~fell[0]).all()
    assert fell[1].sum() > fell[0].sum()


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"restarts": 0}, {"step_size": 0.0}])
def test_pgd_refuses_to_do_nothing(arguments: dict[str, float]) -> None:
    x, y = linear.points(2)
    with pytest.raises(ValueError, match=r"at least 1|above 0"):
        pgd(linear.model(), x, y, eps=0.1, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "norm", "expected"),
    [
        ("pdg", {}, "linf", 'unknown attack "pdg"'),
        ("pgd", {"step": 3}, "linf", 'pgd has no option "step"; it takes random_start, restarts'),
        ("foolbox:LinfDeepFool", {}, "linf", 'did you mean "LinfDeepFoolAttack"?'),
        ("foolbox:L2DeepFoolAttack", {}, "linf", "measures the L2 norm, the check says linf"),
        ("foolbox:LinfPGD", {"stepz": 1}, "linf", 'has no option "stepz"'),
        ("cleverhans:pgd", {}, "linf", 'cleverhans has no attack "pgd"'),
        ("cleverhans:carlini_wagner_l2", {}, "linf", "works in l2, the check says linf"),
        ("art:pgd", {}, "linf", 'unknown attack family "art"'),
    ],
)
def test_a_wrong_attack_is_explained(
    name: str, options: dict[str, object], norm: Norm, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        find(name, options, norm)
    assert expected in str(caught.value)


def test_the_catalogue_names_what_is_installed() -> None:
    assert {"LinfDeepFoolAttack", "HopSkipJumpAttack", "BoundaryAttack"} <= set(foolbox_names())
    assert "projected_gradient_descent" in cleverhans_names()


@pytest.mark.parametrize("name", [f"cleverhans:{name}" for name in cleverhans_names()])
def test_every_cleverhans_attack_runs_and_stays_in_bounds(name: str) -> None:
    x, y = linear.points(2)
    options = {
        "cleverhans:carlini_wagner_l2": {"max_iterations": 20, "binary_search_steps": 2},
        "cleverhans:hop_skip_jump_attack": {"num_iterations": 2, "max_num_evals": 50},
        "cleverhans:spsa": {"nb_iter": 2, "spsa_samples": 4},
    }.get(name, {})
    attack = find(name, options, "l2")
    moved = attack(linear.model(), x, y, eps=0.5, norm="l2", targeted=False, streams=None)
    assert moved.shape == x.shape
    assert bool((moved >= 0).all() and (moved <= 1).all())
