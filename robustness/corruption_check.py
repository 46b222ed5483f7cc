"""The corruption check: a classifier on images as cameras, weather and processing leave them."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.intervals import clopper_pearson, effective_size, sample_size_to_decide
from assaymark.reports.model import (
    CheckResult,
    Cost,
    Finding,
    Gate,
    Interval,
    Limit,
    Method,
)
from assaymark.robustness.check import class_names
from assaymark.robustness.corruption_evidence import evidence, pictures
from assaymark.robustness.corruption_scores import Ratio, Scores, corruption_error, score
from assaymark.robustness.corruptions import CORRUPTIONS, MAIN, SEVERITIES
from assaymark.robustness.evaluate import subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded

_RATIOS = ("mean_corruption_error", "relative_mean_corruption_error")
_MEASURES = ("corruption_accuracy", "worst_corruption_accuracy", "clean_accuracy", *_RATIOS)


def chosen_corruptions(names: tuple[str, ...], channels: int) -> tuple[str, ...]:
    """The corruptions that "main", "all" and names stand for, in the table's order.

    Those that change colours only are left out for images of one channel. Raises InputError for an
    unknown name, or when nothing is left.
    """
    known = ["main", "all", *CORRUPTIONS]
    for name in names:
        if name not in known:
            raise InputError(f'unknown corruption "{name}"{nearest(name, known)}')
    wanted = [
        name
        for name in CORRUPTIONS
        if name in names or "all" in names or ("main" in names and name in MAIN)
    ]
    fitting = tuple(n for n in wanted if channels > 1 or not CORRUPTIONS[n].colour_only)
    if not fitting:
        raise InputError(
            f"{', '.join(wanted)} changes colours only, and these images have one channel: choose "
            "another corruption"
        )
    return fitting


def check_corruptions(
    check: str,
    model: Loaded,
    data: ImageData,
    *,
    corruptions: tuple[str, ...] = ("main",),
    severities: tuple[int, ...] = SEVERITIES,
    reference: Loaded | None = None,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    examples: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: int = 6,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Accuracy under common corruptions (arXiv 1903.12261), in the mean and of the worst.

    corruptions: names, "main" (the 15) or "all" (the 4 extra ones too). reference: a model to divide
    errors by; it sees the same corrupted images. examples: how many images to draw at random, by
    default all. keep: how many pictures go into the evidence. Raises InputError when model, data and
    reference do not fit together.
    """
    classes = class_names(model, data)
    if reference is not None:
        class_names(reference, data)
    names = chosen_corruptions(corruptions, data.images.shape[1])
    chosen = subset(len(data.images), examples, seed, check)
    own, *others = score(
        (model,) if reference is None else (model, reference),
        data.images[chosen],
        data.labels[chosen],
        names,
        tuple(sorted(severities)),
        check=check,
        seed=seed,
        indices=chosen,
        batch_size=batch_size,
        device=device,
        workers=workers,
        progress=progress,
    )
    other = others[0] if others else None
    seen = pictures(check, model, data, own, chosen, classes, seed, device, keep)
    findings: list[Finding] = []
    for measure in _MEASURES:
        mine: tuple[Gate | None, ...] = tuple(gate for gate in gates if gate.metric == measure)
        if not mine and (measure not in _RATIOS or other is not None):
            mine = (None,)
        for gate in mine:
            finding = _finding(check, model, measure, gate, own, other, seed)
            if measure == "corruption_accuracy" and not any(f.evidence for f in findings):
                finding = replace(
                    finding,
                    evidence=(*evidence(check, own, other, gate, seed), *seen),
                    cost=Cost(seconds=own.seconds, forward=own.forward, backward=0),
                )
            findings.append(replace(finding, references=tags))
    digests = {m.name: m.sha256 for m in (model, reference) if m is not None and m.sha256}
    return CheckResult(
        findings=tuple(findings),
        method=_method(check, model, data, own, reference, seed),
        digests=digests,
    )


def _finding(
    check: str,
    model: Loaded,
    measure: str,
    gate: Gate | None,
    own: Scores,
    other: Scores | None,
    seed: int,
) -> Finding:
    confidence = gate.confidence if gate else 0.95
    value, interval, summary = _measured(check, measure, own, other, confidence, seed)
    finding = Finding(
        check=check,
        target=model.name,
        measure=measure,
        summary=summary,
        value=value,
        interval=interval,
        n=own.n,
        limit=gate.limit if gate else None,
        severity=gate.severity if gate else "low",
    )
    if finding.judged == "inconclusive" and value is not None and gate is not None:
        finding = replace(finding, needs_n=_needs(measure, value, gate.limit, confidence, own))
    return finding


