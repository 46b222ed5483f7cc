"""One verdict from all evidence: points in nats that are added up by a written rule.

The rule (docs/detection.md shows the same table):

1. Every piece of evidence gets points: credentials, watermarks and statements in metadata fixed ones,
   statistics their measured log-likelihood ratio, cut to +-STATISTICS.
2. Of the pieces of one family the strongest for and the strongest against count: two statements that come
   from one hand are no two witnesses. Of k statistics that looked, the largest counts, less ln k.
3. The sum and the prior log-odds give the probability of "generated".
4. generated: the sum is at least DECIDES and some evidence that counts says so; a prior alone decides
   nothing. No sign found: the sum is at most 0, nothing that counts says generated or manipulated, however
   little it adds, and either a statistic looked or a trusted credential says that a camera took it.
   Everything else is: cannot tell.
5. A trusted credential of a capture outweighs every statistic. Where marks and statements together outweigh
   it, the evidence contradicts itself, which is: cannot tell.
6. manipulated is decided the same way on evidence of manipulation, and named where "generated" is not.

More evidence for "generated" never lowers the probability, nor the verdict in the order no sign found,
cannot tell, generated; a test asks that of random evidence.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from assaymark.provenance.evidence import Evidence, Family, Says

DECIDES = 1.0  # nats over even odds: a probability of 0.73
TRUSTED = 9.0  # a signature by somebody the user trusts
WATERMARK = 7.0  # of a key, read with its check bits, far beyond chance
STATEMENT = (
    4.0  # metadata, or a signature of anybody: easily removed, and seldom written without cause
)
STATISTICS = 3.0  # no detector of ours was measured on enough sources to say more


class Verdict(StrEnum):
    """What is said of a file."""

    GENERATED = "generated"
    MANIPULATED = "manipulated"
    NO_SIGN = "no sign found"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one piece of evidence adds to the log-odds. counts: the strongest of its family."""

    detector: str
    toward: Says
    points: float
    counts: bool


@dataclass(frozen=True, kw_only=True)
class Fused:
    """The verdict, and how it came about. Probabilities in [0, 1]; None where nothing was measured."""

    verdict: Verdict
    probability: float | None
    manipulated_probability: float | None
    contributions: tuple[Contribution, ...]
    because: str
    conflicts: tuple[str, ...] = ()


def fuse(evidence: Sequence[Evidence], *, prior: float = 0.5) -> Fused:
    """Apply the rule of this module. prior: probability in (0, 1) that such a file is generated."""
    generated = _sum(evidence, _for_generated)
    manipulated = _sum(evidence, _for_manipulated)
    total = math.log(prior / (1 - prior)) + generated.points
    verdict = _verdict(evidence, generated, total, manipulated)
    return Fused(
        verdict=verdict,
        probability=_probability(total) if generated.parts else None,
        manipulated_probability=_probability(manipulated.points) if manipulated.parts else None,
        contributions=(*generated.parts, *manipulated.parts),
        because=_because(verdict, evidence, generated, manipulated),
        conflicts=_conflicts(evidence, verdict),
    )


@dataclass(frozen=True)
class _Sum:
    points: float
    parts: tuple[Contribution, ...]
    statistic_looked: bool


def _is_statistic(item: Evidence) -> bool:
    return item.family in (Family.LEARNED, Family.FORENSIC)


def _trusted(item: Evidence) -> bool:
    return item.family is Family.CREDENTIAL and bool(item.details.get("trusted"))


def _captured(evidence: Sequence[Evidence]) -> bool:
    return any(_trusted(item) and item.says is Says.AUTHENTIC for item in evidence)


def _stated(item: Evidence, positive: Says) -> float | None:
    """Points of a piece that is no statistic; None where it says nothing of the question."""
    if item.says is positive:
        if _trusted(item):
            return TRUSTED
        keyed = item.family is Family.WATERMARK and not item.details.get("open")
        return WATERMARK if keyed else STATEMENT  # anybody can embed an open mark
    if item.says is Says.AUTHENTIC and _trusted(item):
        return -TRUSTED
    return None


def _about_manipulation(item: Evidence) -> bool:
    """Forensics asks what was changed, fitted statistics ask whether it was generated."""
    return item.family is Family.FORENSIC or item.says is Says.MANIPULATED


def _for_generated(item: Evidence) -> float | None:
    if not _is_statistic(item):
        return _stated(item, Says.GENERATED)
    return None if _about_manipulation(item) else _measured(item)


