"""Training of the image detectors: the heads on true generators, the network on self-made pairs.

    real/<source>/*, fake/<generator>/*     history-matched pictures; whole clusters are held out
    photos/<source>/*                       more photographs; each gets one JPEG history of the fakes' kind
    pairs/real/<source>/*, pairs/<process>/<source>/*   lossless crops before and after one process

What is shipped is fitted to everything; what is published is measured with the cluster left out.
"""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from assaymark.provenance.conformal import operating_point, zone
from assaymark.provenance.deliveries import deliver, jpeg, resize
from assaymark.provenance.detection_intervals import Sample, bootstrap, sample
from assaymark.provenance.detection_scores import Scores, auc, true_positive_rate_at
from assaymark.provenance.image_heads import FEATURES, PARTS, Head, Rows, features, fit, held_out
from assaymark.provenance.image_planes import SIDE, SMALLEST, Pixels, crops
from assaymark.provenance.image_sweep import sweep
from assaymark.provenance.material import read_picture
from assaymark.provenance.residual_network import load_network
from assaymark.provenance.score_calibration import calibrate, held_out_llrs, weights
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

FIRST, SECOND = (75, 85, 90, 96), (75, 85, 95)  # JPEG qualities of the matched pictures
AUGMENTED = (
    ("jpeg75",),
    ("resize75-bicubic", "jpeg80"),
    ("blur0.5", "jpeg80"),
    ("resize125-bicubic", "jpeg80"),
    ("sharpen", "jpeg90"),
)
"""Deliveries of every training picture; the heads are turned away from what they change."""
PER_SOURCE = 40  # photographs: a large package would outweigh the others
FEWEST = 5  # photographs: smaller sources of one package are measured as one
FAMILIES = {
    "sd15_cheatsheet": "stable diffusion 1",
    "sd1_official": "stable diffusion 1",
    "biggan": "gan",
    "progan": "gan",
}
"""Generators that are held out together."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A picture to train on. cluster: its source or generator. group: what is held out with it.

    raw: a photograph that is still to be given the history of the matched pictures.
    """

    path: Path
    fake: bool
    cluster: str
    group: str
    raw: bool = False


def files(
    data: Path, photos: Path | None = None, *, families: Mapping[str, str] = FAMILIES
) -> list[File]:
    """The pictures of both folders in alphabetical order; raises InputError with fewer than two clusters."""
    found = [
        File(path=path, fake=fake, cluster=cluster, group=families.get(cluster, cluster))
        for fake, name in ((False, "real"), (True, "fake"))
        for cluster, path in _pictures(data / name)
    ]
    taken: dict[str, int] = {}
    for cluster, path in _pictures(photos) if photos else ():
        taken[cluster] = taken.get(cluster, 0) + 1
        if taken[cluster] <= PER_SOURCE:
            package = f"photos:{cluster.partition('-')[0]}"
            found.append(File(path=path, fake=False, cluster=cluster, group=package, raw=True))
    found = _merged(_merged(found, lambda file: file.group), lambda file: "photos:others")
    for fake, word in ((False, "sources of photographs"), (True, "generators")):
        number = len({file.group for file in found if file.fake == fake})
        if number < 2:
            raise InputError(
                f"{data} holds {number} {word}: expected real/<source>/* and fake/<generator>/* with at "
                "least two of each, so that whole ones can be held out"
            )
    return found


def _merged(of: Sequence[File], name: Callable[[File], str]) -> list[File]:
    """The same with another cluster for the photographs of clusters of fewer than FEWEST files."""
    count = Counter(file.cluster for file in of)
    return [
        replace(file, cluster=name(file)) if file.raw and count[file.cluster] < FEWEST else file
        for file in of
    ]


def _pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    for inside in sorted(folder.iterdir()) if folder.is_dir() else ():
        if inside.is_dir():
            yield from ((inside.name, path) for path in sorted(inside.iterdir()) if path.is_file())


