"""What a defense check reports: both models side by side, with intervals of their differences."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from assaymark.reports.intervals import clopper_pearson, sample_size_to_decide
from assaymark.reports.model import (
    Cost,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Interval,
    Limit,
    Method,
    Table,
)
from assaymark.robustness.check import Threat
from assaymark.robustness.evaluate import Evaluation
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.pictures import trio


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one model did. rejected: the clean images it refuses; samples: answers asked at once."""

    evaluation: Evaluation
    rejected: Bool[Tensor, " n"] | None
    samples: int


@dataclass(frozen=True, kw_only=True)
class _Number:
    """One measure: its value with an interval at any confidence, and a sentence."""

    target: str
    measure: str
    value: float | None
    n: int
    interval: Callable[[float], Interval | None]
    summary: str


def paired_difference(
    more: Bool[Tensor, " n"], less: Bool[Tensor, " n"], confidence: float = 0.95
) -> Interval | None:
    """An interval of the share of `more` minus the share of `less` over the same n points.

    Only points on which the two differ count. Each way's share has its exact interval with half of
    the error, so the difference is covered at least as often as `confidence` says; None over no
    points.
    """
    n = len(more)
    up, down = int((more & ~less).sum()), int((less & ~more).sum())
    gained = clopper_pearson(up, n, (1 + confidence) / 2)
    lost = clopper_pearson(down, n, (1 + confidence) / 2)
    if gained is None or lost is None:
        return None
    return Interval(
        low=gained.low - lost.high,
        high=gained.high - lost.low,
        confidence=confidence,
        method="Clopper–Pearson (of both kinds of discordant pair)",
    )


def _numbers(
    before: Loaded, after: Loaded, first: Measured, second: Measured, threat: Threat
) -> list[_Number]:
    def share(hits: Bool[Tensor, " n"], target: str, measure: str, summary: str) -> _Number:
        count, n = int(hits.sum()), len(hits)
        return _Number(
            target=target,
            measure=measure,
            value=count / n if n else None,
            n=n,
            interval=lambda confidence: clopper_pearson(count, n, confidence),
            summary=f"{count} of {n} images {summary}.",
        )

    def change(
        more: Bool[Tensor, " n"], less: Bool[Tensor, " n"], measure: str, summary: str
    ) -> _Number:
        n = len(more)
        value = (int(more.sum()) - int(less.sum())) / n if n else None
        return _Number(
            target=after.name,
            measure=measure,
            value=value,
            n=n,
            interval=lambda confidence: paired_difference(more, less, confidence),
            summary=summary.format(int((more & ~less).sum()), int((less & ~more).sum())),
        )

    old, new = first.evaluation, second.evaluation
    standing = f"are classified correctly under every attack ({threat})"
    clean = "are classified correctly without an attack"
    numbers = [
        share(new.robust, after.name, "robust_accuracy", standing),
        share(new.correct, after.name, "clean_accuracy", clean),
        share(old.robust, before.name, "robust_accuracy", standing),
        share(old.correct, before.name, "clean_accuracy", clean),
        change(
            new.robust, old.robust, "robust_gain",
            "{} images stand only with the defense, {} only without.",
        ),
        change(
            old.correct, new.correct, "clean_cost",
            "Unattacked, {} images are right only without the defense, {} only with it.",
        ),
    ]  # fmt: skip
    if second.rejected is not None:
        summary = "are rejected although nobody attacked them"
        numbers.append(share(second.rejected, after.name, "false_positive_rate", summary))
    return numbers


def findings(
    check: str,
    before: Loaded,
    after: Loaded,
    found: list[Measured],
    threat: Threat,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    record: Mapping[str, Any],
    classes: tuple[str, ...],
) -> tuple[Finding, ...]:
    """One finding a measure and model, and one a gate; gates ask about the defended model."""
    first, second = found
    evidence = _evidence(before, after, first, second, record, classes)
    listed = []
    for number in _numbers(before, after, first, second, threat):
        mine: tuple[Gate | None, ...] = ()
        if number.target == after.name:
            mine = tuple(gate for gate in gates if gate.metric == number.measure)
        for gate in mine or (None,):
            finding = _finding(check, number, gate, tags)
            if number.measure == "robust_accuracy" and number.target == after.name:
                finding = replace(finding, evidence=evidence, cost=_cost(found))
                evidence = ()
            listed.append(finding)
    return tuple(listed)


def _finding(check: str, number: _Number, gate: Gate | None, tags: tuple[str, ...]) -> Finding:
    confidence = gate.confidence if gate else 0.95
    limit: Limit | None = gate.limit if gate else None
    finding = Finding(
        check=check,
        target=number.target,
        measure=number.measure,
        summary=number.summary,
        value=number.value,
        interval=number.interval(confidence),
        n=number.n,
        limit=limit,
        severity=gate.severity if gate else "low",
        references=tags,
    )
    share = number.measure not in ("robust_gain", "clean_cost")
    if (
        finding.judged == "inconclusive"
        and share
        and number.value is not None
        and limit is not None
    ):
        needs = sample_size_to_decide(number.value, limit, confidence, more_than=number.n)
        finding = replace(finding, needs_n=needs)
    return finding


