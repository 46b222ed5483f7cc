"""What the ensemble says of pictures that were passed on, by heads that know neither source nor generator.

The whole detector is asked, with its envelope and its abstentions: for each fold a folder of weights is
written that saw nothing of it, and its pictures are looked at as they are and after each delivery.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy

from assaymark.provenance.deliveries import BENIGN, EIGHT, deliver
from assaymark.provenance.detection_scores import auc, rate
from assaymark.provenance.evidence import Says
from assaymark.provenance.image_envelope import odd_pixels
from assaymark.provenance.image_heads import FUSED, Head, Rows, fit, folds_of
from assaymark.provenance.image_learned import ensemble_score, unsteady
from assaymark.provenance.image_planes import Pixels, crops
from assaymark.provenance.image_weights import CARD, HEADS, measured
from assaymark.reports.files import write_atomically

DELIVERIES = ("unchanged", "jpeg100-444", *dict.fromkeys((*EIGHT, *BENIGN, "blur0.5")))


@dataclass(frozen=True, kw_only=True)
class _Answer:
    score: float
    says: Says


def sweep(
    rows: Rows,
    groups: Sequence[str],
    pictures: Mapping[int, Callable[[], Pixels]],
    card: Mapping[str, Any],
    to_bytes: Callable[[Mapping[str, Head]], bytes],
    deliveries: Sequence[str] = DELIVERIES,
) -> dict[str, Any]:
    """Rates of every delivery at the card's threshold; JSON values, None where nothing is left to count.

    pictures: what to look at, by the number of its row. false_positive_rate and true_positive_rate are of
    all files, abstentions not accused; auc is of the scores of all files that are looked at. flipped: the
    share that goes from generated to nothing found or back; it abstains on the others that change.
    deliveries: "unchanged" among them.
    """
    fold = folds_of(rows.labels, groups)
    answers: dict[str, dict[int, _Answer]] = {name: {} for name in deliveries}
    with TemporaryDirectory() as scratch:
        for number in sorted(set(fold)):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            heads = {name: fit(rows, name, fold != number) for name in FUSED}
            write_atomically(folder / HEADS, to_bytes(heads))
            write_atomically(folder / CARD, json.dumps(card))
            for row, picture in pictures.items():
                if fold[row] == number:
                    _ask(picture(), row, folder, answers)
    return {name: _counted(found, answers["unchanged"], rows) for name, found in answers.items()}


def _ask(pixels: Pixels, row: int, folder: Path, answers: Mapping[str, dict[int, _Answer]]) -> None:
    for name, found in answers.items():
        rng = numpy.random.default_rng(zlib.crc32(f"{row} {name}".encode()))
        answer = _answer(deliver(pixels, name, rng), folder)
        if answer:
            found[row] = answer


def _answer(pixels: Pixels, folder: Path) -> _Answer | None:
    """None where the picture lies outside what the detector looks at."""
    stated = measured("ensemble", folder)
    if stated is None or odd_pixels(crops(pixels)[0]):
        return None
    score = ensemble_score(pixels, folder)
    if unsteady(pixels, score, stated.point.threshold, folder):
        return _Answer(score=score, says=Says.ABSTAINS)
    reached = score >= stated.point.threshold
    return _Answer(score=score, says=Says.GENERATED if reached else Says.NOTHING)


def _counted(
    found: Mapping[int, _Answer], before: Mapping[int, _Answer], rows: Rows
) -> dict[str, Any]:
    """`before` holds the pictures that the detector looks at unchanged: rates are of those."""
    at = sorted(found.keys() & before.keys())
    labels = rows.labels[at]
    firm = {Says.GENERATED, Says.NOTHING}
    said: dict[bool, list[Says]] = {True: [], False: []}
    for row in before:
        said[bool(rows.labels[row])].append(found[row].says if row in found else Says.ABSTAINS)
    pairs = [{before[row].says, found[row].says} for row in at]
    return {
        "auc": auc(labels, [found[row].score for row in at]),
        "false_positive_rate": rate([says is Says.GENERATED for says in said[False]]),
        "true_positive_rate": rate([says is Says.GENERATED for says in said[True]]),
        "abstained_reals": rate([says is Says.ABSTAINS for says in said[False]]),
        "abstained_fakes": rate([says is Says.ABSTAINS for says in said[True]]),
        "flipped": sum(pair == firm for pair in pairs) / len(before) if before else None,
        "reals": len(said[False]),
        "fakes": len(said[True]),
    }
