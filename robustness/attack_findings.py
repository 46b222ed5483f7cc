"""What an attack check reports: findings with their intervals, evidence, and how it measured."""

from dataclasses import replace
from typing import TYPE_CHECKING

from assaymark.reports.intervals import betting, clopper_pearson, sample_size_to_decide
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
from assaymark.robustness import catalogue
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.evaluate import Evaluation
from assaymark.robustness.images import ImageData
from assaymark.robustness.masking import POINTS, Masking
from assaymark.robustness.models import Loaded
from assaymark.robustness.pictures import trio
from assaymark.robustness.sequential import counts
from assaymark.robustness.suites import SUITES
from assaymark.robustness.surrogates import Surrogates

if TYPE_CHECKING:
    from assaymark.robustness.check import Threat

_MEASURES = ("robust_accuracy", "clean_accuracy", "attack_success_rate")


def findings(
    check: str,
    model: Loaded,
    threat: "Threat",
    result: Evaluation,
    masking: Masking,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    classes: tuple[str, ...],
    looks: dict[Gate, Interval] | None,
    made_on: Surrogates | None = None,
) -> tuple[Finding, ...]:
    """One finding a gate, and one for each accuracy that has no gate.

    looks: of a run that stopped when it was decided, the interval of each gate. made_on: where attacks
    by gradients were made.
    """
    return tuple(
        finding
        for measure in _MEASURES
        for finding in _findings(
            check, model, threat, result, masking, measure, gates, tags, classes, looks, made_on
        )
    )


def _findings(
    check: str,
    model: Loaded,
    threat: "Threat",
    result: Evaluation,
    masking: Masking,
    measure: str,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    classes: tuple[str, ...],
    looks: dict[Gate, Interval] | None,
    made_on: Surrogates | None,
) -> list[Finding]:
    low, high, n = _counts(result, measure)
    doubt = None if measure == "clean_accuracy" else masking.doubt
    mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
    if not mine and measure != "attack_success_rate":
        mine = (None,)
    findings: list[Finding] = []
    for gate in mine:
        confidence = gate.confidence if gate else 0.95
        limit = gate.limit if gate else None
        value = _value(low, high, n, measure, limit)
        bounds = clopper_pearson if looks is None else betting
        interval = _span(bounds(low, n, confidence), bounds(high, n, confidence))
        if looks is not None and gate is not None and low == high:
            interval = looks.get(gate) or interval
        finding = Finding(
            check=check,
            target=model.name,
            measure=measure,
            summary=_summary(measure, low, high, n, threat, made_on)
            + (f" A good number is not to be relied on: {doubt}." if doubt else ""),
            unreliable=doubt,
            value=value,
            interval=interval if value is not None else None,
            n=n,
            limit=limit,
            severity=gate.severity if gate else "low",
            evidence=_evidence(
                result,
                threat,
                masking,
                limit,
                classes,
                confident=model.access != "labels",
                sequential=looks is not None,
                made_on=made_on,
            )
            if measure == "robust_accuracy" and not findings
            else (),
            references=tags,
            cost=Cost(
                seconds=result.seconds,
                forward=result.passes.forward,
                backward=result.passes.backward,
                queries=_queries(model, result, masking, made_on),
            )
            if measure == "robust_accuracy"
            else Cost(),
        )
        if (
            finding.judged == "inconclusive"
            and not doubt
            and value is not None
            and limit is not None
        ):
            needs = sample_size_to_decide(
                value,
                limit,
                confidence,
                more_than=n,
                method=bounds,
            )
            # where the budget left points unknown, more images would not decide
            finding = replace(finding, needs_n=needs if low == high else None)
        findings.append(finding)
    return findings


def _counts(result: Evaluation, measure: str) -> tuple[int, int, int]:
    """At least and at most how many of how many; they differ by what the budget left unknown."""
    least, n = counts(result.correct, result.robust)[measure]
    most, _ = counts(result.correct, result.robust | result.unknown)[measure]
    return min(least, most), max(least, most), n


def _span(low: Interval | None, high: Interval | None) -> Interval | None:
    """Of a rate, whichever of two counts is the true one."""
    return replace(low, high=high.high) if low is not None and high is not None else None


def _value(low: int, high: int, n: int, measure: str, limit: Limit | None) -> float | None:
    """What is unknown counts against the model; None where the limit would hang on it."""
    if not n:
        return None
    if low != high and (
        limit is None
        or (limit.on == "estimate" and limit.judge(low / n, None) != limit.judge(high / n, None))
    ):
        return None
    return (high if measure == "attack_success_rate" else low) / n


