"""Training of the image detectors: the heads on true generators, the network on self-made pairs.

    real/<source>/*, fake/<generator>/*     history-matched pictures; whole clusters are held out
    photos/<source>/*                       more photographs; each gets one JPEG history of the fakes' kind
    pairs/real/<source>/*, pairs/<process>/<source>/*   lossless crops before and after one process

What is shipped is fitted to everything; what is published is measured with the cluster left out.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy

from assaymark.provenance.conformal import operating_point, zone
from assaymark.provenance.deliveries import deliver
from assaymark.provenance.detection_intervals import Sample, bootstrap, sample
from assaymark.provenance.detection_scores import auc, calibration_error, true_positive_rate_at
from assaymark.provenance.image_heads import FEATURES, Head, Rows, features, fit, held_out
from assaymark.provenance.image_planes import SMALLEST, Pixels, crops
from assaymark.provenance.material import read_picture
from assaymark.provenance.residual_network import load_network
from assaymark.provenance.score_calibration import calibrate, held_out_llrs
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

HISTORIES = ("jpeg75", "jpeg80", "jpeg95")  # what a photograph without history is given, in turn
AUGMENTED = (
    ("jpeg75",),
    ("resize75-bicubic", "jpeg80"),
    ("blur0.5", "jpeg80"),
    ("resize125-bicubic", "jpeg80"),
)
"""Deliveries of every training picture; the heads are turned away from what they change."""
PER_SOURCE = 40  # photographs: a large package would outweigh the others
FAMILIES = {
    "sd15_cheatsheet": "stable diffusion 1",
    "sd1_official": "stable diffusion 1",
    "biggan": "gan",
    "progan": "gan",
}
"""Generators that are held out together."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A picture to train on. cluster: its source or generator. group: what is held out with it."""

    path: Path
    fake: bool
    cluster: str
    group: str
    history: str | None = None


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
            turn = zlib.crc32(f"{cluster}/{path.name}".encode()) % len(HISTORIES)
            found.append(
                File(path=path, fake=False, cluster=cluster, group=package, history=HISTORIES[turn])
            )
    for fake, word in ((False, "sources of photographs"), (True, "generators")):
        number = len({file.group for file in found if file.fake == fake})
        if number < 2:
            raise InputError(
                f"{data} holds {number} {word}: expected real/<source>/* and fake/<generator>/* with at "
                "least two of each, so that whole ones can be held out"
            )
    return found


def _pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    for inside in sorted(folder.iterdir()) if folder.is_dir() else ():
        if inside.is_dir():
            yield from ((inside.name, path) for path in sorted(inside.iterdir()) if path.is_file())


def rows(of: Sequence[File], cache: Path | None = None) -> tuple[Rows, list[File]]:
    """Features of the files and of their deliveries, and the file of every row.

    Pictures below 128 pixels a side are left out. cache: an .npz that is read instead if it holds the
    same files, and written otherwise.
    """
    names = numpy.array([f"{file.path}|{file.history}" for file in of])
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
    rng = numpy.random.default_rng(zlib.crc32(file.path.name.encode()))
    pixels = crops(read_picture(file.path).pixels)[0]
    if min(pixels.shape[:2]) < SMALLEST + SMALLEST // 2:  # deliveries scale down to three quarters
        return
    if file.history:
        pixels = deliver(pixels, file.history, rng)
    yield pixels
    for chain in AUGMENTED:
        found = pixels
        for name in chain:
            found = deliver(found, name, rng)
        yield crops(found)[0]


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
    """AUC, true positives at 5 % false positives and calibration error, with intervals; JSON values."""
    reach = bootstrap(of, auc)
    share = float(of.labels.mean())
    odds = numpy.log(share / (1 - share))
    probabilities = 1 / (1 + numpy.exp(-held_out_llrs(of) - odds))
    return {
        "auc": auc(of.labels, of.scores),
        "auc_interval": [reach.low, reach.high] if reach else None,
        "tpr_at_5_percent": true_positive_rate_at(of.labels, of.scores, 0.05),
        "calibration_error": calibration_error(of.labels, probabilities),
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


def train_heads(
    data: Path, out: Path, *, photos: Path | None = None, measured_on: str, card: Mapping[str, Any]
) -> dict[str, Any]:
    """Write image_heads.safetensors and image_residual.json into `out`; returns what the second holds.

    card: what else the model card says (data, licences, blind spots). Features are kept in
    out/features.npz, so that a second call begins there. A network in out/image_residual.safetensors is
    measured on `data`, of which it has seen nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    every, made_of = rows(files(data, photos), out / "features.npz")
    scores = held_out(every, [file.group for file in made_of])
    first = every.originals
    clusters = [cluster for cluster, kept in zip(every.clusters, first, strict=True) if kept]
    detectors = {
        name: described(sample(every.labels[first], found[first], clusters), measured_on)
        for name, found in scores.items()
    }
    if (out / "image_residual.safetensors").is_file():
        detectors["residual"] = described(network_scores(out, files(data)), measured_on)
    result = {"card": dict(card), "detectors": detectors}
    heads = {name: fit(every, name, numpy.ones_like(first)) for name in FEATURES}
    write_atomically(out / "image_heads.safetensors", heads_to_bytes(heads))
    write_atomically(
        out / "image_residual.json", json.dumps(result, indent=1, allow_nan=False) + "\n"
    )
    return result


def described(of: Sample, measured_on: str) -> dict[str, Any]:
    """Operating point, zone, calibration and measurements of held-out scores; JSON values."""
    return {
        "point": asdict(operating_point(of, measured_on=measured_on)),
        "zone": asdict(zone(of)),
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
    """As safetensors: mean, scale, weights and offset of every head."""
    from safetensors.numpy import save

    return save(
        {
            f"{name}.{part}": numpy.atleast_1d(
                numpy.asarray(getattr(head, part), dtype=numpy.float32)
            )
            for name, head in heads.items()
            for part in ("mean", "scale", "weights", "offset")
        }
    )
