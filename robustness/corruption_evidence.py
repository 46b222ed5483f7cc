"""What a reader of a corruption check can look at: a chart, a table, and pictures that fell."""

from dataclasses import replace

import torch

from assaymark.reports.intervals import clopper_pearson
from assaymark.reports.model import (
    Estimate,
    Estimates,
    Evidence,
    Gate,
    ImageTrio,
    Interval,
    Table,
)
from assaymark.robustness.corruption_scores import Scores, corruption_error
from assaymark.robustness.corruptions import CORRUPTIONS, corrupt
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import logits_of
from assaymark.robustness.pictures import trio
from assaymark.robustness.shard import Example
from assaymark.robustness.streams import Streams


def evidence(
    check: str, own: Scores, other: Scores | None, gate: Gate | None, seed: int
) -> tuple[Evidence, ...]:
    """The accuracies as a chart and as a table; with a reference also each corruption's ratios."""
    hits = int(own.clean.sum())
    marks = [_mark("no corruption", own.clean.double().mean().item(), clopper_pearson(hits, own.n))]
    for name in own.corruptions:
        marks.append(_mark(name, own.accuracy(name), own.interval(0.95, name)))
    chart = Estimates(
        title="Accuracy under each corruption",
        estimates=tuple(replace(mark, n=own.n) for mark in marks),
        limit=gate.limit.minimum if gate else None,
    )
    ratios = [
        corruption_error(
            own, other, relative=relative, confidence=0.95, seed=seed, check=check
        ).each
        for relative in (False, True)
        if other is not None
    ]
    rows = []
    for i, name in enumerate(own.corruptions):
        card = CORRUPTIONS[name]
        accuracies = own.correct[:, i].double().mean(0).tolist()
        rows.append(
            (
                name,
                card.family,
                "extra" if card.extra else "main",
                *accuracies,
                own.accuracy(name),
                *(ratio[name] for ratio in ratios),
            )
        )
    table = Table(
        title="Corruptions",
        columns=(
            "corruption",
            "family",
            "set",
            *(f"severity {severity}" for severity in own.severities),
            "mean",
            *(("error / reference", "relative") if other is not None else ()),
        ),
        rows=tuple(rows),
        note="Accuracies. The extra corruptions count in the mean accuracy where they were chosen, "
        "and never in the mean corruption error.",
    )
    return chart, table


def _mark(label: str, value: float | None, interval: Interval | None) -> Estimate:
    return Estimate(
        label=label,
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
    )


def pictures(
    check: str,
    model: Loaded,
    data: ImageData,
    own: Scores,
    chosen: list[int],
    classes: tuple[str, ...],
    seed: int,
    device: torch.device | str,
    keep: int,
) -> list[ImageTrio]:
    """For each of the worst corruptions, an image that falls at the least severity that fells one."""
    found: list[ImageTrio] = []
    order = sorted(own.corruptions, key=lambda name: own.accuracy(name) or 0.0)
    taken: set[int] = set()
    for name in order:
        fallen = own.clean[:, None] & ~own.correct[:, own.corruptions.index(name)]
        places = [place for place in fallen.T.nonzero().tolist() if place[1] not in taken]
        if not places or len(found) == keep:
            continue
        j, row = places[0]
        taken.add(row)
        index = chosen[row]
        x = data.images[index : index + 1].to(device)
        moved = corrupt(x, name, own.severities[j], Streams.of(seed, check, [index]))
        with frozen(model.module):
            before, after = logits_of(model.module, torch.cat([x, moved])).softmax(1)
        example = Example(
            index=index,
            attack=f"{name}, severity {own.severities[j]}",
            original=x[0].cpu(),
            adversarial=moved[0].cpu(),
            label=int(data.labels[index]),
            prediction=int(before.argmax()),
            confidence=float(before.max()),
            fooled_prediction=int(after.argmax()),
            fooled_confidence=float(after.max()),
        )
        found.append(trio(example, classes))
    return found