def _needs(measure: str, value: float, limit: Limit, confidence: float, own: Scores) -> int | None:
    """About how many images would decide; of the worst corruption and of ratios we do not say."""
    if measure == "clean_accuracy":
        return sample_size_to_decide(value, limit, confidence, more_than=own.n)
    if measure != "corruption_accuracy":
        return None
    trials = own.correct[0].numel()
    size = effective_size(own.shares(), trials, confidence)
    needs = sample_size_to_decide(value, limit, confidence)
    if size is None or needs is None:
        return None
    return max(own.n + 1, math.ceil(needs * own.n / size))


def _measured(
    check: str, measure: str, own: Scores, other: Scores | None, confidence: float, seed: int
) -> tuple[float | None, Interval | None, str]:
    n, hits = own.n, int(own.clean.sum())
    copies = f"{own.corruption_text} at {own.severity_text}"
    if measure == "clean_accuracy":
        summary = f"{hits} of {n} images are classified correctly without a corruption."
        return (hits / n if n else None), clopper_pearson(hits, n, confidence), summary
    if measure == "corruption_accuracy":
        right = int(own.correct.sum())
        summary = f"{right} of {own.correct.numel()} corrupted copies of {n} images are classified "
        return own.accuracy(), own.interval(confidence), f"{summary}correctly ({copies})."
    if measure == "worst_corruption_accuracy":
        worst = own.worst(confidence)
        if worst is None:
            return None, None, "There are no images."
        name, value, interval = worst
        return value, interval, f"{name} costs most: the mean over {own.severity_text}."
    if other is None:
        return None, None, "There is no reference model to compare with."
    relative = measure == _RATIOS[1]
    ratio = corruption_error(
        own, other, relative=relative, confidence=confidence, seed=seed, check=check
    )
    return ratio.mean, ratio.interval, _ratio_summary(own, ratio, relative)


def _ratio_summary(own: Scores, ratio: Ratio, relative: bool) -> str:
    main = [name for name in own.corruptions if name in MAIN]
    if not main:
        return "None of the 15 main corruptions was chosen, over which this mean is taken."
    if ratio.undefined:
        more = " more than clean" if relative else ""
        return (
            f"The reference model makes no errors{more} under {', '.join(ratio.undefined)}, so the "
            "ratio is undefined."
        )
    what = "Errors beyond the clean ones" if relative else "Errors"
    return (
        f"{what} as a ratio to the reference model's, mean over {len(main)} of the 15 main "
        f"corruptions at {own.severity_text}; 1 is as good as the reference."
    )


def _method(
    check: str,
    model: Loaded,
    data: ImageData,
    own: Scores,
    reference: Loaded | None,
    seed: int,
) -> Method:
    untested = []
    if left := [name for name in CORRUPTIONS if name not in own.corruptions]:
        untested.append(f"the corruptions {', '.join(left)}")
    if left := [str(severity) for severity in SEVERITIES if severity not in own.severities]:
        untested.append(f"severity {', '.join(left)}")
    untested.append("changes of the scene, of the viewpoint or of what is in the pictures")
    untested.append("images made to fool the model: see a robustness check")
    if own.n < len(data.images):
        untested.append(
            f"{len(data.images) - own.n} of {len(data.images)} images of {data.name}, which were not "
            "used"
        )
    small = max(data.images.shape[-2:]) <= 64
    steps = [
        f"{own.n} images of {data.name}"
        + ("" if own.n == len(data.images) else f", drawn at random with seed {seed}")
        + f"; {own.corruption_text} at {own.severity_text}, with the constants of "
        + ("CIFAR-10-C." if small else "ImageNet-C."),
        "Random numbers belong to an image, a corruption and a severity. Frost uses generated ice "
        "textures, not the published photographs, so numbers differ a little from those of the "
        "published files.",
        "n counts images, not copies: copies of one image are not independent. Intervals of accuracies "
        "are Korn and Graubard's for clustered data; that of the worst holds for all at once; clean "
        "accuracy has an exact Clopper–Pearson interval.",
    ]
    if reference is not None:
        steps.append(
            f"Errors are divided by those of {reference.name} on the same corrupted images; intervals "
            "of the ratios are bootstrap percentiles over images."
        )
    if model.note:
        steps.append(model.note + ".")
    return Method(
        check=check,
        title=f"Common corruptions of what {model.name} sees",
        steps=tuple(steps),
        not_tested=tuple(untested),
        sources=(
            "Hendrycks and Dietterich 2019, arXiv 1903.12261",
            "Korn and Graubard 1998, Survey Methodology 24",
        ),
    )
