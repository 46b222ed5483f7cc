"""AUC, Brier score, calibration error, balanced accuracy and F1 of the groups, as findings."""

import math
from collections.abc import Sequence
from dataclasses import replace

from assaymark.bias.bounds import doubt
from assaymark.bias.check import at_worst
from assaymark.bias.codes import Column, is_missing
from assaymark.bias.findings import Measured, findings
from assaymark.bias.rows import Predictions
from assaymark.bias.score_evidence import score_evidence
from assaymark.bias.score_measures import (
    COMPARED,
    NEED_SCORES,
    SPOKEN,
    GroupNumbers,
    Measure,
    measure,
)
from assaymark.reports.model import Finding, Gate, Interval, Verdict

STEPS = (
    "AUC is the share of pairs of a positive and a negative in which the positive has the higher score, ties "
    "counting half; its interval is DeLong's on the logit scale. The Brier score is the mean squared "
    "distance of score and label; its interval is Student's, corrected for skewness.",
    "The expected calibration error is taken over ten bins of equally many rows of a group (fewer where a "
    "group has not ten rows for each), less what chance adds to it. Its interval holds whatever the shape of "
    "the error, so it is wide.",
    "Intervals of balanced accuracy and F1 are combined from Wilson score intervals. Those of differences "
    "hold for all pairs of groups at once (Tukey and Kramer).",
)
"""What was done, for the method of a check."""
SOURCES = (
    "DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44",
    "Newcombe 2006, Statistics in Medicine 25",
    "Brier 1950, Monthly Weather Review 78",
    "Hall 1992, JRSS B 54",
    "Kumar, Liang and Ma 2019, Verified Uncertainty Calibration, NeurIPS",
    "Zou and Donner 2008, Statistics in Medicine 27",
)


def score_findings(
    check: str,
    data: Predictions,
    attribute: str,
    *,
    gates: Sequence[Gate],
    tags: tuple[str, ...] = (),
    min_group_size: int = 1,
    missing_apart: bool = False,
    seed: int = 0,
) -> list[Finding]:
    """The largest difference between groups in each of `COMPARED`, and each group that a gate names.

    gates: those about this attribute. Differences in what needs scores are left out where there are none,
    unless a gate asks. Groups smaller than min_group_size, and with missing_apart people whose value of
    the attribute is missing, are shown but not compared; a number that leaves such people out keeps no
    limit for certain. seed: of the bootstrap.
    """
    column = data.groups[attribute]
    numbers = measure(data, column, seed=seed)
    places = [
        place
        for place, name in enumerate(column.names)
        if numbers.rows[place] >= min_group_size and not (missing_apart and is_missing(name))
    ]
    asked = {gate.metric for gate in gates}
    apart = [
        place for place, name in enumerate(column.names) if is_missing(name) and place not in places
    ]
    reason = doubt(attribute, int(numbers.rows[apart].sum()))
    found: list[Finding] = []
    for name in COMPARED:
        if name not in NEED_SCORES or data.score is not None or f"{name}_difference" in asked:
            for each in findings(check, _gap(name, numbers, column, places), gates, tags):
                found.append(replace(_with_needs(each), unreliable=reason if each.limit else None))
    for name in SPOKEN:
        if name in asked:
            for one in _groups(name, numbers, column, places):
                for each in findings(check, one, gates, tags):
                    found.append(
                        replace(_with_needs(each), unreliable=reason if each.limit else None)
                    )
    return at_worst(found, score_evidence(data, column, numbers))


def _gap(name: str, numbers: GroupNumbers, column: Column, places: Sequence[int]) -> Measured:
    reason = numbers.absent.get(name) or _undefined(numbers.measures[name], column, places)
    n = int(numbers.rows[list(places)].sum())
    target, measured = column.name, f"{name}_difference"
    if reason is not None:
        return Measured(
            target=target, measure=measured, value=None, summary=f"Not measured: {reason}.", n=n
        )
    found = numbers.measures[name]
    ordered = sorted(places, key=lambda place: found.values[place])
    low, high = ordered[0], ordered[-1]
    value = float(found.values[high] - found.values[low])
    summary = (
        f"Largest difference in {SPOKEN[name]} between the groups of {column.name}: {value:.3f} "
        f"({column.names[low]} {found.values[low]:.3f}, {column.names[high]} {found.values[high]:.3f})."
    )
    few = [column.names[place] for place in places if not found.bounded[place]]
    if few:
        summary += f" It has no interval: {found.few} in {', '.join(few)}."
    return Measured(
        target=target,
        measure=measured,
        value=value,
        summary=summary,
        n=n,
        interval_at=lambda confidence: found.difference(places, confidence),
    )


def _undefined(found: Measure, column: Column, places: Sequence[int]) -> str | None:
    if len(places) < 2:
        groups = "1 group" if len(places) == 1 else f"{len(places)} groups"
        return f"{column.name} has {groups} that can be compared: two are needed"
    for place in places:
        if found.value(place) is None:
            return f"group {column.names[place]!r} has {found.lacks}"
    return None


def _groups(
    name: str, numbers: GroupNumbers, column: Column, places: Sequence[int]
) -> list[Measured]:
    if not places:
        reason = f"{column.name} has no group that is compared"
        return [_absent(name, column.name, reason, None)]
    return [_group(name, numbers, column, place) for place in places]


def _group(name: str, numbers: GroupNumbers, column: Column, place: int) -> Measured:
    where, n = f"{column.name} = {column.names[place]}", int(numbers.rows[place])
    if name in numbers.absent:
        return _absent(name, where, numbers.absent[name], n)
    found = numbers.measures[name]
    value = found.value(place)
    if value is None:
        return _absent(name, where, f"{where} has {found.lacks}", n)
    summary = f"{SPOKEN[name][:1].upper()}{SPOKEN[name][1:]} of {where}: {value:.3f}."
    if name == "expected_calibration_error" and numbers.plain is not None:
        summary += f" Before what chance adds was taken off: {numbers.plain[place]:.3f}."

    def interval_at(confidence: float) -> Interval | None:
        return found.intervals(confidence)[place]

    return Measured(
        target=where, measure=name, value=value, summary=summary, n=n, interval_at=interval_at
    )


def _absent(name: str, target: str, reason: str, n: int | None) -> Measured:
    return Measured(
        target=target, measure=name, value=None, summary=f"Not measured: {reason}.", n=n
    )


def _with_needs(finding: Finding) -> Finding:
    """An undecided finding with about how many rows would decide it, were the value the truth.

    The ends of the interval come nearer with the square root of the rows; None beyond 1,000 times as many.
    """
    limit, interval = finding.limit, finding.interval
    if finding.judged is not Verdict.INCONCLUSIVE or limit is None or interval is None:
        return finding
    assert finding.value is not None
    assert finding.n is not None
    bound = limit.minimum if limit.maximum is None else limit.maximum
    assert bound is not None
    room = bound - finding.value
    far = interval.high if room > 0 else interval.low
    if abs(room) < 1e-9 or ((far - finding.value) / room) ** 2 > 1000:
        return finding
    enough = math.ceil(finding.n * ((far - finding.value) / room) ** 2)
    unit = 10 ** max(len(str(enough)) - 2, 0)
    return replace(finding, needs_n=-(-enough // unit) * unit)
