"""The defense check: one model before and after it was defended, under the same attacks.

Both are attacked as an attacker who knows the defenses would: through stand-ins where a transform
has no gradient, on average where the model is random, past the detector where it may reject.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from assaymark.reports.errors import InputError
from assaymark.reports.model import (
    CheckResult,
    Gate,
)
from assaymark.robustness import catalogue, defense_findings
from assaymark.robustness.check import Threat, class_names
from assaymark.robustness.defended import adaptive, is_random
from assaymark.robustness.detectors import evaluate_guarded
from assaymark.robustness.evaluate import evaluate, subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.shard import Search
from assaymark.robustness.shards import Shards
from assaymark.robustness.streams import seed_of


def check_defense(
    check: str,
    before: Loaded,
    after: Loaded,
    data: ImageData,
    threat: Threat,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    record: Mapping[str, Any] | None = None,
    examples: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: int = 6,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Clean and robust accuracy before and after, what was gained and what it cost.

    Gates are held against `after`. Differences are paired: the same images, so that their interval
    comes from the images on which the two disagree. record: what the file of weights says about its
    training. Raises InputError when the two models and the data do not fit together.
    """
    classes = class_names(after, data)
    if before.classes != after.classes:
        raise InputError(
            f"{before.name} answers {before.classes} classes and {after.name} {after.classes}: expected "
            "the same classes"
        )
    if before.access != "white-box" or after.access != "white-box":
        raise InputError(
            f"{before.name} and {after.name} are compared with gradients, so both have to be open: leave "
            "out access, and name networks instead of addresses"
        )
    if before.rejects:
        raise InputError(
            f"{before.name} may reject: name the undefended model first, and this one as the defended"
        )
    chosen = subset(len(data.images), examples, seed, check)
    found = []
    for place, model in enumerate((before, after)):
        view: nn.Module = adaptive(model.module)
        attacks = catalogue.build(threat.attacks, threat.norm)
        common: dict[str, Any] = {
            "eps": threat.eps,
            "norm": threat.norm,
            "seed": seed,
            "check": check,
            "indices": chosen,
            "search": Search(batch_size=batch_size, random=is_random(model.module)),
            "device": device,
            "keep": keep if place else 0,
            "shards": Shards(workers=workers),
            "progress": _half(progress, place),
        }
        images, labels = data.images[chosen], data.labels[chosen]
        with torch.random.fork_rng():  # random defenses draw from the global generator
            torch.manual_seed(seed_of(f"{seed}/{check}/defense"))
            if model.rejects:
                result, rejected = evaluate_guarded(view, images, labels, attacks, **common)
            else:
                result = evaluate(view, images, labels, attacks, **common)
                rejected = None
        samples = getattr(view, "samples", 1)
        found.append(
            defense_findings.Measured(evaluation=result, rejected=rejected, samples=samples)
        )
    return CheckResult(
        findings=defense_findings.findings(
            check, before, after, found, threat, gates, tags, record or {}, classes
        ),
        method=defense_findings.method(
            check, before, after, data, threat, found, len(chosen), seed
        ),
        digests={model.name: model.sha256 for model in (before, after) if model.sha256},
    )


def _half(progress: Callable[[int, int], None], place: int) -> Callable[[int, int], None]:
    return lambda done, total: progress(done + place * total, 2 * total)
