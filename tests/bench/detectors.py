"""Detectors of pictures and speech beside peers: `python tests/bench/detectors.py DATA [--aasist FOLDER]`.

DATA holds images/manifest.csv and audio/manifest.csv with columns id, label (real or fake), source,
generator and a path for each version (native, matched). All detectors see the same files in one run.
AUC is of all files against all, its interval from 2,000 draws of whole sources and generators; TPR is at
the threshold that 5 % of the real files pass; CPU is user + system time of one thread, decoding
included, the median. Files on which a detector abstains are counted and left out. Peers: sahu65
(pip install sahu65), in a Python of its own named by --sahu65, AASIST and AASIST-L from --aasist,
published pictures' checkpoints by --checkpoint NAME=FILE.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
from scipy.stats import rankdata

from assaymark.provenance.material import open_material
from assaymark.provenance.published_detectors import ADAPTERS, look_published
from assaymark.reports.errors import InputError

Row = dict[str, str]
Scored = tuple[float | None, float]  # a score, and CPU seconds
OURS = {
    "images": {"image ensemble": "image_learned:look_ensemble"},
    "audio": {"speech": "speech:look_speech"},
}
_SAHU65 = """
import sys, time
from sahu65.config import get_settings
from sahu65.local import LocalDetector
settings = get_settings()
settings.ort_intra_threads = 1
detector = LocalDetector(settings).warm()
for line in sys.stdin:
    data = open(line.strip(), "rb").read()
    began = time.process_time()
    score = detector.detect_bytes(data).ai_probability
    print(score, time.process_time() - began, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--aasist", type=Path, help="folder of AASIST.pth and AASIST-L.pth")
    parser.add_argument("--sahu65", type=Path, help="a python that has sahu65 installed")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--versions", nargs="+", default=["matched", "native"])
    parser.add_argument("--media", nargs="+", default=["images", "audio"])
    parser.add_argument("--every", type=int, default=1, help="only each n-th file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| files | version | detector | scored | AUC (95 %) | TPR at 5 % FPR | CPU ms |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for medium in asked.media:
        folder = asked.data / medium
        with (folder / "manifest.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))[:: asked.every]
        for version in asked.versions:
            for name, score in detectors(medium, asked):
                scored = list(score([folder / row[version] for row in rows]))
                print(line(medium, version, name, rows, scored), flush=True)


def detectors(
    medium: str, asked: argparse.Namespace
) -> Iterable[tuple[str, Callable[[Sequence[Path]], Iterable[Scored]]]]:
    """What is here to be measured; what is not is said on stderr."""
    for name, place in OURS[medium].items():
        module, _, function = place.partition(":")
        try:
            look = getattr(import_module(f"assaymark.provenance.{module}"), function)
        except (ImportError, AttributeError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        yield name, partial(each_seen, look, {})
    named = [text.partition("=")[::2] for text in asked.checkpoint]
    if medium == "audio" and asked.aasist:
        named += [("aasist", asked.aasist / f"{each}.pth") for each in ("AASIST", "AASIST-L")]
    for name, file in named:
        if (ADAPTERS[name].medium.value == "audio") == (medium == "audio"):
            options = {"checkpoints": {name: file}}
            yield f"{name} ({Path(file).stem})", partial(each_seen, look_published, options)
    if medium == "images" and asked.sahu65:
        yield "sahu65", lambda paths: sahu65(asked.sahu65, paths)


def each_seen(
    look: Callable[[Any], Sequence[Any]], options: dict[str, Any], paths: Sequence[Path]
) -> list[Scored]:
    return [seen(look, path, options) for path in paths]


def seen(look: Callable[[Any], Sequence[Any]], path: Path, options: dict[str, Any]) -> Scored:
    """The first score of what a detector found, its calibrated ratio where it has one."""
    began = time.process_time()
    try:
        found = look(open_material(path, options))
    except InputError:
        found = ()
    seconds = time.process_time() - began
    values = [item.score if item.llr is None else item.llr for item in found]
    return next((value for value in values if value is not None), None), seconds


def sahu65(python: Path, paths: Sequence[Path]) -> list[Scored]:
    """Its own decoding, preprocessing, probe and calibration, one thread."""
    with subprocess.Popen(
        [python, "-c", _SAHU65], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        told, _ = process.communicate("".join(f"{path.resolve()}\n" for path in paths))
    answers = [tuple(map(float, text.split())) for text in told.splitlines()]
    assert len(answers) == len(paths), "sahu65 stopped early"
    return [(score, seconds) for score, seconds in answers]


def line(medium: str, version: str, name: str, rows: list[Row], scored: list[Scored]) -> str:
    kept = [(row, score) for row, (score, _) in zip(rows, scored, strict=True) if score is not None]
    clusters: dict[bool, dict[str, list[float]]] = {
        False: defaultdict(list),
        True: defaultdict(list),
    }
    for row, score in kept:
        fake = row["label"] != "real"
        clusters[fake][row["generator" if fake else "source"]].append(score)
    reals, fakes = (list(map(numpy.array, clusters[fake].values())) for fake in (False, True))
    start = f"| {medium} | {version} | {name} | {len(kept)} of {len(rows)} "
    milliseconds = f"{1000 * float(numpy.median([seconds for _, seconds in scored])):.0f}"
    if not reals or not fakes:
        return f"{start}| not measured | not measured | {milliseconds} |"
    real, fake_scores = numpy.concatenate(reals), numpy.concatenate(fakes)
    threshold = numpy.quantile(real, 0.95, method="higher")
    found = float((fake_scores > threshold).mean())
    low, high = interval(reals, fakes)
    area = f"{auc(real, fake_scores):.3f} ({low:.3f}–{high:.3f})"
    return f"{start}| {area} | {found:.3f} | {milliseconds} |"


def auc(real: numpy.ndarray, fake: numpy.ndarray) -> float:
    ranks = rankdata(numpy.concatenate([real, fake]))[len(real) :]
    return float((ranks.sum() - len(fake) * (len(fake) + 1) / 2) / (len(real) * len(fake)))


def interval(reals: list[numpy.ndarray], fakes: list[numpy.ndarray]) -> tuple[float, float]:
    """Quantiles over draws of whole sources and whole generators, with replacement."""
    draw = numpy.random.default_rng(0)

    def drawn(of: list[numpy.ndarray]) -> numpy.ndarray:
        return numpy.concatenate([of[i] for i in draw.integers(len(of), size=len(of))])

    areas = [auc(drawn(reals), drawn(fakes)) for _ in range(2000)]
    low, high = numpy.quantile(areas, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
