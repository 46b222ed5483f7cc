"""The tournament check: what a policy may limit of every defense, and how it was measured."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from assaymark.reports.files import check_writable
from assaymark.reports.intervals import sample_size_to_decide
from assaymark.reports.model import (
    CheckResult,
    Cost,
    Finding,
    Gate,
    Interval,
    Limit,
    Verdict,
)
from assaymark.robustness.check import class_names
from assaymark.robustness.evaluate import subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.tournament import Rules, Tournament, check_rules, tournament
from assaymark.robustness.tournament_evidence import evidence, write_matrices
from assaymark.robustness.tournament_method import method
from assaymark.robustness.tournament_scores import share_interval

MEASURES = ("worst_case_accuracy", "mean_accuracy", "clean_accuracy")


def check_tournament(
    check: str,
    defenses: Sequence[Loaded],
    data: ImageData,
    rules: Rules,
    *,
    surrogates: Sequence[Loaded] = (),
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    examples: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    device: torch.device | str = "cpu",
    matrices: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Worst-case, mean and clean accuracy of every defense; the games are their evidence.

    A gate is held against every defense, or against the one that it names. What was not measured is
    counted as it suits no gate: a limit holds only if it would hold with every such image lost, and
    breaks only if it would break with every one kept. matrices: a folder for the CSV files of the
    NIPS 2017 toolkit. Raises InputError for rules that cannot be played, and for models and data that
    do not fit together.
    """
    check_rules(defenses, rules, surrogates)
    classes = {model.name: class_names(model, data) for model in (*surrogates, *defenses)}
    if matrices is not None:
        check_writable(matrices / "accuracy_on_attacks.csv")
    chosen = subset(len(data.images), examples, seed, check)
    played = tournament(
        defenses,
        data.images[chosen],
        data.labels[chosen],
        rules,
        surrogates=surrogates,
        seed=seed,
        check=check,
        indices=chosen,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    if matrices is not None:
        write_matrices(matrices, played.games)
    findings = [
        finding
        for column in range(len(defenses))
        for measure in MEASURES
        for finding in _findings(check, defenses[column], column, measure, played, gates, tags)
    ]
    findings[0] = replace(
        findings[0],
        evidence=evidence(played, defenses, classes, _limit(gates)),
        cost=Cost(
            seconds=played.seconds, forward=played.passes.forward, backward=played.passes.backward
        ),
    )
    return CheckResult(
        findings=tuple(findings),
        method=method(check, defenses, surrogates, data, rules, played, seed),
        digests={one.name: one.sha256 for one in (*defenses, *surrogates) if one.sha256},
    )


def _limit(gates: tuple[Gate, ...]) -> float | None:
    """The limit of the worst case that holds for all defenses, for the chart."""
    limits = [g.limit.minimum for g in gates if g.metric == MEASURES[0] and g.defense is None]
    return limits[0] if limits else None


def _findings(
    check: str,
    defense: Loaded,
    column: int,
    measure: str,
    played: Tournament,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
) -> list[Finding]:
    """One finding a gate of this defense, or one where it has none."""
    mine: tuple[Gate | None, ...] = tuple(
        gate for gate in gates if gate.metric == measure and gate.defense in (None, defense.name)
    )
    masking = played.masking.get(defense.name)
    doubt = masking.doubt if masking and measure != "clean_accuracy" else None
    low, high, trials = _shares(played, column, measure)
    findings = []
    for gate in mine or (None,):
        confidence = gate.confidence if gate else 0.95
        limit = gate.limit if gate else None
        value, interval = _bounded(low, high, trials, limit, confidence)
        finding = Finding(
            check=check,
            target=defense.name,
            measure=measure,
            summary=_summary(measure, played, column, low, high, trials)
            + (f" A good number is not to be relied on: {doubt}." if doubt else ""),
            unreliable=doubt,
            value=value,
            interval=interval,
            n=len(low),
            limit=limit,
            severity=gate.severity if gate else "low",
            references=tags,
        )
        if finding.judged is Verdict.INCONCLUSIVE and not doubt and trials == 1 and limit:
            needs = sample_size_to_decide(value or 0.0, limit, confidence, more_than=len(low))
            finding = replace(finding, needs_n=needs)
        findings.append(finding)
    return findings


def _shares(played: Tournament, column: int, measure: str) -> tuple[Tensor, Tensor, int]:
    """Image by image, in how many games at least and at most the defense is right; of how many."""
    games = played.games
    if measure == "worst_case_accuracy":
        return games.standing[column].long(), (~games.fallen[column]).long(), 1
    if measure == "clean_accuracy":
        sure = games.clean[column] & games.clean_known[column]
        return sure.long(), (sure | ~games.clean_known[column]).long(), 1
    low = games.defense_points[column]
    return low, low + (~games.known[:, column]).sum(0), len(games.known)


def _bounded(
    low: Tensor, high: Tensor, trials: int, limit: Limit | None, confidence: float
) -> tuple[float | None, Interval | None]:
    """The value with its interval; of what is not known all, only what decides the limit alike."""
    ends = [share_interval(points, trials, confidence) for points in (low, high)]
    least, most = (float(points.sum()) / (trials * len(low)) for points in (low, high))
    first, last = ends
    assert first is not None
    assert last is not None
    interval = replace(first, low=min(first.low, last.low), high=max(first.high, last.high))
    if least == most:
        return least, interval
    verdicts = {limit.judge(value, interval) for value in (least, most)} if limit else set()
    if verdicts == {Verdict.FAIL}:
        return most, interval
    return (least, interval) if verdicts == {Verdict.PASS} else (None, None)


def _summary(
    measure: str, played: Tournament, column: int, low: Tensor, high: Tensor, trials: int
) -> str:
    least, most, n = int(low.sum()), int(high.sum()), len(low)
    hits = f"{least}" if least == most else f"Between {least} and {most}"
    said = {
        "worst_case_accuracy": f"{hits} of {n} images are classified correctly unattacked and under "
        f"every one of {len(played.games.known)} attacks.",
        "mean_accuracy": f"{hits} of {n * trials} answers are correct, over {trials} attacks on {n} "
        "images; weak attacks raise this number.",
        "clean_accuracy": f"{hits} of {n} images are classified correctly without an attack.",
    }[measure]
    if least == most:
        return said
    games = int((~played.games.complete[:, column]).sum())
    return f"{said} {games} of {len(played.games.known)} games were not measured in full."