def _queries(
    model: Loaded, result: Evaluation, masking: Masking, made_on: Surrogates | None
) -> int | None:
    """What was asked of a model of which no gradient was followed; None of any other."""
    if model.budget is not None:
        return model.budget.spent
    return None if made_on is None else result.passes.forward + masking.queries


def _summary(
    measure: str, low: int, high: int, n: int, threat: "Threat", made_on: Surrogates | None
) -> str:
    hits = f"{low}" if low == high else f"Between {low} and {high}"
    said = {
        "robust_accuracy": f"{hits} of {n} images are classified correctly under every attack "
        f"({threat}).",
        "clean_accuracy": f"{hits} of {n} images are classified correctly without an attack.",
        "attack_success_rate": f"{hits} of the {n} images classified correctly fall to an attack "
        f"({threat}).",
    }[measure]
    if made_on is not None and measure != "clean_accuracy":
        members = ", ".join(member.name for member in made_on.members)
        said += (
            f" Attacks by gradients were made on {members} and carried over, which bounds robustness "
            "from above only: a better surrogate, or the model itself, may lower it."
        )
    if low == high:
        return said
    return f"{said} {high - low} were not attacked in full before the queries were spent."


def _evidence(
    result: Evaluation,
    threat: "Threat",
    masking: Masking,
    limit: object,
    classes: tuple[str, ...],
    *,
    confident: bool,
    sequential: bool,
    made_on: Surrogates | None,
) -> tuple[Evidence, ...]:
    standing = int(result.correct.sum())
    stages = [("no attack", standing)]
    rows = []
    for outcome in result.outcomes:
        standing -= outcome.fooled
        stages.append((f"after {outcome.name}", standing))
        rows.append(
            (
                outcome.name,
                outcome.tried,
                outcome.fooled,
                standing / result.n,
                outcome.outside,
                outcome.unconfirmed,
                outcome.passes.forward,
                outcome.passes.backward,
                round(outcome.seconds, 2),
            )
        )
    unknown = int(result.unknown.sum())
    if unknown:
        stages.append(("attacked in full and standing", standing - unknown))
    estimates = []
    for label, hits in stages:
        interval = (betting if sequential else clopper_pearson)(hits, result.n)
        assert interval is not None
        estimates.append(
            Estimate(
                label=label, value=hits / result.n, low=interval.low, high=interval.high, n=result.n
            )
        )
    minimum = getattr(limit, "minimum", None)
    chart = Estimates(
        title="Accuracy left after each attack", estimates=tuple(estimates), limit=minimum
    )
    table = Table(
        title="Attacks",
        columns=(
            "attack",
            "points tried",
            "fooled",
            "accuracy left",
            "answers outside the ball",
            "not confirmed",
            "forward passes",
            "backward passes",
            "seconds",
        ),
        rows=tuple(rows),
        note="Each attack is given the points that still stand. A point counts as fooled only after "
        "the answer has been checked again, alone and in float32: inside the ball, inside [0, 1], and "
        "misclassified."
        + (
            f" {unknown} points were not attacked in full: the queries were spent."
            if unknown
            else ""
        ),
    )
    signs = Table(
        title=masking.what[0].upper() + masking.what[1:],
        columns=("sign", "found", "measured"),
        rows=tuple((s.name, "yes" if s.found else "no", s.measured) for s in masking.signs),
        note="Where one is found, a good robust accuracy is not to be relied on."
        + "".join(f" Here {repair}." for repair in masking.repairs),
    )
    return (
        chart,
        table,
        *(_on_surrogates(made_on) if made_on else ()),
        *((signs,) if masking.signs else ()),
        *(trio(example, classes, confident=confident) for example in result.examples),
    )


def _on_surrogates(made_on: Surrogates) -> tuple[Table, Table]:
    """Which networks attacks were made on, and what they did to these."""
    networks = Table(
        title="Surrogates",
        columns=("network", "SHA-256", "classified correctly", "of"),
        rows=tuple(
            (member.name, member.sha256 or "unknown (it is code)", right, made_on.n)
            for member, right in zip(made_on.members, made_on.right, strict=True)
        ),
        note="Attacks by gradients follow the mean of their logits.",
    )
    attacks = Table(
        title="Attacks made on the surrogates",
        columns=("attack", "points", "fool the surrogates", "forward passes", "backward passes"),
        rows=tuple(
            (name, done.tried, done.fooled, done.passes.forward, done.passes.backward)
            for name, done in made_on.carried.items()
        ),
        note="Passes through the surrogates, each of which counts for all of them together. The model "
        "itself was asked to confirm what was found, which is counted above.",
    )
    return networks, attacks


