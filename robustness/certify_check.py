"""The certificate check: how much of a data set is proven safe, beside what an attack still breaks.

The certificate bounds robust accuracy from below and the attack from above. A point that is certified
and fooled would mean that one of the two is wrong, so that the check stops.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from assaymark.reports.errors import InputError
from assaymark.reports.model import (
    CheckResult,
    Gate,
)
from assaymark.robustness import catalogue, certify_findings
from assaymark.robustness.check import class_names
from assaymark.robustness.evaluate import evaluate, frozen, subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.proofs import Claim, attack_smoothed, prove, sandwich
from assaymark.robustness.shard import Search
from assaymark.robustness.shards import Shards
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack


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

    examples: how many points to draw at random, by default all. workers: processes side by side on a
    CPU. Raises InputError when model and data do not fit together or a step of the model cannot be
    bounded, InternalContradiction when an attack fools what is certified.
    """
    class_names(model, data)
    if torch.device(device).type == "mps":
        raise InputError(
            "certificates are computed in float64, which MPS does not have: use --device cpu"
        )
    attacks: dict[str, Attack] = {
        name: catalogue.find(name, dict(options), claim.norm) for name, options in claim.tried
    }
    chosen = subset(len(data.images), examples, seed, check)
    x, y = data.images[chosen].to(device), data.labels[chosen].to(device)
    streams = Streams.of(seed, check, chosen)
    began = time.perf_counter()
    tell = partial(_told, progress, len(x))
    with frozen(model.module):
        proof = prove(
            model.module, x, y, claim, batch_size, streams, workers=workers, progress=tell
        )
    run = partial(
        evaluate, attacks=attacks, eps=claim.eps, norm=claim.norm, seed=seed, check=check,
        indices=chosen, device=device, keep=0, shards=Shards(workers=workers),
    )  # fmt: skip
    if claim.smoothing is None:
        attacked = run(model.module, x, y, search=Search(batch_size=batch_size))
        robust = attacked.robust
        sandwich(proof.held, robust)
    else:
        attacked, robust = attack_smoothed(
            run, model, x, y, proof, claim, batch_size, seed, streams
        )
        proof = replace(proof, held=proof.held & robust)
    seconds = time.perf_counter() - began
    findings = [
        finding
        for measure in ("certified_accuracy", "clean_accuracy")
        for finding in certify_findings.findings(
            check, model, claim, proof, attacked, robust, measure, gates, tags, seconds
        )
    ]
    return CheckResult(
        findings=tuple(findings),
        method=certify_findings.method(check, model, data, claim, len(chosen), seed),
        digests={model.name: model.sha256} if model.sha256 else {},
    )


def _told(progress: Callable[[int, int], None], total: int, done: int) -> None:
    progress(done, total)
