"""Thresholds and p-values whose false-positive rate is a theorem, and the zone where nothing is said.

Two promises, and they are kept apart. Of *files*: if the next photograph is exchangeable with those
measured, a p-value of at most α has a chance of at most α (Vovk et al. 2005, section 4.5, by label). Of
*sources*: the same if the next photograph comes from a source that is exchangeable with those measured,
which is what a user has; it averages the sources' shares and counts the unseen one as a whole (Lee,
Barber and Willett 2023, https://arxiv.org/abs/2306.06342, section 3), so fewer than 1/α - 1 sources can
never call anything generated. With 30 sources or more a rate of 5 % can instead be *pooled*: neither
the mean of the sources' shares nor the share of all files exceeds the rate, and nothing is counted for the
unseen (Dunn, Wasserman and Ramdas 2022, Distribution-Free Prediction Sets for Two-Layer Hierarchical Models,
"pooling CDFs"). That is a promise only as the sources grow many; in simulations whose sources differ it
stays within one point of the rate.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy

from assaymark.provenance.detection_intervals import Sample, bootstrap, rate_interval, sample
from assaymark.provenance.detection_scores import rate as share
from assaymark.provenance.evidence import OperatingPoint, Says
from assaymark.provenance.score_calibration import finite_number
from assaymark.reports.errors import InputError

_ENOUGH = (
    1.25  # sources times the rate: with fewer, pooled rates of the next source leave it by a point
)
Sorted = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class PValues:
    """How often a real (or a fake) file would look at least so little like its kind, in (0, 1].

    files: if files are exchangeable. sources: if only sources are, so never less than 1 / (sources + 1).
    """

    files: float
    sources: float


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """The scores measured on each source of reals and each generator of fakes, in rising order."""

    reals: Sorted
    fakes: Sorted

    def as_real(self, score: float) -> PValues:
        """Small where reals seldom score so high."""
        return _p_values([_at_least(score, scores) for scores in self.reals])

    def as_fake(self, score: float) -> PValues:
        """Small where fakes seldom score so low."""
        below = [
            (int(numpy.searchsorted(scores, score, "right")), len(scores)) for scores in self.fakes
        ]
        return _p_values(below)

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Conformal":
        """Raises InputError for anything that `to_json` did not write."""
        try:
            data = json.loads(text)
            return Conformal(reals=_groups(data["reals"]), fakes=_groups(data["fakes"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"these are no measured scores ({error}): expected the JSON that evaluation wrote"
            ) from error


def conformal(of: Sample) -> Conformal:
    """Scores by cluster; they must come from a detector that was not trained on these files."""
    groups = [
        tuple(tuple(float(s) for s in sorted(of.scores[at])) for at in of.members(fake).values())
        for fake in (False, True)
    ]
    return Conformal(reals=groups[0], fakes=groups[1])


def by_category(of: Sample, categories: Sequence[str]) -> dict[str, Conformal]:
    """One for every category of files, such as a range of sizes, so that the promise holds in each."""
    names = numpy.asarray(categories, dtype=object)
    return {name: conformal(of.only(names == name)) for name in sorted(set(names))}


@dataclass(frozen=True, kw_only=True)
class Zone:
    """Where a detector speaks: `generated` at both thresholds or above, no sign below both.

    rate: the nominal share of reals that reach generated_at and of fakes that stay below clear_below.
    promised: whether generated_at keeps that rate on sources exchangeable with those measured; without
    it, it is the largest threshold any measured source asked for.
    """

    rate: float
    generated_at: float
    clear_below: float
    promised: bool

    def says(self, score: float) -> Says:
        if score >= max(self.generated_at, self.clear_below):
            return Says.GENERATED
        return Says.NOTHING if score < min(self.generated_at, self.clear_below) else Says.ABSTAINS


def zone(of: Sample, rate: float = 0.05, *, pooled: bool = False) -> Zone:
    """Thresholds of a nominal rate in (0, 1), `pooled` as in `threshold`.

    Raises InputError without files of both labels.
    """
    if of.labels.all() or not of.labels.any():
        raise InputError("thresholds need scores of reals and of fakes")
    found = conformal(of)
    at, promised = threshold(found.reals, rate, pooled=pooled)
    mirrored = tuple(tuple(-score for score in reversed(scores)) for scores in found.fakes)
    clear = -threshold(mirrored, rate, pooled=pooled)[0]
    return Zone(rate=rate, generated_at=at, clear_below=clear, promised=promised)


def threshold(reals: Sorted, rate: float, *, pooled: bool = False) -> tuple[float, bool]:
    """The least threshold that at most such a rate of reals of another source reaches, and if promised.

    With 1 / rate - 1 sources or more it is the theorem's. With fewer there is none, and the largest
    threshold that any of the sources asks for is taken: another source of their kind asks for more with
    a chance of 1 / (sources + 1). pooled: of 1.5 / rate sources or more, neither the mean of their shares
    nor the share of all files exceeds the rate, which is less strict and no theorem. Always just above
    a measured score, so that scores at it do not pass.
    """
    if not 0 < rate < 1:
        raise InputError(f"a rate of false positives must lie in (0, 1), got {rate:g}")
    if not reals:
        raise InputError("a threshold needs scores of at least one source of reals")
    if pooled and _ENOUGH / len(reals) <= rate:
        files = tuple(itertools.chain.from_iterable(reals))
        return max(_reached(reals, rate * len(reals)), _reached((files,), rate)), False
    if 1 / (len(reals) + 1) <= rate:
        return _reached(reals, rate * (len(reals) + 1) - 1), True
    return max(_own_threshold(scores, rate) for scores in reals), False


def _reached(reals: Sorted, most: float) -> float:
    """The least threshold where the sources' shares of scores that reach it add up to at most so much."""
    scores = numpy.concatenate(reals)
    each = numpy.concatenate([numpy.full(len(own), 1 / len(own)) for own in reals])
    order = numpy.argsort(-scores, kind="stable")
    first = int(numpy.argmax(numpy.cumsum(each[order]) > most + 1e-9))  # must not pass
    return float(numpy.nextafter(scores[order][first], math.inf))