def _cost(found: list[Measured]) -> Cost:
    return Cost(
        seconds=sum(measured.evaluation.seconds for measured in found),
        forward=sum(m.evaluation.passes.forward * m.samples for m in found),
        backward=sum(m.evaluation.passes.backward * m.samples for m in found),
    )


def _evidence(
    before: Loaded,
    after: Loaded,
    first: Measured,
    second: Measured,
    record: Mapping[str, Any],
    classes: tuple[str, ...],
) -> tuple[Evidence, ...]:
    estimates, rows = [], []
    for state, model, measured in (("before", before, first), ("after", after, second)):
        result = measured.evaluation
        for what, hits in (("clean", result.correct), ("robust", result.robust)):
            interval = clopper_pearson(int(hits.sum()), result.n)
            estimates.append(
                Estimate(
                    label=f"{what}, {state}",
                    value=int(hits.sum()) / result.n if result.n else None,
                    low=interval.low if interval else None,
                    high=interval.high if interval else None,
                    n=result.n,
                )
            )
        rows += [
            (
                model.name,
                outcome.name,
                outcome.tried,
                outcome.fooled,
                outcome.passes.forward * measured.samples,
                outcome.passes.backward * measured.samples,
                round(outcome.seconds, 2),
            )
            for outcome in result.outcomes
        ]
    table = Table(
        title="Attacks",
        columns=(
            "model", "attack", "points tried", "fooled", "forward passes", "backward passes",
            "seconds",
        ),
        rows=tuple(rows),
        note="Each attack is given the points that still stand, and asked once more whether the "
        "answer fools.",
    )  # fmt: skip
    chart = Estimates(title="Accuracy before and after", estimates=tuple(estimates))
    pictures = [trio(example, classes) for example in second.evaluation.examples]
    return (chart, table, *_training(record), *pictures)


def _training(record: Mapping[str, Any]) -> tuple[Table, ...]:
    """The epochs that a file of weights tells of; nothing where it tells nothing readable."""
    history = record.get("history")
    recipe = record.get("recipe")
    if not isinstance(history, list) or not isinstance(recipe, dict):
        return ()
    rows = []
    for epoch in history[:10_000]:
        if not isinstance(epoch, dict):
            return ()
        row = tuple(epoch.get(key) for key in ("number", "loss", "clean", "robust"))
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in row):
            return ()
        rows.append(row)
    best = record.get("best")
    said = ", ".join(f"{key} = {value}" for key, value in sorted(recipe.items()))
    ended = " Training was ended early: it had overfitted to its own attack."
    note = (
        f"As the file of weights says, not measured here; its weights are those of epoch {best}. "
    )
    return (
        Table(
            title="Training, on images that chose the epoch",
            columns=("epoch", "loss", "clean accuracy", "accuracy under PGD-10"),
            rows=tuple(rows),
            note=f"{note}{said[:1000]}.{ended if record.get('collapsed') is True else ''}",
        ),
    )


def method(
    check: str,
    before: Loaded,
    after: Loaded,
    data: ImageData,
    threat: Threat,
    found: list[Measured],
    n: int,
    seed: int,
) -> Method:
    """How it was measured, and what was not tested."""
    described = []
    for name, options in threat.attacks:
        settings = ", ".join(f"{key} = {value}" for key, value in options.items())
        described.append(f"{name} ({settings})" if settings else name)
    steps = [
        f"{n} images of {data.name}"
        + ("" if n == len(data.images) else f", drawn at random with seed {seed}")
        + f"; threat model {threat}, white-box, pixels in [0, 1]; the same images, attacks and random "
        f"numbers for {before.name} and {after.name}.",
        f"Attacks in this order: {'; '.join(described)}. A point leaves when it falls.",
        "The attacker knows the defenses: the forward pass is the real one, and the backward pass goes "
        "through a stand-in where a transform has no gradient (BPDA).",
    ]
    samples = max(measured.samples for measured in found)
    if samples > 1:
        steps.append(
            f"A model that answers at random is judged and attacked by its mean logits over {samples} "
            "passes (expectation over transformation)."
        )
    if after.rejects:
        steps.append(
            "The defended model may reject. A point falls when it is answered with a wrong class and "
            "not rejected; an unattacked image that is rejected or wrong does not count as robust. "
            "Attacks aim at the likeliest other classes in turn, and see the detector."
        )
    steps.append(
        "Intervals are exact two-sided Clopper–Pearson intervals; those of differences are made of two "
        "such intervals over the images on which the models differ."
    )
    untested = [
        f"perturbations outside {threat}",
        "attacks that are not listed and attackers who look for this defense's own weakness: robust "
        "accuracy is an upper bound, a stronger attack can only lower it",
    ]
    if n < len(data.images):
        untested.append(
            f"{len(data.images) - n} of {len(data.images)} images of {data.name}, which were not used"
        )
    sources = ["Athalye et al. 2018, arXiv 1802.00420", "Tramèr et al. 2020, arXiv 2002.08347"]
    if after.rejects:
        sources.append("Carlini and Wagner 2017, arXiv 1705.07263")
    return Method(
        check=check,
        title=f"{before.name} before and {after.name} after its defense",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=tuple(sources),
    )
