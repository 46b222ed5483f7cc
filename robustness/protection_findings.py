"""What a protection check reports: rates with intervals, the change of each picture, and the pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from assaymark.reports.intervals import clopper_pearson, sample_size_to_decide
from assaymark.reports.model import (
    Cell,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    ImageTrio,
    Method,
    Table,
)
from assaymark.robustness.picture_files import StoredPicture
from assaymark.robustness.pictures import trio
from assaymark.robustness.shard import Example
from assaymark.robustness.similarity import psnr, ssim

if TYPE_CHECKING:
    from assaymark.robustness.protection_check import Reading
    from assaymark.robustness.recognisers import Recogniser

_RATES = ("protection_rate", "surviving_protection_rate", "held_out_protection_rate")
_QUALITY = ("least_psnr", "least_ssim", "largest_change")
_CONTROL = "random noise (control)"
_ROWS = 200
"""Pictures in the table of a report, beside those that are recognised, which come first."""
_MOST_ROWS = 2000
_NAMED = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """Pictures, their copies, and what recognisers answer to both."""

    check: str
    pictures: tuple[StoredPicture, ...]
    copies: tuple[StoredPicture | None, ...]
    readings: tuple["Reading", ...]
    held_out: tuple["Reading", ...]
    treatments: tuple[str, ...]
    classes: tuple[str, ...] | None
    labels: str | None
    strangers: tuple[str, ...] = ()

    def counts(self, measure: str) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
        """Which pictures count, and which of them are protected."""
        readings = self.held_out if measure.startswith("held_out") else self.readings
        kept = slice(None) if measure.startswith("surviving") else slice(1)
        counted = torch.stack([reading.recognised[:, 0] for reading in readings]).any(0)
        readable = torch.stack([reading.readable[:, kept].any(1) for reading in readings]).any(0)
        return counted, counted & ~readable

    def answer(self, number: int) -> str:
        if self.classes is not None and number < len(self.classes):
            return self.classes[number]
        return f"class {number}"


def findings(
    result: Result, gates: tuple[Gate, ...], tags: tuple[str, ...], keep: int
) -> tuple[Finding, ...]:
    """One finding a gate, and one for each measure that has none."""
    found: list[Finding] = []
    quality = _quality(result)
    for measure in (*_RATES, *_QUALITY):
        if measure == _RATES[1] and len(result.treatments) == 1:
            continue
        if measure == _RATES[2] and not result.held_out:
            continue
        mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
        for gate in mine or (None,):
            one = (
                _rate(result, measure, gate)
                if measure in _RATES
                else _change(result, measure, gate, quality)
            )
            if measure == _RATES[0] and not found:
                one = replace(one, evidence=_evidence(result, quality, gate, keep))
            found.append(replace(one, references=tags))
    return tuple(found)


def _target(readings: Sequence["Reading"]) -> str:
    return ", ".join(reading.name for reading in readings)


def _rate(result: Result, measure: str, gate: Gate | None) -> Finding:
    counted, kept = result.counts(measure)
    n, hits = int(counted.sum()), int(kept.sum())
    confidence = gate.confidence if gate else 0.95
    finding = Finding(
        check=result.check,
        target=_target(result.held_out if measure == _RATES[2] else result.readings),
        measure=measure,
        summary=_summary(result, measure, counted, kept),
        value=hits / n if n else None,
        interval=clopper_pearson(hits, n, confidence),
        n=n,
        limit=gate.limit if gate else None,
        severity=gate.severity if gate else "low",
    )
    if finding.judged == "inconclusive" and finding.value is not None and gate is not None:
        needs = sample_size_to_decide(finding.value, gate.limit, confidence, more_than=n)
        finding = replace(finding, needs_n=needs)
    return finding


def _summary(result: Result, measure: str, counted: Tensor, kept: Tensor) -> str:
    n, hits = int(counted.sum()), int(kept.sum())
    if not n:
        return "No original is recognised, so there is nothing to protect."
    who = "no recogniser" if measure != _RATES[2] else "no recogniser that was held out"
    when = ", neither as written nor after a countermeasure" if measure == _RATES[1] else ""
    said = (
        f"{hits} of the {n} pictures that were recognised are recognised by {who} any more{when}."
    )
    left = [result.pictures[i].name for i in (counted & ~kept).nonzero().flatten().tolist()]
    if left and measure == _RATES[0]:
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        said += f" Not protected: {', '.join(left[:_NAMED])}{more}."
    absent = int((result.readings[0].missing & counted).sum())
    if absent:
        said += f" {absent} have no protected copy and count as recognised."
    return said


@dataclass(frozen=True, kw_only=True)
class _Quality:
    psnr: float
    ssim: float | None
    change: float


def _quality(result: Result) -> tuple[_Quality | None, ...]:
    """What each copy changed; None where there is no copy."""
    return tuple(
        None
        if copy is None
        else _Quality(
            psnr=psnr(picture.image, copy.image),
            ssim=ssim(picture.image, copy.image),
            # whole steps of 8 bits: exact where float32 is not
            change=int((picture.pixels.int() - copy.pixels.int()).abs().max()) / 255,
        )
        for picture, copy in zip(result.pictures, result.copies, strict=True)
    )


def _change(
    result: Result, measure: str, gate: Gate | None, quality: Sequence[_Quality | None]
) -> Finding:
    there = [one for one in quality if one is not None]
    value: float | None
    if measure == "least_psnr":
        values = [one.psnr for one in there if math.isfinite(one.psnr)]
        value = min(values, default=None)
        what = "decibels of the picture that was changed most"
        none = "No picture differs from its original, so there is no noise to measure."
    elif measure == "least_ssim":
        values = [one.ssim for one in there if one.ssim is not None]
        value = min(values, default=None)
        what = "structural similarity of the picture that was changed most, 1 is the same"
        none = "No picture is large enough for a window of structural similarity."
    else:
        values = [one.change for one in there]
        value = max(values, default=None)
        what = "largest change of a channel value, of 1"
        none = ""
    said = f"{what[0].upper()}{what[1:]}, over {len(values)} pictures."
    if value is None:
        said = none if there else "There is no protected copy."
    return Finding(
        check=result.check,
        target=_target(result.readings),
        measure=measure,
        summary=said,
        value=value,
        n=len(values),
        limit=gate.limit if gate else None,
        severity=gate.severity if gate else "low",
    )


def _evidence(
    result: Result, quality: Sequence[_Quality | None], gate: Gate | None, keep: int
) -> tuple[Evidence, ...]:
    rows: list[tuple[Cell, ...]] = []
    estimates: list[Estimate] = []
    for reading in (*result.readings, *result.held_out):
        role = "held out" if reading in result.held_out else "target"
        lost = {t: ~reading.readable[:, i] for i, t in enumerate(result.treatments)}
        lost[_CONTROL] = (reading.control != reading.own) & ~reading.missing
        for place, (treatment, unread) in enumerate(lost.items()):
            at = place if treatment != _CONTROL else 0
            seen = reading.recognised[:, 0] & reading.recognised[:, at]
            n, hits = int(seen.sum()), int((seen & unread).sum())
            absent = int((seen & reading.missing).sum())
            interval = clopper_pearson(hits, n)
            low, high = (interval.low, interval.high) if interval else (None, None)
            value = hits / n if n else None
            rows.append((reading.name, role, treatment, n, absent, hits, value, low, high))
            label = f"{reading.name}: {treatment}"
            estimates.append(Estimate(label=label, value=value, low=low, high=high, n=n))
    chart = Estimates(
        title="No longer recognised, by recogniser and countermeasure",
        estimates=tuple(estimates),
        limit=gate.limit.minimum if gate else None,
    )
    rates = Table(
        title="Recognisers and countermeasures",
        columns=(
            "recogniser",
            "role",
            "countermeasure",
            "n",
            "no copy",
            "unread",
            "rate",
            "low",
            "high",
        ),
        rows=tuple(rows),
        note="A countermeasure is done to original and protected picture alike. n: originals that are "
        "recognised as they are and after it, since what it makes unreadable by itself is no merit of the "
        "noise; unread: those of them whose copy is not. Without a copy, a picture counts as recognised. "
        "The control is the original with noise of random signs, in every value as large as the copy's "
        "largest change.",
    )
    return (chart, rates, _listing(result, quality), *_trios(result, keep))


def _listing(result: Result, quality: Sequence[_Quality | None]) -> Table:
    counted, kept = result.counts(_RATES[0])
    _, survived = result.counts(_RATES[1])
    left = counted & ~kept
    order = sorted(range(len(left)), key=lambda i: (not bool(left[i]), i))
    rows: list[tuple[Cell, ...]] = []
    for i in order[: min(max(_ROWS, int(left.sum())), _MOST_ROWS)]:
        one = quality[i]
        state = "protected" if kept[i] else "recognised" if counted[i] else "not recognised before"
        if one is None:
            state = "no protected copy"
        change = [
            f"{result.answer(int(r.before[i, 0]))} → "
            + ("–" if one is None else result.answer(int(r.after[i, 0])))
            for r in (*result.readings, *result.held_out)
        ]
        rows.append(
            (
                result.pictures[i].name,
                state,
                "yes" if survived[i] else "no",
                "; ".join(change),
                None if one is None else round(one.psnr, 2) if math.isfinite(one.psnr) else "∞",
                None if one is None else one.ssim,
                None if one is None else one.change,
            )
        )
    unseen = len(order) - len(rows)
    return Table(
        title="Pictures",
        columns=(
            "picture",
            "state",
            "survives every countermeasure",
            "answers before → after",
            "PSNR in dB",
            "SSIM",
            "largest change",
        ),
        rows=tuple(rows),
        note=f"Answers in the order of the recognisers: {_target((*result.readings, *result.held_out))}."
        + (f" {unseen} more pictures are not shown." if unseen else ""),
    )


def _trios(result: Result, keep: int) -> tuple[ImageTrio, ...]:
    """Some protected pictures, evenly spread, with the answers of the first recogniser."""
    reading = result.readings[0]
    _, kept = result.counts(_RATES[0])
    places = kept.nonzero().flatten().tolist()
    shown = []
    for i in places[:: max(math.ceil(len(places) / keep), 1)]:
        copy = result.copies[i]
        if copy is None:
            continue
        example = Example(
            index=i,
            attack="protective noise",
            original=result.pictures[i].image,
            adversarial=copy.image,
            label=int(reading.own[i]),
            prediction=int(reading.before[i, 0]),
            confidence=float(reading.sure_before[i]),
            fooled_prediction=int(reading.after[i, 0]),
            fooled_confidence=float(reading.sure_after[i]),
        )
        top = int(torch.maximum(reading.before.max(), reading.after.max()))
        names = tuple(
            result.answer(number) for number in range(max(top, int(reading.own.max())) + 1)
        )
        shown.append(replace(trio(example, names), title=result.pictures[i].name))
    return tuple(shown)


def method(result: Result, recognisers: Sequence["Recogniser"]) -> Method:
    """How the check measured, and what it does not say."""
    readings = (*result.readings, *result.held_out)
    by = {
        None: "a recogniser recognises a picture when it gives the answer that it gives to the original",
        "known": "a recogniser recognises a picture when it answers the known class",
    }.get(
        result.labels,
        f"a recogniser recognises a picture when it answers the class in {result.labels}",
    )
    steps = [
        f"{len(result.pictures)} originals and their protected copies, read from their files; noise made "
        f"for {_target(result.readings)}; held out: {_target(result.held_out) or 'none'}.",
        f"Each picture is asked about alone, in float32; {by}. Files are read upright and in 8 bits; "
        "pixels are resized, bilinear with antialiasing, to what a recogniser takes.",
        "Rates are over the originals that at least one of the recognisers recognises; a picture is "
        "protected when none of them recognises it. A missing copy counts as recognised.",
        "Intervals are exact two-sided Clopper–Pearson intervals. PSNR and SSIM are those of the files "
        "with a peak of 1; n counts pictures.",
    ]
    if len(result.treatments) > 1:
        steps.append(f"Countermeasures: {', '.join(result.treatments[1:])}.")
    steps += [f"{one.name}: {one.loaded.note}." for one in recognisers if one.loaded.note]
    untested = [
        "whoever trains a recogniser on protected pictures, or knows how the noise is made and removes it "
        "by other means: protective noise does not stop them, and a picture that was published cannot be "
        "protected better afterwards",
        "recognisers that are not listed, of which those that were held out are the only sample",
        "countermeasures that are not listed, and two of them after each other",
        "whether people can read the pictures: PSNR and SSIM stand in for that and do not decide it",
    ]
    if not result.held_out:
        untested.append("any recogniser that the noise was not made for: name one to hold out")
    missing = int(readings[0].missing.sum())
    if missing:
        untested.append(f"{missing} originals without a protected copy")
    if result.strangers:
        untested.append(
            f"{len(result.strangers)} pictures in the folder without an original, such as "
            f"{result.strangers[0]}"
        )
    return Method(
        check=result.check,
        title=f"Protection of pictures from {_target(result.readings)}",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=(
            "Dong et al. 2018, arXiv 1710.06081",
            "Athalye et al. 2018, arXiv 1707.07397",
            "Wang et al. 2004, IEEE Transactions on Image Processing 13",
            "Radiya-Dixit et al. 2022, arXiv 2106.14851 (on what such noise does not stop)",
            "Clopper and Pearson 1934, Biometrika 26",
        ),
    )