def _seen(model: Loaded, made_on: Surrogates | None) -> str:
    if made_on is not None and model.budget is None:
        return "no gradient of the model is used"
    if model.budget is None:
        return model.access
    each = model.budget.per_point
    asked = f", at most {each} queries for each attack on an image" if each is not None else ""
    return f"only {model.access} are seen{asked}"


def method(
    check: str,
    model: Loaded,
    data: ImageData,
    threat: "Threat",
    result: Evaluation,
    masking: Masking,
    seed: int,
    *,
    drawn: int,
    sequential: bool,
    made_on: Surrogates | None = None,
) -> Method:
    """How the check measured. drawn: how many images there were to attack."""
    described = []
    for name, options in threat.attacks:
        settings = ", ".join(f"{key} = {value}" for key, value in options.items())
        described.append(f"{name} ({settings})" if settings else name)
    names = [name for name, _ in threat.attacks]
    cards = [ATTACKS[name] for name in names if name in ATTACKS]
    suites = [SUITES[name] for name in names if name in SUITES]
    papers = [card.paper for card in cards] + [
        paper for suite in suites for paper in suite.papers_in(threat.norm)
    ]
    untested = [
        f"perturbations outside {threat}, such as rotations, patches and common corruptions",
        "attacks that are not listed: robust accuracy is an upper bound, a stronger attack can only "
        "lower it",
    ]
    untested += [
        f"{outcome.outside} points to which {outcome.name} answered outside the ball"
        for outcome in result.outcomes
        if outcome.outside
    ]
    if data.skipped:
        untested.append(
            f"{len(data.skipped)} files of {data.name} that are no pictures by their name, such as "
            f"{data.skipped[0]}"
        )
    unknown = int(result.unknown.sum())
    if unknown and model.budget is not None:
        untested.append(
            f"{unknown} of {result.n} images that were not attacked in full before the queries allowed "
            f"({model.budget.total}) were spent: they do not count as robust"
        )
    if model.access != "white-box" or made_on is not None:
        untested.append("attacks that see the model's gradients: whoever has the model can do more")
    untested += masking.untested
    if result.n < len(data.images):
        untested.append(
            f"{len(data.images) - result.n} of {len(data.images)} images of {data.name}, which were "
            "not used"
        )
    if made_on is not None:
        if not any(catalogue.knowledge(name) in ("scores", "labels") for name in names):
            untested.append("attacks led by answers of the model itself, which need no surrogate")
    elif not any(catalogue.asks_itself(name) for name in names):
        untested.append("black-box attacks, which would reveal masked gradients")
    how = "" if drawn == len(data.images) else f", drawn at random with seed {seed}"
    if sequential:
        how = f", taken in random order with seed {seed}"
    steps = [
        f"{result.n} images of {data.name}{how}; threat model {threat}, {_seen(model, made_on)}, "
        "pixels in [0, 1].",
        f"Attacks in this order: {'; '.join(described)}. A point leaves when it falls.",
        "Robust accuracy counts the images that are classified correctly and that no attack moved to "
        + ("the target class." if threat.target else "another class."),
    ]
    if sequential:
        ended = "when every gate was decided" if result.n < drawn else "with the last image"
        steps.append(
            "Sequential: intervals by betting, which are valid at every look, and the run ended "
            f"{ended}. At a fixed number of images they would be narrower."
        )
    else:
        steps.append(
            "Fixed number of images: intervals are exact two-sided Clopper–Pearson intervals."
        )
    if masking.signs:
        steps.append(
            f"{len(masking.signs)} {masking.what} were looked for, on up to {POINTS} points "
            f"before the attacks; found: {', '.join(sign.name for sign in masking.found) or 'none'}."
        )
        steps += [f"Worked around: {repair}." for repair in masking.repairs]
    if made_on is not None:
        steps.append(_transfer_step(made_on))
    if model.note:
        steps.append(model.note + ".")
    interval = (
        "Waudby-Smith and Ramdas 2024, JRSS B 86"
        if sequential
        else "Clopper and Pearson 1934, Biometrika 26"
    )
    return Method(
        check=check,
        title=f"Adversarial robustness of {model.name}",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=tuple(dict.fromkeys([*papers, interval])),
    )


def _transfer_step(made_on: Surrogates) -> str:
    networks = ", ".join(
        f"{member.name} ({f'SHA-256 {member.sha256[:12]}…' if member.sha256 else 'code'}"
        f"{f'; {member.note}' if member.note else ''})"
        for member in made_on.members
    )
    return (
        f"Made on the surrogates {networks} and carried over: {', '.join(made_on.carried)}. Of the model "
        "itself only answers were asked; robust accuracy is a bound by transfer."
    )
