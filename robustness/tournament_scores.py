"""What a tournament's games add up to: three matrices, scores, rankings and the worst case.

The scores are those of the NIPS 2017 competition (Kurakin et al. 2018, arXiv 1804.00097, section 2.4;
run_attacks_and_defenses.py of cleverhans 3.1), with one difference: there a missing image counts as
fooled, so that an attack without any answer scores best. Here it counts for nobody, and what is not
complete is not ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from assaymark.reports.intervals import clopper_pearson, clustered, sign_test
from assaymark.reports.model import Interval

Matrix = tuple[tuple[int | None, ...], ...]
"""A row an attack, a column a defense; None where not every image was measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Games:
    """Every attack against every defense: rows are the attacks, then the targeted ones.

    correct: whether the true class was answered; hit: whether the target class was; known: whether the
    game was played to its end. clean: whether the unattacked image is answered correctly.
    """

    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    targeted: tuple[str, ...]
    correct: Bool[Tensor, "rows defenses n"]
    hit: Bool[Tensor, "rows defenses n"]
    known: Bool[Tensor, "rows defenses n"]
    clean: Bool[Tensor, "defenses n"]
    clean_known: Bool[Tensor, "defenses n"]

    @property
    def n(self) -> int:
        return self.correct.shape[2]

    @property
    def accuracy_on_attacks(self) -> Matrix:
        """Images that each defense classifies correctly under each untargeted attack."""
        rows = slice(0, len(self.attacks))
        return _counts(self.correct[rows], self.known[rows])

    @property
    def accuracy_on_targeted_attacks(self) -> Matrix:
        """Images that each defense classifies correctly under each targeted attack."""
        rows = slice(len(self.attacks), None)
        return _counts(self.correct[rows], self.known[rows])

    @property
    def hit_target_class(self) -> Matrix:
        """Images that each targeted attack takes to the target class of each defense."""
        rows = slice(len(self.attacks), None)
        return _counts(self.hit[rows], self.known[rows])

    @property
    def complete(self) -> Bool[Tensor, "rows defenses"]:
        """Which games have a number."""
        done: Tensor = self.known.all(2)
        return done if self.n else torch.zeros_like(done)

    @property
    def defense_points(self) -> Int[Tensor, "defenses n"]:
        """Under how many attacks each defense classifies each image correctly."""
        points: Tensor = (self.correct & self.known).sum(0)
        return points

    @property
    def attack_points(self) -> Int[Tensor, "attacks n"]:
        """How many defenses each untargeted attack keeps from classifying each image correctly."""
        rows = slice(0, len(self.attacks))
        points: Tensor = (~self.correct[rows] & self.known[rows]).sum(1)
        return points

    @property
    def targeted_points(self) -> Int[Tensor, "targeted n"]:
        """How many defenses each targeted attack takes to each image's target class."""
        rows = slice(len(self.attacks), None)
        points: Tensor = (self.hit[rows] & self.known[rows]).sum(1)
        return points

    @property
    def fallen(self) -> Bool[Tensor, "defenses n"]:
        """Images that are known to be lost: wrong unattacked, or under some attack."""
        lost: Tensor = (~self.correct & self.known).any(0) | (~self.clean & self.clean_known)
        return lost

    @property
    def standing(self) -> Bool[Tensor, "defenses n"]:
        """Images classified correctly unattacked and under every attack, all of them measured."""
        return ~self.fallen & self.known.all(0) & self.clean_known

    def defense_ranking(self) -> tuple["Rank", ...]:
        """By the NIPS 2017 score: correct answers over all untargeted and targeted attacks."""
        trials = len(self.attacks) + len(self.targeted)
        return ranking(self.defenses, self.defense_points, self.complete.all(0), trials)

    def worst_case_ranking(self) -> tuple["Rank", ...]:
        """By the images that stand against every attack at once."""
        done = self.complete.all(0) & self.clean_known.all(1)
        return ranking(self.defenses, self.standing.long(), done, 1)

    def attack_ranking(self) -> tuple["Rank", ...]:
        """By the NIPS 2017 score: n · defenses less the correct answers."""
        done = self.complete[: len(self.attacks)].all(1)
        return ranking(self.attacks, self.attack_points, done, len(self.defenses))

    def targeted_attack_ranking(self) -> tuple["Rank", ...]:
        """By the NIPS 2017 score: answers that are the target class."""
        done = self.complete[len(self.attacks) :].all(1)
        return ranking(self.targeted, self.targeted_points, done, len(self.defenses))


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One place of a ranking.

    place: from 1; None where not every game was measured. score: over what was measured, at most
    `most`. interval: of score / most, by `share_interval`. p: of the exact sign test against the
    next place, over images; with one game an image it is McNemar's exact test. None for the last.
    """

    name: str
    place: int | None
    score: int
    most: int
    interval: Interval | None
    p: float | None

    @property
    def tie(self) -> bool:
        """Whether the data do not tell it from the next place at 5 %."""
        return self.p is not None and self.p >= 0.05


def ranking(
    names: Sequence[str],
    points: Int[Tensor, "names n"],
    complete: Bool[Tensor, " names"],
    trials: int,
) -> tuple[Rank, ...]:
    """Highest score first, equal ones in the order given; what is not complete comes last, unplaced.

    points: of each name on each image, from 0 to `trials`.
    """
    scores = points.sum(1).tolist()
    done = complete.tolist()
    order = sorted(range(len(names)), key=lambda i: (not done[i], -scores[i]))
    ranks = []
    for number, i in enumerate(order):
        after = order[number + 1] if number + 1 < len(order) else None
        p = None
        if done[i] and after is not None and done[after]:
            more, less = points[i] > points[after], points[i] < points[after]
            p = sign_test(int(more.sum()), int(less.sum()))
        # equal scores share the better place
        place = 1 + sum(done[j] and scores[j] > scores[i] for j in order)
        ranks.append(
            Rank(
                name=names[i],
                place=place if done[i] else None,
                score=scores[i],
                most=trials * points.shape[1],
                interval=share_interval(points[i], trials) if done[i] else None,
                p=p,
            )
        )
    return tuple(ranks)


def share_interval(
    points: Int[Tensor, " n"], trials: int, confidence: float = 0.95
) -> Interval | None:
    """Of the share of points over n images with up to `trials` each; None over no images.

    Exact for one game an image (Clopper–Pearson); for several, images are clusters (Korn–Graubard).
    """
    if trials == 1:
        return clopper_pearson(int(points.sum()), len(points), confidence)
    return clustered((points.double() / trials).tolist(), trials, confidence)


def _counts(yes: Bool[Tensor, "rows defenses n"], known: Bool[Tensor, "rows defenses n"]) -> Matrix:
    empty = yes.shape[2] == 0
    return tuple(
        tuple(
            None if empty or not bool(seen.all()) else int(found.sum())
            for found, seen in zip(row, seen_row, strict=True)
        )
        for row, seen_row in zip(yes, known, strict=True)
    )
