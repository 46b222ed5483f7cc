"""How the games of a tournament are played: one attack, one defense, image by image.

What cannot be played is written down as missing, never as lost or won.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line
from assaymark.robustness import catalogue
from assaymark.robustness.balls import BALLS, per_image, within
from assaymark.robustness.detectors import rejecting
from assaymark.robustness.evaluate import rounds, tested_something
from assaymark.robustness.masking import POINTS, Masking, Sign, View, examine
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, Passes, logits_of
from assaymark.robustness.shard import (
    AttackOutcome,
    Example,
    Search,
    example_of,
    finite,
    run_attack,
)
from assaymark.robustness.streams import Streams
from assaymark.robustness.tournament_attacks import (
    SHARE,
    Row,
    Timed,
    attack_of,
    clip_to_eight_bits,
    eight_bit_steps,
)
from assaymark.robustness.types import Attack, Images, Labels, Logits, Model, Norm

_KEEP = 6


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Why some images have no number. attack None: the defense did not answer unattacked images;
    defense None: the attack made no images for anybody."""

    attack: str | None
    defense: str | None
    images: int
    reason: str


@dataclass
class _Tally:
    """Of one attack on one model: whether it tested anything, and what went wrong."""

    tried: int = 0
    outside: int = 0
    unmoved: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def outcome(self, name: str) -> AttackOutcome:
        return AttackOutcome(
            name=name, tried=self.tried, outside=self.outside, unmoved=self.unmoved
        )

    def fail(self, reason: str, images: int) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + images


