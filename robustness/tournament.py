"""Every attack against every defense, on the same images, towards the same targets.

Two protocols. "white-box": each attack is run on each defense and sees what an attacker sees of it.
"nips17": as in the NIPS 2017 competition (Kurakin et al. 2018, arXiv 1804.00097), an attack does not
know whom it meets: it is run on a surrogate, the harness rounds its images to 8 bits and clips them to
the ball, and the same images go to every defense.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from assaymark.reports.errors import InputError
from assaymark.robustness import catalogue
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.masking import Masking
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Passes
from assaymark.robustness.shard import Example
from assaymark.robustness.tournament_attacks import Row, attack_of
from assaymark.robustness.tournament_games import Missing, Stage
from assaymark.robustness.tournament_scores import Games
from assaymark.robustness.transfer import Ensemble
from assaymark.robustness.types import Images, Labels, Model, Norm

Protocol = Literal["white-box", "nips17"]
Named = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is played: attacks by name with their options, in which ball, under which protocol.

    target: of the targeted attacks, a random class or the one that the models hold least likely, the
    same for all. ensemble: attack the mean logits of all surrogates instead of one after the other.
    time_limit: seconds for every 100 images of one game; None is no limit.
    """

    eps: float
    norm: Norm = "linf"
    attacks: tuple[Named, ...] = ()
    targeted: tuple[Named, ...] = ()
    protocol: Protocol = "white-box"
    target: Literal["random", "least-likely"] = "random"
    ensemble: bool = False
    time_limit: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Tournament:
    """The games with what they cost and what was seen on the way.

    targets: the class that targeted attacks aim at, image by image. masking: of each defense that was
    examined for a hidden gradient. examples: a few adversarial examples of each defense.
    """

    games: Games
    targets: Labels
    missing: tuple[Missing, ...]
    masking: Mapping[str, Masking]
    examples: Mapping[str, tuple[Example, ...]]
    seconds: float
    passes: Passes


