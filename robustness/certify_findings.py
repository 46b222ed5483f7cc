"""What a certificate check reports: findings with their intervals, evidence, and how it measured."""

from collections.abc import Callable
from dataclasses import replace

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
from assaymark.robustness.evaluate import Evaluation
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.proofs import Claim, Proof
from assaymark.robustness.smoothing import (
    interval_of_certified,
)

PAPERS: dict[str, str] = {
    "ibp": "Gowal et al. 2018, arXiv 1810.12715",
    "crown-ibp": "Zhang et al. 2020, arXiv 1906.06316",
    "crown": "Zhang et al. 2018, arXiv 1811.00866",
    "alpha-crown": "Xu et al. 2021, arXiv 2011.13824",
    "smoothing": "Cohen et al. 2019, arXiv 1902.02918",
}


def findings(
    check: str,
    model: Loaded,
    claim: Claim,
    proof: Proof,
    attacked: Evaluation,
    robust: Bool[Tensor, " n"],
    measure: str,
    gates: tuple[Gate, ...],
    tags: tuple[str, ...],
    seconds: float,
) -> list[Finding]:
    """One finding a gate of the measure, or one without a limit."""
    n = len(proof.held)
    hits = int((proof.held if measure == "certified_accuracy" else proof.correct).sum())
    interval_of = _interval_of(claim)
    found: list[Finding] = []
    mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
    for gate in mine or (None,):
        limit = gate.limit if gate else None
        confidence = gate.confidence if gate else 0.95
        first = measure == "certified_accuracy" and not found
        passes = proof.passes + attacked.passes
        finding = Finding(
            check=check,
            target=model.name,
            measure=measure,
            summary=_summary(measure, hits, n, claim),
            value=hits / n if n else None,
            interval=interval_of(hits, n, confidence),
            n=n,
            limit=limit,
            severity=gate.severity if gate else "low",
            evidence=_evidence(claim, proof, robust, limit) if first else (),
            references=tags,
            cost=Cost(seconds=seconds, forward=passes.forward, backward=passes.backward)
            if first
            else Cost(),
        )
        if finding.judged == "inconclusive" and finding.value is not None and limit is not None:
            needs = sample_size_to_decide(
                finding.value, limit, confidence, more_than=n, method=interval_of
            )
            finding = replace(finding, needs_n=needs)
        found.append(finding)
    return found


def _interval_of(claim: Claim) -> Callable[[int, int, float], Interval | None]:
    if claim.smoothing is None:
        return clopper_pearson
    alpha = claim.smoothing.alpha

    def interval(hits: int, n: int, confidence: float) -> Interval | None:
        return interval_of_certified(hits, n, alpha, confidence)

    return interval


def _summary(measure: str, hits: int, n: int, claim: Claim) -> str:
    if claim.smoothing is None:
        if measure == "clean_accuracy":
            return f"{hits} of {n} images are classified correctly without an attack."
        names = " or ".join(claim.methods)
        return f"{hits} of {n} images are proven to be classified correctly for {claim} ({names})."
    plan = claim.smoothing
    smoothed = f"the model smoothed with noise of {plan.sigma:g}"
    if measure == "clean_accuracy":
        return f"{hits} of {n} images are surely classified correctly by {smoothed}."
    return (
        f"{hits} of {n} images are certified to be classified correctly for {claim} by {smoothed}; each "
        f"certificate is wrong with a chance of at most {plan.alpha:g}, by which the interval is widened."
    )