def rows(of: Sequence[File], cache: Path | None = None) -> tuple[Rows, list[File]]:
    """Features of the files and of their deliveries, and the file of every row.

    Pictures below 128 pixels a side are left out. cache: an .npz that is read instead if it holds the
    same files, and written otherwise.
    """
    names = numpy.array([f"{file.path}|{file.raw}" for file in of])
    stored = _stored(cache, names)
    if stored is None:
        stored = _measured(of)
        if cache is not None:
            _store(cache, stored | {"names": names})
    twin, place = stored.pop("twin"), stored.pop("place")
    made_of = [of[int(at)] for at in place]
    return Rows(
        features=stored,
        labels=numpy.array([file.fake for file in made_of]),
        clusters=tuple(file.cluster for file in made_of),
        twin=twin,
    ), made_of


def _measured(of: Sequence[File]) -> dict[str, Any]:
    vectors: dict[str, list[Any]] = {name: [] for name in FEATURES}
    twin: list[int] = []
    place: list[int] = []
    for number, file in enumerate(of):
        first = len(twin)
        for pixels in _versions(file):
            for name, vector in features(pixels).items():
                vectors[name].append(vector)
            twin.append(first)
            place.append(number)
    stacked = {name: numpy.stack(found) for name, found in vectors.items()}
    return stacked | {"twin": numpy.array(twin), "place": numpy.array(place)}


def _versions(file: File) -> Iterator[Pixels]:
    """The middle crop with its history, then its deliveries."""
    rng = numpy.random.default_rng(zlib.crc32("/".join(file.path.parts[-2:]).encode()))
    whole = read_picture(file.path).pixels
    pixels = matched(whole, rng) if file.raw else crops(whole)[0]
    if min(pixels.shape[:2]) < SMALLEST + SMALLEST // 2:  # deliveries scale down to three quarters
        return
    yield pixels
    for chain in AUGMENTED:
        found = pixels
        for name in chain:
            found = deliver(found, name, rng)
        yield crops(found)[0]


def matched(pixels: Pixels, rng: numpy.random.Generator) -> Pixels:
    """A crop that was published as the matched pictures were: reduced, saved, cut off the grid, saved.

    Reduced as far as 256 pixels a side allow, at most to two thirds, in half of all cases: photographs
    of data sets are reduced, those of cameras are not.
    """
    least = max(2 / 3, SIDE / min(pixels.shape[:2]))
    if least < 1 and rng.random() < 0.5:
        scale, kind = (
            float(rng.uniform(least, 1)),
            str(rng.choice(("bilinear", "bicubic", "lanczos"))),
        )
        pixels = resize(pixels, rng, scale=scale, filter_=kind)
    once = jpeg(pixels, rng, quality=int(rng.choice(FIRST)), chroma="4:2:0")
    top, left = (int(rng.integers(max(1, side - SIDE + 1))) for side in once.shape[:2])
    cut = once[top : top + SIDE, left : left + SIDE]
    return jpeg(cut, rng, quality=int(rng.choice(SECOND)), chroma="4:2:0")


def _stored(cache: Path | None, names: Any) -> dict[str, Any] | None:
    if cache is None or not cache.is_file():
        return None
    with numpy.load(cache, allow_pickle=False) as archive:
        found = dict(archive)
    same = found.pop("names", None)
    return found if same is not None and numpy.array_equal(same, names) else None


def _store(cache: Path, arrays: Mapping[str, Any]) -> None:
    import io

    stream = io.BytesIO()
    numpy.savez(stream, **arrays)
    write_atomically(cache, stream.getvalue())


def measured(of: Sample) -> dict[str, Any]:
    """AUC and true positives at 5 % false positives with intervals, and calibration error; JSON values."""
    reach = bootstrap(of, auc)
    found = bootstrap(of, lambda y, z: true_positive_rate_at(y, z, 0.05))
    llrs = held_out_llrs(of)
    return {
        "auc": auc(of.labels, of.scores),
        "auc_interval": [reach.low, reach.high] if reach else None,
        "tpr_at_5_percent": true_positive_rate_at(of.labels, of.scores, 0.05),
        "tpr_interval": [found.low, found.high] if found else None,
        "calibration_error": balanced_error(of, llrs),
        "per_generator": {
            name: auc(both.labels, both.scores)
            for name, places in of.members(True).items()
            for both in [of.only(~of.labels | numpy.isin(numpy.arange(len(of.labels)), places))]
        },
        "per_source": {
            name: auc(both.labels, both.scores)
            for name, places in of.members(False).items()
            for both in [of.only(of.labels | numpy.isin(numpy.arange(len(of.labels)), places))]
        },
    }