def tournament(
    defenses: Sequence[Loaded],
    images: Images,
    labels: Labels,
    rules: Rules,
    *,
    surrogates: Sequence[Loaded] = (),
    seed: int = 0,
    check: str = "",
    indices: list[int] | None = None,
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tournament:
    """Play every attack against every defense.

    images: n×C×H×W in [0, 1]; labels: n class numbers; indices: the images' numbers in the data set,
    which choose targets and random streams. Results do not depend on the batch size, but for defenses
    that answer at random and attacks of other libraries. A game in which attack or defense raises, or is
    over the time limit, has no number: it is in `missing` and counts for nobody. Raises InputError for
    rules that cannot be played (`check_rules`).
    """
    check_rules(defenses, rules, surrogates)
    began = time.perf_counter()
    blind = rules.protocol == "nips17"
    stage = Stage(
        defenses=tuple(defenses),
        # the competition's images are 8-bit files
        images=(images * 255).round() / 255 if blind else images,
        labels=labels,
        rows=_rows(rules, _attackers(surrogates, ensemble=rules.ensemble)),
        norm=rules.norm,
        eps=rules.eps,
        time_limit=rules.time_limit,
        seed=seed,
        check=check,
        numbers=list(range(len(images))) if indices is None else indices,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    with ExitStack() as stack:
        for loaded in (*defenses, *surrogates):
            stack.enter_context(frozen(loaded.module))
        stage.answer_clean()
        stage.choose_targets(
            None if rules.target == "random" else [one.module for one in surrogates or defenses]
        )
        if blind:
            stage.play_transferred()
        else:
            stage.play_white_box()
    return Tournament(
        games=Games(
            defenses=tuple(defense.name for defense in defenses),
            attacks=tuple(row.label for row in stage.rows if not row.targeted),
            targeted=tuple(row.label for row in stage.rows if row.targeted),
            correct=stage.correct,
            hit=stage.hit,
            known=stage.known,
            clean=stage.clean,
            clean_known=stage.clean_known,
        ),
        targets=stage.targets,
        missing=tuple(stage.missing),
        masking=stage.masking,
        examples={name: tuple(kept) for name, kept in stage.examples.items()},
        seconds=time.perf_counter() - began,
        passes=stage.passes,
    )


def check_rules(defenses: Sequence[Loaded], rules: Rules, surrogates: Sequence[Loaded]) -> None:
    """Raises InputError for rules that cannot be played, before anything runs."""
    names = [defense.name for defense in defenses]
    twice = [name for name in names if names.count(name) > 1]
    if not names:
        raise InputError("a tournament needs at least one defense, got none")
    if twice:
        raise InputError(f'the defense "{twice[0]}" takes part twice: name each once')
    if not rules.attacks and not rules.targeted:
        raise InputError("a tournament needs at least one attack, got none")
    for loaded in (*defenses, *surrogates):
        if loaded.classes != defenses[0].classes:
            raise InputError(
                f"{loaded.name} answers {loaded.classes} classes and {names[0]} "
                f"{defenses[0].classes}: expected the same classes from all"
            )
    for name, options in (*rules.attacks, *rules.targeted):
        attack_of(name, options, rules.norm)
    for name, _ in rules.targeted:
        if name in ATTACKS and not ATTACKS[name].targeted:
            raise InputError(
                f"{name} cannot be aimed at a class: leave it out of the targeted attacks"
            )
    if rules.protocol == "nips17":
        _check_blind(rules, surrogates)
    elif surrogates:
        raise InputError(
            f"{surrogates[0].name} is a surrogate, and in the white-box protocol each attack sees the "
            'defense itself: leave it out, or choose protocol = "nips17"'
        )


def _check_blind(rules: Rules, surrogates: Sequence[Loaded]) -> None:
    if rules.norm != "linf" or rules.eps < (1 - 1e-6) / 255:
        raise InputError(
            f"the nips17 protocol counts whole 8-bit steps in linf, got {rules.norm} with eps = "
            f"{rules.eps:g}: choose linf and an eps of at least 1/255"
        )
    if not surrogates:
        raise InputError(
            "in the nips17 protocol an attack does not see the defenses: name at least one surrogate "
            "model that it is run on"
        )
    names = [surrogate.name for surrogate in surrogates]
    if len(set(names)) < len(names):
        raise InputError("a surrogate is named twice: name each once")
    for surrogate in surrogates:
        if surrogate.rejects:
            raise InputError(
                f"{surrogate.name} may reject, so it is no surrogate: name its network"
            )
        if surrogate.budget is not None and surrogate.budget.per_point is not None:
            raise InputError(
                f"queries limit what is asked of a defense, and {surrogate.name} is a surrogate: leave "
                "them out"
            )
        for name, _ in (*rules.attacks, *rules.targeted):
            catalogue.can_see(name, surrogate.access, rules.norm, surrogate.name)


def _attackers(surrogates: Sequence[Loaded], *, ensemble: bool) -> dict[str, Model]:
    """What attacks are run on, by name: each surrogate, or the mean logits of all."""
    if ensemble and len(surrogates) > 1:
        name = "the mean of " + ", ".join(surrogate.name for surrogate in surrogates)
        return {name: Ensemble(tuple(surrogate.module for surrogate in surrogates))}
    return {surrogate.name: surrogate.module for surrogate in surrogates}


def _rows(rules: Rules, attackers: Mapping[str, Model]) -> tuple[Row, ...]:
    """Untargeted attacks first; with several surrogates, one row for each attack on each."""
    rows = []
    for targeted, attacks in ((False, rules.attacks), (True, rules.targeted)):
        for place, (name, options) in enumerate(attacks):
            times = sum(other == name for other, _ in attacks[:place])
            label = f"{name} #{times + 1}" if times else name
            row = Row(label=label, name=name, options=options, targeted=targeted)
            if not attackers:
                rows.append(row)
            for called, model in attackers.items():
                on = f"{label} on {called}" if len(attackers) > 1 else label
                rows.append(replace(row, label=on, surrogate=model))
    return tuple(rows)
