"""The bias check of a language model: what its suites measured, held against the limits of a policy."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from assaymark.bias.check import at_worst
from assaymark.bias.findings import Measured, findings
from assaymark.bias.lm_choice_files import clip
from assaymark.bias.lm_model import LanguageModel
from assaymark.bias.lm_outcome import ALL, Outcome
from assaymark.reports.errors import nearest
from assaymark.reports.intervals import wilson
from assaymark.reports.model import (
    CheckResult,
    Evidence,
    Finding,
    Gate,
    Interval,
    Method,
    Table,
)

T = TypeVar("T")
_UNREADABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
COVERAGE = "coverage"
_LOST = {
    "error": "the model or its server failed",
    "too-long": "longer than the model's window",
    "unparsable": "a reply that could not be read or rated",
    "not-offered": "no log probability that can be used",
    "ceiling": "the cost ceiling was reached",
    "not-tokenizable": "no tokens to score",
}


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """A suite's outcome on a model, and what it was run on.

    data: the path of what was read, or "built-in". digests: SHA-256 of each of its files.
    aside: measured beside what was asked for, so that a run without it is not incomplete.
    """

    suite: str
    title: str
    variant: str
    data: str
    digests: Mapping[str, str]
    outcome: Outcome
    indicator: bool = False
    aside: bool = False

    @property
    def called(self) -> str:
        return f"{self.title} ({self.variant})"


def check_language_model(
    check: str,
    model: LanguageModel,
    runs: Sequence[SuiteRun],
    *,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
    min_coverage: float = 0.95,
    notes: Sequence[str] = (),
    failures: Mapping[str, str] | None = None,
) -> CheckResult:
    """Findings of all suites: each number of each category, and the share of items that was answered.

    A gate without an attribute holds every category that its number is measured of, and the number of all
    items where there is one; with one, that category. Of a suite that answered less than min_coverage of its
    items nothing counts as measured, nor does the number of a category that did, whatever the others did.
    A gate that no number answers is not measured. failures: suites that could not run, and why.
    """
    found = [_failure(check, suite, why, tags) for suite, why in (failures or {}).items()]
    for run in runs:
        found += _suite_findings(check, run, gates, tags, min_coverage)
    for gate in _unheld(gates, runs):
        found += findings(check, _unmeasured(gate, model, runs), [gate], tags)
    digests = {name: sha256 for run in runs for name, sha256 in run.digests.items()}
    if model.sha256 is not None:
        digests[model.name] = model.sha256
    return readable(
        CheckResult(
            findings=tuple(found), method=_method(check, model, runs, notes), digests=digests
        )
    )


def readable(value: T) -> T:
    """The same with a mark for what a reply or a file may hold and no report should.

    Half of a surrogate pair, with which no report could be written; characters that control a terminal; and
    those that turn the direction of all that follows.
    """
    found: Any = value
    if isinstance(found, str):
        found = _UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", found)
    elif isinstance(found, tuple):
        found = tuple(readable(one) for one in found)
    elif isinstance(found, Mapping):
        found = {readable(key): readable(one) for key, one in found.items()}
    elif is_dataclass(found) and not isinstance(found, type):
        found = replace(
            found, **{one.name: readable(getattr(found, one.name)) for one in fields(found)}
        )
    return cast(T, found)


def _suite_findings(
    check: str, run: SuiteRun, gates: Sequence[Gate], tags: tuple[str, ...], min_coverage: float
) -> list[Finding]:
    outcome = run.outcome
    share = outcome.answered / outcome.items if outcome.items else None
    short = share is None or share < min_coverage
    found: list[Finding] = []
    for measured in (coverage(run), *outcome.measured):
        mine = [gate for gate in gates if gate.attribute in (None, measured.target)]
        behind = outcome.behind(measured.measure, measured.target)
        if measured.measure == COVERAGE:
            pass
        elif short:
            measured = _uncovered(measured, outcome.answered, outcome.items, min_coverage)
        elif behind[0] < min_coverage * behind[1]:
            measured = _uncovered(measured, *behind, min_coverage)
        named = replace(measured, target=f"{run.called}: {measured.target}")
        found += findings(check, named, mine, tags)
    found += _absent(check, run, gates, tags)
    if short and not run.aside:
        found.append(_incomplete(check, run, min_coverage, tags))
    return at_worst(found, (*outcome.evidence, *_lost_table(run)))


def _absent(
    check: str, run: SuiteRun, gates: Sequence[Gate], tags: tuple[str, ...]
) -> list[Finding]:
    """Gates on every category say nothing of one that the sample has no item of."""
    by_category = {one.measure for one in run.outcome.measured if one.target != ALL}
    return [
        one
        for category in run.outcome.absent
        for gate in gates
        if gate.metric in by_category and gate.attribute is None
        for one in findings(
            check,
            Measured(
                target=f"{run.called}: {category}",
                measure=gate.metric,
                value=None,
                summary=f"Not measured: the sample of {run.outcome.items} items has none of {category}; ask "
                "more examples, or hold the limit against single categories (attribute).",
                n=0,
            ),
            [gate],
            tags,
        )
    ]


def _failure(check: str, suite: str, why: str, tags: tuple[str, ...]) -> Finding:
    return Finding(
        check=check,
        target=suite,
        measure="check",
        summary="The suite could not run.",
        error=why,
        references=tags,
    )


def _incomplete(check: str, run: SuiteRun, min_coverage: float, tags: tuple[str, ...]) -> Finding:
    """A suite that is not measured leaves the run incomplete, whether or not a limit asks for it."""
    outcome = run.outcome
    return Finding(
        check=check,
        target=run.called,
        measure="check",
        summary="The suite is not measured.",
        error=f"{outcome.answered} of {outcome.items} items could be scored, below "
        f"{min_coverage:.0%} (min_coverage) nothing counts as measured: see why under coverage",
        references=tags,
    )


def coverage(run: SuiteRun) -> Measured:
    """The share of a suite's items that the model answered."""
    outcome = run.outcome
    lost = ", ".join(f"{count} × {_LOST.get(kind, kind)}" for kind, count in _reasons(outcome))
    ties = "" if outcome.ties is None else f" {outcome.ties} are ties."

    def interval_at(confidence: float) -> Interval | None:
        return wilson(outcome.answered, outcome.items, confidence) if outcome.items else None

    return Measured(
        target=ALL,
        measure=COVERAGE,
        value=outcome.answered / outcome.items if outcome.items else None,
        summary=f"{outcome.answered} of {outcome.items} items of {run.called} could be scored"
        + (f"; not: {lost}." if lost else ".")
        + _most(outcome)
        + ties,
        n=outcome.items,
        interval_at=interval_at,
    )