def _evidence(
    claim: Claim, proof: Proof, robust: Bool[Tensor, " n"], limit: Limit | None
) -> tuple[Evidence, ...]:
    n = len(proof.held)
    names = ", ".join(name for name, _ in claim.tried)
    stages = (
        ("no attack", int(proof.correct.sum()), clopper_pearson),
        (f"under {names}: robust accuracy is at most", int(robust.sum()), clopper_pearson),
        ("certified: robust accuracy is at least", int(proof.held.sum()), _interval_of(claim)),
    )
    estimates = []
    for label, hits, interval_of in stages:
        interval = interval_of(hits, n, 0.95)
        estimates.append(
            Estimate(
                label=label,
                value=hits / n if n else None,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                n=n,
            )
        )
    chart = Estimates(
        title=f"Robust accuracy lies between, {claim}",
        estimates=tuple(estimates),
        limit=limit.minimum if limit else None,
    )
    methods = Table(
        title="Certificates",
        columns=("method", "points", "certified", "certified accuracy", "seconds"),
        rows=tuple(
            (name, n, hits, hits / n if n else None, round(seconds, 2))
            for name, hits, seconds in proof.by_method
        ),
        note="No certified point was fooled by the attack: had one been, the check would have stopped."
        if claim.smoothing is None
        else "A certified point that the attack moved is not counted; more of them than chance allows "
        "would have stopped the check.",
    )
    return chart, methods, _reach_table(claim, proof)


def _reach_table(claim: Claim, proof: Proof) -> Table:
    reach = proof.reach
    radii = [claim.eps * share for share in (0.25, 0.5, 0.75, 1.0)]
    if claim.smoothing is not None:
        radii += [claim.eps * share for share in (1.5, 2.0, 3.0)]
        radii = [radius for radius in radii if radius <= claim.smoothing.largest_radius]
    rows = []
    for radius in radii:
        held = (reach >= radius * (1 - 1e-9)) & proof.correct
        hits = int((held & proof.held).sum()) if radius == claim.eps else int(held.sum())
        rows.append((round(radius, 6), hits, hits / len(reach) if len(reach) else None))
    median = float(reach.median()) if len(reach) else None
    how = (
        "radii tried: quarters of eps, so that it is a lower bound, and at most eps"
        if claim.smoothing is None
        else "points answered wrongly or not at all count as 0"
    )
    return Table(
        title="Certified accuracy by radius",
        columns=("radius", "certified", "certified accuracy"),
        rows=tuple(rows),
        note="" if median is None else f"Median certified radius: {median:.4g} ({how}).",
    )


def method(check: str, model: Loaded, data: ImageData, claim: Claim, n: int, seed: int) -> Method:
    """How it was measured, and what was not tested."""
    names = claim.methods or ("smoothing",)
    steps = [
        f"{n} images of {data.name}"
        + ("" if n == len(data.images) else f", drawn at random with seed {seed}")
        + f"; pixels in [0, 1]; ball {claim}.",
    ]
    not_tested = [f"changes outside {claim}, such as rotations, patches and common corruptions"]
    if claim.smoothing is None:
        steps += [
            f"Lower bounds of each margin by {', '.join(names)} in float64; a point is certified where "
            "one of them is above 1e-5 of its largest logit.",
            "A point that is not certified need not be vulnerable: the bounds are not exact.",
        ]
        not_tested.append("the rounding of the model's own arithmetic, beyond that room")
    else:
        plan = claim.smoothing
        steps += [
            f"Smoothed with Gaussian noise of standard deviation {plan.sigma:g}: {plan.first} votes "
            f"choose the class of an image, {plan.samples} others are counted, and their exact lower "
            f"bound gives the radius, wrong with a chance of at most {plan.alpha:g}; an image whose "
            "votes do not decide is not certified.",
        ]
        not_tested.append("the model itself: what is certified is its smoothed form, which votes")
    described = ", ".join(name for name, _ in claim.tried)
    steps += [
        f"The same points are attacked with {described}: what is certified may not fall.",
        "Intervals are exact two-sided Clopper–Pearson intervals"
        + (
            "."
            if claim.smoothing is None
            else "; the lower end of certified accuracy also takes away the certificates that may be "
            "wrong."
        ),
    ]
    if model.note:
        steps.append(model.note + ".")
    if n < len(data.images):
        not_tested.append(
            f"{len(data.images) - n} of {len(data.images)} images of {data.name}, which were not used"
        )
    return Method(
        check=check,
        title=f"Certified robustness of {model.name}",
        steps=tuple(steps),
        not_tested=tuple(not_tested),
        sources=(*(PAPERS[name] for name in names), "Clopper and Pearson 1934, Biometrika 26"),
    )