def _for_manipulated(item: Evidence) -> float | None:
    if not _is_statistic(item):
        return _stated(item, Says.MANIPULATED)
    return _measured(item) if _about_manipulation(item) else None


def _measured(item: Evidence) -> float | None:
    if item.llr is None or item.says is Says.ABSTAINS or not math.isfinite(item.llr):
        return None
    return max(-STATISTICS, min(STATISTICS, item.llr))


def _sum(evidence: Sequence[Evidence], points: Callable[[Evidence], float | None]) -> _Sum:
    """Add up families; of one the strongest on either side counts."""
    scored = [(item, value) for item in evidence if (value := points(item)) is not None]
    statistics = [pair for pair in scored if _is_statistic(pair[0])]
    counted: list[tuple[Evidence, float]] = []
    for family in (Family.CREDENTIAL, Family.WATERMARK, Family.METADATA):
        of_family = [pair for pair in scored if pair[0].family is family]
        counted += _strongest([pair for pair in of_family if pair[1] > 0])
        counted += _strongest([pair for pair in of_family if pair[1] < 0])
    if statistics:
        item, value = max(statistics, key=lambda pair: pair[1])
        counted.append((item, value - math.log(len(statistics))))
    kept = {id(item): value for item, value in counted}
    parts = tuple(
        Contribution(
            detector=item.detector,
            toward=Says.MANIPULATED if points is _for_manipulated else Says.GENERATED,
            points=kept.get(id(item), value),
            counts=id(item) in kept,
        )
        for item, value in scored
    )
    return _Sum(sum(kept.values()), parts, bool(statistics))


def _strongest(pairs: list[tuple[Evidence, float]]) -> list[tuple[Evidence, float]]:
    return [max(pairs, key=lambda pair: abs(pair[1]))] if pairs else []


def _verdict(
    evidence: Sequence[Evidence], generated: _Sum, total: float, manipulated: _Sum
) -> Verdict:
    if total >= DECIDES and _said(evidence, Says.GENERATED):
        return Verdict.CANNOT_TELL if _captured(evidence) else Verdict.GENERATED
    if manipulated.points >= DECIDES and _said(evidence, Says.MANIPULATED):
        return Verdict.CANNOT_TELL if _captured(evidence) else Verdict.MANIPULATED
    otherwise = [
        item
        for says in (Says.GENERATED, Says.MANIPULATED)
        for item in _said(evidence, says)
        if not (_is_statistic(item) and _captured(evidence))
    ]
    looked = generated.statistic_looked or _captured(evidence)
    return Verdict.NO_SIGN if looked and total <= 0 and not otherwise else Verdict.CANNOT_TELL


def _said(evidence: Sequence[Evidence], says: Says) -> list[Evidence]:
    """Pieces that say so and count: a statistic that was never measured is only shown.

    One whose ratio is no finite number adds nothing, and still keeps a file from passing.
    """
    return [
        item
        for item in evidence
        if item.says is says and not (_is_statistic(item) and item.llr is None)
    ]


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def _because(
    verdict: Verdict, evidence: Sequence[Evidence], generated: _Sum, manipulated: _Sum
) -> str:
    """The sentence of the piece that decided."""
    parts = manipulated.parts if verdict is Verdict.MANIPULATED else generated.parts
    deciding = max(
        (part for part in parts if part.counts), key=lambda part: abs(part.points), default=None
    )
    if deciding is None:
        silent = [item.summary for item in evidence if item.says is Says.ABSTAINS]
        return silent[0] if silent else "nothing that was looked at can decide it"
    said = {Verdict.GENERATED: Says.GENERATED, Verdict.MANIPULATED: Says.MANIPULATED}.get(verdict)
    pieces = [item for item in evidence if item.detector == deciding.detector]
    pieces.sort(key=lambda item: (item.says is not said, -abs(item.llr or 0)))
    return pieces[0].summary


def _conflicts(evidence: Sequence[Evidence], verdict: Verdict) -> tuple[str, ...]:
    """Evidence that speaks against each other, or that was overruled."""
    against = [item for item in evidence if item.says in (Says.GENERATED, Says.MANIPULATED)]
    if not _captured(evidence) or not against:
        return ()
    end = "is overruled" if verdict is Verdict.NO_SIGN else "contradicts it, so nothing is decided"
    return tuple(
        f"a trusted credential says that a camera took it; {item.detector} ({item.says}) {end}"
        for item in against
    )