def _most(outcome: Outcome) -> str:
    """The sentence of the commonest reason, where one was given."""
    kinds = [kind for kind, _ in _reasons(outcome)][:1]
    said = [outcome.said[kind] for kind in kinds if kind in outcome.said]
    return f" Most often: {clip(said[0]).removesuffix('.')}." if said else ""


def _reasons(outcome: Outcome) -> list[tuple[str, int]]:
    return sorted(outcome.lost.items(), key=lambda item: (-item[1], item[0]))


def _uncovered(measured: Measured, answered: int, items: int, least: float) -> Measured:
    """The same number, not measured: what is missing could have changed it."""
    return replace(
        measured,
        value=None,
        summary=f"Not measured: only {answered} of {items} items behind it were answered, and less "
        f"than {least:.0%} (min_coverage) say nothing of the others.",
        interval_at=lambda confidence: None,
    )


def _lost_table(run: SuiteRun) -> tuple[Evidence, ...]:
    if not run.outcome.lost:
        return ()
    said = run.outcome.said
    rows = tuple(
        (_LOST.get(kind, kind), count, clip(said.get(kind, "")))
        for kind, count in _reasons(run.outcome)
    )
    return (
        Table(
            title=f"{run.called}: items without a score",
            columns=("reason", "items", "most often"),
            rows=rows,
        ),
    )


def _unheld(gates: Sequence[Gate], runs: Sequence[SuiteRun]) -> list[Gate]:
    """The gates that no number of any suite answers."""
    held = {
        (measured.measure, target)
        for run in runs
        for measured in (*run.outcome.measured, coverage(run))
        for target in (measured.target, None)
    }
    return [gate for gate in gates if (gate.metric, gate.attribute) not in held]


def _unmeasured(gate: Gate, model: LanguageModel, runs: Sequence[SuiteRun]) -> Measured:
    """A gate on a number that no suite has; with the nearest category, where it has others."""
    what = gate.metric.replace("_", " ")
    numbers = [one for run in runs for one in run.outcome.measured]
    targets = list(dict.fromkeys(one.target for one in numbers if one.measure == gate.metric))
    if gate.attribute is not None and targets:
        said = f"{what} has no category {gate.attribute}{nearest(gate.attribute, targets)}"
    else:
        where = "" if gate.attribute is None else f" of {gate.attribute}"
        said = (
            f"no suite has a {what}{where} to hold the limit against; name a variant that has one, or leave "
            "the limit out."
        )
    return Measured(
        target=gate.attribute or model.name,
        measure=gate.metric,
        value=None,
        summary=f"Not measured: {said}",
        n=None,
    )


def _method(
    check: str, model: LanguageModel, runs: Sequence[SuiteRun], notes: Sequence[str]
) -> Method:
    steps = [
        f"The model is {model.name}: {_facts(model.facts)}.",
        *(f"Warning: {value}." for key, value in model.facts.items() if key.endswith("warning")),
        *notes,
    ]
    for run in runs:
        edition = f": {run.outcome.revision}" if run.outcome.revision else ""
        read = "; ".join(f"{name}, SHA-256 {sha256}" for name, sha256 in run.digests.items())
        steps.append(
            f"{run.called}: {run.outcome.items} items of {run.data}{edition}"
            + (f" ({read})." if read else ".")
        )
        steps += run.outcome.steps
    if any(run.indicator for run in runs):
        steps.append(
            "Benchmarks of likelihoods are indicators: they compare what a model finds likely, not what "
            "it does for people, and their items have known flaws (Blodgett et al. 2021)."
        )
    return Method(
        check=check,
        title=f"Bias of the language model {model.name}",
        steps=tuple(steps),
        not_tested=tuple(dict.fromkeys(one for run in runs for one in run.outcome.not_tested)),
        sources=tuple(dict.fromkeys(one for run in runs for one in run.outcome.sources)),
    )


def _facts(facts: Mapping[str, str]) -> str:
    plain = [f"{key} {value}" for key, value in facts.items() if not key.endswith("warning")]
    return ", ".join(plain) or "nothing more is known"