def _own_threshold(scores: Sequence[float], rate: float) -> float:
    """One source by itself: the ⌈(n + 1)(1 - rate)⌉-th of its n scores, or its largest."""
    n = len(scores)
    rank = min(math.ceil((n + 1) * (1 - rate)), n)
    return float(numpy.nextafter(scores[rank - 1], math.inf))


def operating_point(
    of: Sample, rate: float = 0.05, *, measured_on: str, pooled: bool = False
) -> OperatingPoint:
    """The threshold for a rate of false positives, and how often it errs on sources it has not seen.

    False positives of a source are counted at the threshold of the other sources; true positives at that
    of all, which no fake had a part in. pooled: as in `threshold`. The bounds are the farther one of a
    bootstrap of clusters and of Clopper-Pearson's on the effective number of files. Raises InputError with
    fewer than two sources of reals or without fakes.
    """
    members = of.members(False)
    if len(members) < 2 or not of.labels.any():
        raise InputError(
            f"{len(members)} sources of reals and {int(of.labels.sum())} fakes: a rate on unseen "
            "sources needs at least 2 sources and 1 fake"
        )
    at = threshold(conformal(of).reals, rate, pooled=pooled)[0]
    reals = _left_out_alarms(of, rate, pooled)
    fakes = of.only(of.labels)
    hits = sample(fakes.labels, fakes.scores >= at, fakes.clusters)
    return OperatingPoint(
        threshold=at,
        false_positive_rate=float(reals.scores.mean()),
        false_positive_rate_high=_bound(reals, upper=True),
        true_positive_rate=float(hits.scores.mean()),
        true_positive_rate_low=_bound(hits, upper=False),
        reals=len(reals.labels),
        fakes=len(hits.labels),
        sources=len(members),
        generators=len(of.members(True)),
        measured_on=measured_on,
    )


def _left_out_alarms(of: Sample, rate: float, pooled: bool) -> Sample:
    """Reals, scored 1 where they reach the threshold that the other sources ask for."""
    alarms = numpy.zeros(len(of.labels))
    members = of.members(False)
    for name, places in members.items():
        others = conformal(of.only([c != name for c in of.clusters])).reals
        alarms[places] = of.scores[places] >= threshold(others, rate, pooled=pooled)[0]
    reals = ~of.labels
    return Sample(
        labels=of.labels[reals],
        scores=alarms[reals],
        clusters=tuple(c for c, fake in zip(of.clusters, of.labels, strict=True) if not fake),
    )


def _bound(flags: Sample, *, upper: bool) -> float:
    groups = [*flags.members(False).values(), *flags.members(True).values()]
    counts = [(int(flags.scores[places].sum()), len(places)) for places in groups]
    intervals = (rate_interval(counts), bootstrap(flags, lambda _, s: share(s > 0)))
    found = [interval for interval in intervals if interval is not None]
    return max(i.high for i in found) if upper else min(i.low for i in found)


def _at_least(score: float, scores: Sequence[float]) -> tuple[int, int]:
    return len(scores) - int(numpy.searchsorted(scores, score, "left")), len(scores)


def _p_values(counts: Sequence[tuple[int, int]]) -> PValues:
    files = sum(n for _, n in counts)
    of_sources = (1 + math.fsum(k / n for k, n in counts)) / (len(counts) + 1)
    return PValues(
        files=(1 + sum(k for k, _ in counts)) / (files + 1),
        sources=round(of_sources, 12),  # thirds and sevenths that add up to a whole are one
    )


def _groups(data: Sequence[Sequence[Any]]) -> Sorted:
    groups = tuple(tuple(float(score) for score in scores) for scores in data)
    for scores in groups:
        if not scores or not all(map(math.isfinite, scores)) or list(scores) != sorted(scores):
            raise ValueError("scores of a source must be finite numbers in rising order")
    return groups


def read_zone(data: Mapping[str, Any]) -> Zone:
    """A zone from its JSON object; raises InputError for another."""
    try:
        return Zone(
            rate=finite_number(data["rate"]),
            generated_at=finite_number(data["generated_at"]),
            clear_below=finite_number(data["clear_below"]),
            promised=bool(data["promised"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"this is no zone of a detector ({error})") from error
