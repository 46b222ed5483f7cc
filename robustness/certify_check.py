"""The certificate check: how much of a data set is proven safe, beside what an attack still breaks.

The certificate bounds robust accuracy from below and the attack from above. A point that is certified
and fooled would mean that one of the two is wrong, so that the check stops.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from assaymark.reports.errors import InternalContradiction
from assaymark.reports.intervals import clopper_pearson, sample_size_to_decide
from assaymark.reports.model import (
    CheckResult,
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
from assaymark.robustness.balls import BALLS
from assaymark.robustness.bounds import BoundMethod, certified
from assaymark.robustness.check import NORM_NAMES, class_names
from assaymark.robustness.evaluate import Evaluation, evaluate, frozen, subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.losses import Loss, cross_entropy
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, Passes, ascent, logits_of
from assaymark.robustness.shard import Search
from assaymark.robustness.shards import Shards
from assaymark.robustness.smoothing import (
    ABSTAIN,
    Smoothing,
    accuracy_at,
    certify,
    interval_of_certified,
    predict,
    wrong_at_most,
)
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Logits, Norm

_BATCH = 32
"""Images whose bounds are found together."""
_TOLERANCE = 1e-6
"""How far outside the ball an answer of an attack still counts: certificates reach beyond it."""
_COPIES = 16
"""Noisy images whose mean answer an attack on a smoothed classifier climbs."""
_DEEPER = 10
"""Steps into the other class, once there."""
PAPERS: dict[str, str] = {
    "ibp": "Gowal et al. 2018, arXiv 1810.12715",
    "crown-ibp": "Zhang et al. 2020, arXiv 1906.06316",
    "crown": "Zhang et al. 2018, arXiv 1811.00866",
    "alpha-crown": "Xu et al. 2021, arXiv 2011.13824",
    "smoothing": "Cohen et al. 2019, arXiv 1902.02918",
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What shall be proven: by bounds of the model itself, or by smoothing it (then methods is empty).

    attacks: what the certificate is held beside; by default pgd, in L1 fgsm.
    """

    methods: tuple[BoundMethod, ...] = ()
    smoothing: Smoothing | None = None
    norm: Norm
    eps: float
    attacks: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __str__(self) -> str:
        return f"{NORM_NAMES[self.norm]} ≤ {self.eps:.4g}"

    @property
    def tried(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return self.attacks or ((("fgsm" if self.norm == "l1" else "pgd"), {}),)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """n points: which are answered rightly, which are certified at eps, and how far each is proven.

    reach: the largest radius tried within which the point is certified, 0 for none.
    """

    correct: Bool[Tensor, " n"]
    held: Bool[Tensor, " n"]
    reach: Float[Tensor, " n"]
    by_method: tuple[tuple[str, int, float], ...]
    """Method, points certified at eps, seconds."""
    passes: Passes = field(default_factory=Passes)


def sandwich(certified: Bool[Tensor, " n"], robust: Bool[Tensor, " n"]) -> None:
    """Raises InternalContradiction when a point is certified though an attack moved it.

    certified, robust: of the same points, for the same ball; robust is True where no attack succeeded.
    """
    both = certified.cpu() & ~robust.cpu()
    if both.any():
        places = both.nonzero().flatten().tolist()
        raise InternalContradiction(
            f"{len(places)} points are certified and yet fooled inside the ball (first: {places[0]}), so "
            "the certificate or the attack is wrong: please report it with the model and the policy"
        )


def check_certificate(
    check: str,
    model: Loaded,
    data: ImageData,
    claim: Claim,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    examples: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Certified accuracy, a lower bound of robust accuracy, and clean accuracy, with intervals.

    examples: how many points to draw at random, by default all. workers: processes that attack side by
    side. Raises InputError when model and data do not fit together or a step of the model cannot be
    bounded, InternalContradiction when an attack fools what is certified.
    """
    class_names(model, data)
    attacks: dict[str, Attack] = {
        name: catalogue.find(name, dict(options), claim.norm) for name, options in claim.tried
    }
    chosen = subset(len(data.images), examples, seed, check)
    x, y = data.images[chosen].to(device), data.labels[chosen].to(device)
    streams = Streams.of(seed, check, chosen)
    began = time.perf_counter()
    tell = partial(_told, progress, len(x))
    with frozen(model.module):
        if claim.smoothing is None:
            proof = _by_bounds(model.module, x, y, claim, batch_size, tell)
        else:
            proof = _by_smoothing(model.module, x, y, claim, batch_size, streams, tell)
    run = partial(
        evaluate, attacks=attacks, eps=claim.eps, norm=claim.norm, seed=seed, check=check,
        indices=chosen, device=device, keep=0, shards=Shards(workers=workers),
    )  # fmt: skip
    if claim.smoothing is None:
        attacked = run(model.module, x, y, search=Search(batch_size=batch_size))
        robust = attacked.robust
        sandwich(proof.held, robust)
    else:
        attacked, robust = _attack_smoothed(
            run, model, x, y, proof, claim, batch_size, seed, streams
        )
        proof = replace(proof, held=proof.held & robust)
    seconds = time.perf_counter() - began
    findings = [
        finding
        for measure in ("certified_accuracy", "clean_accuracy")
        for finding in _findings(
            check, model, claim, proof, attacked, robust, measure, gates, tags, seconds
        )
    ]
    return CheckResult(
        findings=tuple(findings),
        method=_method(check, model, data, claim, len(chosen), seed),
        digests={model.name: model.sha256} if model.sha256 else {},
    )


def _told(progress: Callable[[int, int], None], total: int, done: int) -> None:
    progress(done, total)


def _by_bounds(
    model: nn.Module,
    x: Images,
    y: Labels,
    claim: Claim,
    batch_size: int,
    progress: Callable[[int], None],
) -> Proof:
    correct = logits_of(Oracle(model, batch_size=batch_size), x).argmax(1) == y
    held = torch.zeros_like(correct)
    by_method = []
    for method in claim.methods:
        began = time.perf_counter()
        mine = certified(
            model, x, y, claim.eps + _TOLERANCE, claim.norm, method,
            batch_size=min(batch_size, _BATCH), progress=progress,
        )  # fmt: skip
        by_method.append((method, int(mine.sum()), time.perf_counter() - began))
        held |= mine
    reach = _reach(model, x, y, claim, min(batch_size, _BATCH), held, correct)
    return Proof(
        correct=correct.cpu(),
        held=held.cpu(),
        reach=reach.cpu(),
        by_method=tuple(by_method),
        passes=Passes(forward=len(x)),
    )


def _reach(
    model: nn.Module,
    x: Images,
    y: Labels,
    claim: Claim,
    batch_size: int,
    held: Bool[Tensor, " n"],
    correct: Bool[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """How many quarters of eps each point is certified for, found by halving with the last method."""
    quarters = torch.where(held, 4, 0)
    open_ = correct & ~held
    for quarter, among in ((2, open_), (3, open_), (1, open_)):
        places = (among & (quarters == (2 if quarter == 3 else 0))).nonzero().flatten()
        mine = certified(
            model, x[places], y[places], claim.eps * quarter / 4 + _TOLERANCE, claim.norm,
            claim.methods[-1], batch_size=batch_size,
        )  # fmt: skip
        quarters[places[mine]] = quarter
    return quarters.double() * claim.eps / 4


def _by_smoothing(
    model: nn.Module,
    x: Images,
    y: Labels,
    claim: Claim,
    batch_size: int,
    streams: Streams,
    progress: Callable[[int], None],
) -> Proof:
    assert claim.smoothing is not None
    began = time.perf_counter()
    oracle = Oracle(model, batch_size=batch_size)
    answers, radii = certify(oracle, x, claim.smoothing, streams, y=y, progress=progress)
    correct = accuracy_at(answers, radii, y, 0.0)
    held = accuracy_at(answers, radii, y, claim.eps)
    return Proof(
        correct=correct.cpu(),
        held=held.cpu(),
        reach=torch.where(correct, radii, torch.zeros_like(radii)).cpu(),
        by_method=(("smoothing", int(held.sum()), time.perf_counter() - began),),
        passes=oracle.passes,
    )


class _MeanAnswer(nn.Module):
    """The mean of the model's probabilities over noise that is the same for every image.

    What an attack climbs instead of votes, which have no gradient (https://arxiv.org/abs/1906.04584).
    """

    noise: Tensor

    def __init__(
        self, model: nn.Module, noise: Float[Tensor, "copies channels height width"]
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("noise", noise)

    def forward(self, x: Images) -> Logits:
        noisy = (x[:, None] + self.noise).flatten(0, 1)
        shares: Tensor = self.model(noisy).softmax(1).view(len(x), len(self.noise), -1).mean(1)
        return shares.clamp_min(1e-12).log()


def _attack_smoothed(
    run: Callable[..., Evaluation],
    model: Loaded,
    x: Images,
    y: Labels,
    proof: Proof,
    claim: Claim,
    batch_size: int,
    seed: int,
    streams: Streams,
) -> tuple[Evaluation, Bool[Tensor, " n"]]:
    """The attack on the mean answer, and which points the smoothed classifier still gets right.

    A point falls when the votes on the moved image are surely for another class. More certified points
    that fall than chance allows are a contradiction; those that chance allows are not counted.
    """
    plan = claim.smoothing
    assert plan is not None
    like = x[:1, None].expand(-1, _COPIES, *x.shape[1:])
    noise = plan.sigma * Streams.of(seed, "mean answer", [0]).normal(like, "noise")[0]
    mean_answer = _MeanAnswer(model.module, noise)
    batch_size = max(1, batch_size // _COPIES)
    attacked = run(mean_answer, x, y, collect=True, search=Search(batch_size=batch_size))
    assert attacked.adversarial is not None
    with frozen(model.module):
        oracle = Oracle(model.module, batch_size=batch_size)
        deeper = _deeper(mean_answer, x, y, attacked.adversarial.to(x), claim, batch_size)
        answers = predict(oracle, deeper, plan, streams, tag="attacked")
    fell = ((answers != y) & (answers != ABSTAIN)).cpu()
    allowed = wrong_at_most(2 * int(proof.held.sum()), plan.alpha, 1 - 1e-6)
    if int((proof.held & fell).sum()) > allowed:
        sandwich(proof.held, ~fell)
    return attacked, proof.correct & ~fell


def _deeper(
    model: nn.Module, x: Images, y: Labels, moved: Images, claim: Claim, batch_size: int
) -> Images:
    """On from where an attack stopped: it stops as soon as the answer turns, where votes are split."""
    ball, oracle = BALLS[claim.norm], Oracle(model, batch_size=batch_size)

    def loss(logits: Logits, rows: slice) -> Loss:
        return cross_entropy(logits, y[rows])

    for _ in range(_DEEPER):
        _, _, gradient = ascent(oracle, moved, loss)
        moved = ball.project(x, moved + claim.eps / 4 * ball.steepest(gradient), claim.eps)
    return moved


def _findings(
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
    n = len(proof.held)
    hits = int((proof.held if measure == "certified_accuracy" else proof.correct).sum())
    interval_of = _interval_of(claim)
    findings: list[Finding] = []
    mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
    for gate in mine or (None,):
        limit = gate.limit if gate else None
        confidence = gate.confidence if gate else 0.95
        first = measure == "certified_accuracy" and not findings
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
        findings.append(finding)
    return findings


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


def _method(check: str, model: Loaded, data: ImageData, claim: Claim, n: int, seed: int) -> Method:
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