def balanced_error(of: Sample, llrs: Scores) -> float:
    """ECE in ten bins at even prior odds, every source and generator weighed as in `calibrate`."""
    probability = 1 / (1 + numpy.exp(-llrs))
    bins = numpy.minimum((probability * 10).astype(int), 9)
    gaps = numpy.bincount(bins, weights(of) * (of.labels - probability), minlength=10)
    return float(numpy.abs(gaps).sum())


def train_heads(
    data: Path,
    out: Path,
    *,
    photos: Path | None = None,
    measured_on: str,
    card: Mapping[str, Any],
    every: int | None = None,
) -> dict[str, Any]:
    """Write image_heads.safetensors and image_residual.json into `out`; returns what the second holds.

    card: what else the model card says (data, licences, blind spots). Features are kept in
    out/features.npz, so that a second call begins there. A network in out/image_residual.safetensors is
    measured on `data`, of which it has seen nothing. every: also look at each so manieth file after the
    deliveries of `sweep`.
    """
    out.mkdir(parents=True, exist_ok=True)
    table, made_of = rows(files(data, photos), out / "features.npz")
    groups = [file.group for file in made_of]
    scores = held_out(table, groups)
    first = table.originals
    own = [file for file, kept in zip(made_of, first, strict=True) if kept]
    samples = {
        name: sample(table.labels[first], found[first], [file.cluster for file in own])
        for name, found in scores.items()
    }
    detectors = {name: described(of, measured_on) for name, of in samples.items()}
    given = numpy.array([not file.raw for file in own])
    if not given.all():
        detectors["ensemble"]["of_data_alone"] = measured(samples["ensemble"].only(given))
    if (out / "image_residual.safetensors").is_file():
        detectors["residual"] = described(network_scores(out, files(data)), measured_on)
    result = {"card": dict(card), "detectors": detectors}
    if every:
        places = numpy.flatnonzero(first)[::every]
        pictures = {int(at): partial(_first, made_of[at]) for at in places}
        detectors["ensemble"]["sweep"] = sweep(table, groups, pictures, result, heads_to_bytes)
    heads = {name: fit(table, name, numpy.ones_like(first)) for name in FEATURES}
    write_atomically(out / "image_heads.safetensors", heads_to_bytes(heads))
    write_atomically(
        out / "image_residual.json", json.dumps(result, indent=1, allow_nan=False) + "\n"
    )
    return result


def _first(file: File) -> Pixels:
    return next(_versions(file))


def described(of: Sample, measured_on: str) -> dict[str, Any]:
    """Operating point, zone, calibration and measurements of held-out scores; JSON values."""
    return {
        "point": asdict(operating_point(of, measured_on=measured_on, pooled=True)),
        "zone": asdict(zone(of, pooled=True)),
        "calibration": json.loads(calibrate(of, measured_on=measured_on).to_json()),
        "measured": measured(of),
    }


def network_scores(out: Path, of: Sequence[File]) -> Sample:
    """The logits of the network in `out` on the middle crops of the files."""
    import torch

    network = load_network(out / "image_residual.safetensors")
    scores = []
    for file in of:
        pixels = numpy.array(
            crops(read_picture(file.path).pixels)[0]
        )  # a copy: torch writes to none
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            scores.append(float(network(images)[0]))
    return sample([file.fake for file in of], scores, [file.cluster for file in of])


def heads_to_bytes(heads: Mapping[str, Head]) -> bytes:
    """As safetensors: the PARTS of every head."""
    from safetensors.numpy import save

    return save(
        {
            # in C order: safetensors writes an array's memory as it lies
            f"{name}.{part}": numpy.ascontiguousarray(getattr(head, part), dtype=numpy.float32)
            for name, head in heads.items()
            for part in PARTS
        }
    )
