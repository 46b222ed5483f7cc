"""A detector measured on labelled files: overall, by generator and source, as delivered, and calibrated.

What is claimed of files from elsewhere rests on the number of sources and generators, not of files; with
fewer than eight of either the result says that it claims nothing, and gives its numbers for these alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
from scipy.special import expit

from assaymark.provenance.conformal import Zone, operating_point, zone
from assaymark.provenance.detect_data import read_data
from assaymark.provenance.detect_results import Calibrated, Cluster, Delivered, Evaluation, Measured
from assaymark.provenance.detect_scoring import AS_IT_IS, Score, Scored, pairs, score_files
from assaymark.provenance.detection_intervals import (
    Sample,
    Statistic,
    bootstrap,
    next_source,
    rate_interval,
    sample,
)
from assaymark.provenance.detection_scores import (
    Scores,
    auc,
    average_precision,
    brier,
    calibration_error,
    equal_error_rate,
    error_by_chance,
    reliability,
    true_positive_rate_at,
)
from assaymark.provenance.evidence import Says
from assaymark.provenance.score_calibration import held_out_llrs
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval

NEEDED = 8
"""Sources, and generators, below which nothing is claimed of others."""
_SHOWN = 20


def evaluate(
    data: Path,
    detect: Score,
    *,
    deliveries: Sequence[str] = (),
    column: str | None = None,
    rate: float = 0.05,
    threshold: float | None = None,
    ratios: bool = False,
    workers: int | None = 1,
    scores: Path | None = None,
    identity: str = "",
    replicates: int = 400,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Evaluation:
    """Score the files of a folder or table (`read_data`) and measure; the words are those of score_files.

    rate: the false positives that the threshold is for, where `threshold` does not fix it. ratios: the
    scores are log-likelihood ratios already, so their own calibration is measured; otherwise that of a
    Platt calibration fitted to the other sources and generators. Raises InputError for unreadable data or
    where no file of a label got a score.
    """
    rows = read_data(data, column=column)
    scored = score_files(
        rows,
        detect,
        deliveries=deliveries,
        workers=workers,
        scores=scores,
        identity=identity,
        progress=progress,
    )
    return measure(
        scored,
        deliveries=deliveries,
        rate=rate,
        threshold=threshold,
        ratios=ratios,
        identity=identity,
        replicates=replicates,
    )


def measure(
    scored: Sequence[Scored],
    *,
    deliveries: Sequence[str] = (),
    rate: float = 0.05,
    threshold: float | None = None,
    ratios: bool = False,
    identity: str = "",
    replicates: int = 400,
) -> Evaluation:
    """The numbers of files that are scored; the words are those of `evaluate`."""
    base = sample_of(scored)
    reals, fakes = base.members(False), base.members(True)
    if not reals or not fakes:
        raise InputError(
            f"{sum(map(len, reals.values()))} reals and {sum(map(len, fakes.values()))} fakes of "
            f"{len(scored)} files got a score: a measurement needs both. {_reasons_in_words(scored)}"
        )
    several = min(len(reals), len(fakes)) > 1
    point = operating_point(base, rate, measured_on=identity) if len(reals) > 1 else None
    zoned = zone(base, rate)
    at = zoned.generated_at if threshold is None else threshold

    def over(statistic: Statistic) -> Measured:
        return _over(base, statistic, replicates)

    clusters = tuple(_cluster(scored, name, fake, at, replicates) for fake, name in _names(scored))
    rates = [c.called.value for c in clusters if not c.fake and c.called.value is not None]
    return Evaluation(
        identity=identity,
        reals=sum(not file.labelled.fake for file in scored),
        fakes=sum(file.labelled.fake for file in scored),
        sources=len(reals),
        generators=len(fakes),
        refusal=refusal(len(reals), len(fakes)),
        coverage=len(base.labels) / len(scored),
        threshold=at,
        auc=over(auc),
        average_precision=over(average_precision),
        equal_error_rate=over(equal_error_rate),
        true_positive_rate=over(lambda y, s: true_positive_rate_at(y, s, rate)),
        point=point,
        zone=zoned,
        next_source=_of_rates(next_source(rates)),
        calibrated=_calibrated(base, ratios, replicates) if several else None,
        clusters=clusters,
        sweep=tuple(_delivered(scored, name, at, zoned, replicates) for name in deliveries),
        any_changed=_any_changed(scored, deliveries, at),
        why=_reasons(scored),
    )


def _of_rates(interval: Interval | None) -> Interval | None:
    """What of it can be a rate."""
    if interval is None:
        return None
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0))


def refusal(sources: int, generators: int) -> str:
    """Why nothing is claimed of files from elsewhere; empty where there are enough of both."""
    if min(sources, generators) >= NEEDED:
        return ""
    return (
        f"{sources} sources of reals and {generators} generators: no number can be claimed for others; that "
        f"needs at least {NEEDED} of each"
    )


def sample_of(scored: Sequence[Scored], name: str = AS_IT_IS) -> Sample:
    """The files that got a score after a delivery."""
    found = list(pairs(scored, name))
    return sample(
        [row.fake for row, _ in found],
        [score for _, score in found],
        [row.cluster for row, _ in found],
    )


def _names(scored: Sequence[Scored]) -> list[tuple[bool, str]]:
    return sorted({(file.labelled.fake, file.labelled.cluster) for file in scored})


def _over(of: Sample, statistic: Statistic, replicates: int) -> Measured:
    value = statistic(of.labels, of.scores)
    if value is None:
        return Measured(value=None)
    return Measured(value=value, interval=bootstrap(of, statistic, replicates=replicates))


def _cluster(
    scored: Sequence[Scored], name: str, fake: bool, at: float, replicates: int
) -> Cluster:
    own = [f for f in scored if f.labelled.fake == fake and f.labelled.cluster == name]
    others = [f for f in scored if f.labelled.fake != fake]
    values = [score for _, score in pairs(own)]
    return Cluster(
        name=name,
        fake=fake,
        files=len(own),
        abstained=len(own) - len(values),
        auc=_over(sample_of([*own, *others]), auc, replicates),
        called=_rate([(name, value >= at) for value in values], likeness=0.0),
    )


def _rate(flags: Sequence[tuple[str, bool]], *, likeness: float = 0.1) -> Measured:
    """A rate over clusters. likeness: 0 for the files of one cluster, of which alone it then speaks."""
    if not flags:
        return Measured(value=None)
    names = sorted({name for name, _ in flags})
    groups = [[flag for name, flag in flags if name == own] for own in names]
    interval = rate_interval([(sum(g), len(g)) for g in groups], likeness=likeness)
    return Measured(value=sum(flag for _, flag in flags) / len(flags), interval=interval)


def _delivered(
    scored: Sequence[Scored], name: str, at: float, zoned: Zone, replicates: int
) -> Delivered:
    asked = [file for file in scored if name in file.scores]
    found = list(pairs(asked, name))
    both = [
        (file.labelled.cluster, before, after)
        for file in asked
        if (before := file.scores[AS_IT_IS]) is not None
        and (after := file.scores[name]) is not None
    ]
    definite = {Says.GENERATED, Says.NOTHING}
    return Delivered(
        delivery=name,
        files=len(asked),
        abstained=len(asked) - len(found),
        auc=_over(sample_of(asked, name), auc, replicates),
        true_positive_rate=_rate([(row.cluster, s >= at) for row, s in found if row.fake]),
        false_positive_rate=_rate([(row.cluster, s >= at) for row, s in found if not row.fake]),
        changed=_rate([(c, (before >= at) != (after >= at)) for c, before, after in both]),
        contradicted=_rate(
            [(c, {zoned.says(before), zoned.says(after)} == definite) for c, before, after in both]
        ),
    )


def _any_changed(scored: Sequence[Scored], deliveries: Sequence[str], at: float) -> Measured:
    flags = []
    for file in scored:
        before = file.scores[AS_IT_IS]
        after = [s for name in deliveries if (s := file.scores.get(name)) is not None]
        if before is not None and after:
            flags.append((file.labelled.cluster, any((s >= at) != (before >= at) for s in after)))
    return _rate(flags)


def _calibrated(of: Sample, ratios: bool, replicates: int) -> Calibrated:
    """Probabilities at the share of fakes among these files."""
    share = float(of.labels.mean())
    llrs = of.scores if ratios else held_out_llrs(of)
    p: Scores = expit(llrs + numpy.log(share / (1 - share)))
    told = sample(of.labels, p, of.clusters)
    return Calibrated(
        error=_over(told, calibration_error, replicates),
        error_equal_mass=calibration_error(of.labels, p, equal_mass=True),
        by_chance=error_by_chance(p),
        brier=_over(told, brier, replicates),
        curve=reliability(of.labels, p),
    )


def _reasons(scored: Sequence[Scored]) -> tuple[tuple[str, int], ...]:
    """Reasons of abstentions on files as they are, without the files' names, most frequent first."""
    counts: dict[str, int] = {}
    for file in scored:
        if file.scores[AS_IT_IS] is None:
            why = file.why.get(AS_IT_IS, "the detector abstained")
            why = why.replace(str(file.labelled.path), "").strip()[:200]
            counts[why] = counts.get(why, 0) + 1
    return tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_SHOWN])


def _reasons_in_words(scored: Sequence[Scored]) -> str:
    return "; ".join(f"{count} x {why}" for why, count in _reasons(scored)[:3])