@dataclass(kw_only=True)
class Stage:
    """The games while they are played; the words are those of `Games` and `Rules`."""

    defenses: tuple[Loaded, ...]
    images: Images
    labels: Labels
    rows: tuple[Row, ...]
    norm: Norm
    eps: float
    time_limit: float | None
    seed: int
    check: str
    numbers: list[int]
    batch_size: int
    device: torch.device | str
    progress: Callable[[int, int], None]

    def __post_init__(self) -> None:
        shape = (len(self.rows), len(self.defenses), len(self.images))
        self.correct, self.hit, self.known = torch.zeros(3, *shape, dtype=torch.bool)
        self.clean, self.clean_known = torch.zeros(2, *shape[1:], dtype=torch.bool)
        self.clean_logits: list[Tensor | None] = [None] * len(self.defenses)
        self.targets = torch.zeros_like(self.labels)
        self.streams = Streams.of(self.seed, self.check, self.numbers)
        self.missing: list[Missing] = []
        self.masking: dict[str, Masking] = {}
        self.examples: dict[str, list[Example]] = {one.name: [] for one in self.defenses}
        self.passes = Passes()
        self._most = max(1, _KEEP // len(self.defenses))  # examples of one defense

    def answer_clean(self) -> None:
        """What each defense answers to the images as they are."""
        for column, defense in enumerate(self.defenses):
            tally, answers = _Tally(), []
            if defense.budget is not None and defense.budget.limited:
                defense.budget.pays_for(len(self.images))
            for part in self._parts():
                try:
                    logits = self._ask(defense.module, self.images[part])
                except Exception as error:
                    tally.fail(_reason(error), len(self.labels[part]))
                    continue
                self.clean[column, part] = logits.argmax(1) == self.labels[part]
                self.clean_known[column, part] = True
                answers.append(logits)
            if defense.budget is not None:
                defense.budget.reserved = 0
            if self.clean_known[column].all() and answers:
                self.clean_logits[column] = torch.cat(answers)
            self._miss(None, defense.name, tally)

    def choose_targets(self, judges: list[Any] | None) -> None:
        """A class beside the true one for each image: random, or what the judges hold least likely."""
        classes = self.defenses[0].classes
        if judges is None:
            # a number of classes ahead of the true one, from 1 to classes - 1
            ahead = 1 + self.streams.integers(classes - 1, "target").squeeze(1)
            self.targets = (self.labels + ahead) % classes
            return
        total, heard = torch.zeros(len(self.images), classes), 0
        for judge in judges:
            try:
                parts = [self._ask(judge, self.images[part])[:, :classes] for part in self._parts()]
            except Exception:  # it will be missing from the games
                continue
            total += torch.cat([part.log_softmax(1) for part in parts])
            heard += 1
        if not heard:
            raise InputError(
                "no model answered all images, so no class is known to be the least likely: choose "
                'target = "random"'
            )
        total[torch.arange(len(total)), self.labels] = torch.inf
        self.targets = total.argmin(1)

    def play_white_box(self) -> None:
        """Each attack on each defense, with what it hides of its gradient worked around."""
        for column, defense in enumerate(self.defenses):
            view = self._examined(column, defense)
            for place, row in enumerate(self.rows):
                tally = _Tally()
                try:
                    catalogue.can_see(row.name, defense.access, self.norm, defense.name)
                    self._play(place, column, row, view, tally)
                    tested_something(tally.outcome(row.label), self.eps, self.norm)
                except Exception as error:
                    self.known[place, column] = False
                    tally.failures = {_reason(error): len(self.images)}
                self._miss(row.called, defense.name, tally)
                self.progress(
                    column * len(self.rows) + place + 1, len(self.rows) * len(self.defenses)
                )

    def play_transferred(self) -> None:
        """Each attack once, on its surrogate; its images, rounded and clipped, to every defense."""
        for place, row in enumerate(self.rows):
            made, tally = self._submission(row)
            self._miss(row.called, None, tally)
            for column, defense in enumerate(self.defenses):
                tally = _Tally()
                for part, images in made.items():
                    rows = slice(*part)
                    try:
                        logits = self._ask(defense.module, images)
                    except Exception as error:
                        tally.fail(_reason(error), len(images))
                        continue
                    answers = logits.argmax(1)
                    self.correct[place, column, rows] = answers == self.labels[rows]
                    self.hit[place, column, rows] = answers == self.targets[rows]
                    self.known[place, column, rows] = True
                    self._keep(row, column, rows, images, logits)
                self._miss(row.called, defense.name, tally)
            self.progress(place + 1, len(self.rows))

    def _submission(self, row: Row) -> tuple[dict[tuple[int, int], Images], _Tally]:
        """The images that an attack hands in, as the harness passes them on, part by part."""
        assert row.surrogate is not None
        steps = eight_bit_steps(self.eps)
        made: dict[tuple[int, int], Images] = {}
        tally = _Tally()
        for part in self._parts():
            x = self.images[part].to(self.device)
            goal = (self.targets if row.targeted else self.labels)[part].to(self.device)
            streams = self._streams(torch.arange(part.start, part.stop))
            watched = Timed(row.surrogate, self.time_limit)
            oracle = Oracle(watched, batch_size=self.batch_size, passes=self.passes)
            try:
                attack = attack_of(row.name, row.options, self.norm, blind=True)
                moved, _ = run_attack(
                    row.label, attack, oracle, x, goal, eps=steps / 255, norm=self.norm,
                    targeted=row.targeted, streams=streams,
                )  # fmt: skip
                watched.check()
            except Exception as error:
                tally.fail(_reason(error), len(x))
                continue
            made[part.start, part.stop] = clip_to_eight_bits(x, moved, steps)
            tally.tried += len(x)
            tally.unmoved += int((made[part.start, part.stop] == x).flatten(1).all(1).sum())
        if tally.tried and tally.tried == tally.unmoved:
            tally.fail(f"{row.label} changed none of its images, so it tested nothing", tally.tried)
            made = {}
        return made, tally

    def _play(self, place: int, column: int, row: Row, view: View, tally: _Tally) -> None:
        """One game, part by part; a part that cannot be played is left unknown."""
        defense = self.defenses[column]
        gradient = self.masking.get(defense.name, Masking(signs=())).gradient
        attack = attack_of(row.name, row.options, self.norm, gradient=gradient)
        for part in self._parts():
            rows = torch.arange(part.start, part.stop)
            asked = rows[self.clean_known[column, part]]
            try:
                if defense.rejects and not row.targeted:
                    self._reject(place, column, row, attack, asked)
                else:
                    self._attack(place, column, row, attack, view, asked, tally)
            except Exception as error:
                self.known[place, column, rows] = False
                tally.fail(_reason(error), len(rows))
        unfinished = self.clean_known[column] & ~self.known[place, column]
        rest = int(unfinished.sum()) - sum(tally.failures.values())
        if rest > 0:
            tally.fail("not attacked in full before the queries were spent", rest)

    def _attack(
        self,
        place: int,
        column: int,
        row: Row,
        attack: Attack,
        view: View,
        asked: Tensor,
        tally: _Tally,
    ) -> None:
        """Untargeted, only what is right unattacked is attacked; the rest is lost as it is."""
        defense = self.defenses[column]
        right = self.clean[column, asked]
        self.known[place, column, asked] = True
        chosen = asked if row.targeted else asked[right]
        if not len(chosen):
            return
        x = self.images[chosen].to(self.device)
        y, target = self.labels[chosen].to(self.device), self.targets[chosen].to(self.device)
        goal = target if row.targeted else y
        watched = Timed(view.model, self.time_limit)
        oracle = Oracle(
            watched, batch_size=self.batch_size, samples=view.samples, passes=self.passes
        )
        limited = defense.budget is not None and defense.budget.limited
        streams = self._streams(chosen)
        moved, full = run_attack(
            row.label, attack, oracle, x, goal, eps=self.eps, norm=self.norm,
            targeted=row.targeted, streams=streams, budget=defense.budget if limited else None,
        )  # fmt: skip
        watched.check()
        inside = within(x, moved, self.eps, BALLS[self.norm])
        moved = torch.where(per_image(inside), moved, x)
        changed = (moved != x).flatten(1).any(1)
        tried = full | changed
        judge = Timed(defense.module, self.time_limit)
        answers = self._confirmed(judge, moved[tried], y[tried], view.samples)
        said = torch.full_like(y, -1)
        said[tried] = answers.argmax(1).to(y)
        # a rejected image does the attacker no good
        correct = (said == y) | (defense.rejects & (said == defense.classes))
        hit = row.targeted & (said == target)
        ended = full | (hit if row.targeted else tried & ~correct)
        self.correct[place, column, chosen] = correct.cpu()
        self.hit[place, column, chosen] = hit.cpu()
        self.known[place, column, chosen] = ended.cpu()
        tally.tried += int(full.sum())
        tally.outside += int((~inside & full).sum())
        tally.unmoved += int((~changed & inside & full).sum())
        self._keep(row, column, chosen[tried.cpu()], moved[tried], answers)

    def _reject(self, place: int, column: int, row: Row, attack: Attack, asked: Tensor) -> None:
        """A defense that may reject falls to a wrong class that is not rejected."""
        defense = self.defenses[column]
        clock = Timed(defense.module, self.time_limit)
        result = rejecting(
            defense.module, self.images[asked], self.labels[asked], {row.label: attack},
            eps=self.eps, norm=self.norm, seed=self.seed, check=self.check,
            indices=[self.numbers[i] for i in asked.tolist()],
            search=Search(batch_size=self.batch_size), device=self.device,
            keep=max(0, self._most - len(self.examples[defense.name])),
        )  # fmt: skip
        clock.check()
        self.correct[place, column, asked] = result.robust
        self.known[place, column, asked] = True
        self.passes += result.passes
        self.examples[defense.name] += result.examples

    def _examined(self, column: int, defense: Loaded) -> View:
        """An open defense as the attacks shall see it, after looking for signs of a hidden gradient."""
        if defense.access != "white-box" or not self.clean_known[column].any():
            return View(model=defense.module)
        some = self.clean_known[column].nonzero().flatten()[: 2 * POINTS]
        try:
            torch.manual_seed(self.seed)
            self.masking[defense.name], view = examine(
                defense.module,
                self.images[some].to(self.device),
                self.labels[some].to(self.device),
                batch_size=self.batch_size,
                streams=Streams.of(
                    self.seed, f"{self.check}/masking", [self.numbers[i] for i in some.tolist()]
                ),
            )
        except Exception as error:  # what was not looked for may be there
            failed = Sign(name="could not be examined", found=True, measured=_reason(error))
            self.masking[defense.name] = Masking(signs=(failed,))
            return View(model=defense.module)
        return view

    def _ask(self, model: Model, images: Images) -> Logits:
        """One answer an image, in time; random defenses draw as their first image says."""
        oracle = Oracle(
            Timed(model, self.time_limit), batch_size=self.batch_size, passes=self.passes
        )
        torch.manual_seed(self.seed)
        return finite(logits_of(oracle, images.to(self.device))).cpu()

    def _confirmed(self, model: Model, moved: Images, y: Labels, samples: int) -> Logits:
        """Answers to moved images; each that is wrong is asked again alone, in no company."""
        oracle = Oracle(model, batch_size=self.batch_size, samples=samples, passes=self.passes)
        logits = finite(logits_of(oracle, moved))
        alone = Oracle(model, batch_size=1, samples=samples, passes=self.passes)
        for place in (logits.argmax(1) != y).nonzero().flatten().tolist():
            logits[place] = finite(logits_of(alone, moved[place : place + 1]))[0]
        return logits

    def _keep(
        self, row: Row, column: int, numbers: Tensor | slice, moved: Images, answers: Logits
    ) -> None:
        """An example for the report: the first image that is right unattacked and wrong now."""
        kept, clean = self.examples[self.defenses[column].name], self.clean_logits[column]
        if clean is None or len(kept) >= self._most:
            return
        numbers = torch.arange(len(self.images))[numbers]
        lost = self.clean[column, numbers] & (answers.argmax(1).cpu() != self.labels[numbers])
        for place in lost.nonzero().flatten().tolist()[:1]:
            at = int(numbers[place])
            shown = self.images[at], moved[place], self.labels[at], clean[at], answers[place]
            kept.append(example_of(self.numbers[at], row.called, *shown))

    def _parts(self) -> Iterator[slice]:
        """Images that are played together: under a time limit those that share it, else what fits."""
        if self.time_limit is None:
            yield from rounds(self.images, self.batch_size, device=self.device)
            return
        for begin in range(0, len(self.images), SHARE):
            yield slice(begin, min(begin + SHARE, len(self.images)))

    def _streams(self, chosen: Tensor) -> Streams:
        streams = self.streams.select(chosen)
        torch.manual_seed(int(streams.keys[0]))  # for models that answer at random
        return streams

    def _miss(self, attack: str | None, defense: str | None, tally: _Tally) -> None:
        self.missing += [
            Missing(attack=attack, defense=defense, images=images, reason=reason)
            for reason, images in tally.failures.items()
        ]


def _reason(error: Exception) -> str:
    said = first_line(error)
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
