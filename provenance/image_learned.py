"""What fitted detectors say of a picture: four single ones that explain, and one ensemble that counts.

The single detectors give a score and a drawing and no ratio: the ensemble is made of them, and evidence
must not be counted twice. All abstain outside the envelope that was measured: there, false positives
exceed what the operating point states. The ensemble also abstains where its answer does not survive the
picture being saved again. options["image_weights"] names a folder of weights that the user trained.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
from jaxtyping import Float

from assaymark.provenance.deliveries import deliver
from assaymark.provenance.evidence import (
    Curve,
    Evidence,
    Family,
    HeatMap,
    OperatingPoint,
    Says,
    abstains,
)
from assaymark.provenance.image_envelope import outside
from assaymark.provenance.image_heads import FEATURES, FUSED
from assaymark.provenance.image_planes import Pixels, Planes, crops, planes
from assaymark.provenance.image_spectrum import TILE
from assaymark.provenance.image_weights import (
    SHIPPED,
    Measured,
    folder_of,
    load_heads,
    load_network,
    measured,
)
from assaymark.provenance.material import Material
from assaymark.reports.errors import InputError

MOST_CROPS = 3  # of a large picture; the score is their median
NEAR = 0.5  # standard deviations of the score: this near the threshold, the picture is saved again
AGAIN = ("jpeg75", "webp75", "crop90", "resize75-bicubic")
CHANGED = 2  # answers, of those after AGAIN, that make it abstain
_WIDEST = 512  # pixels a side of what the network looks at
_CELLS = 64  # a side of the heat map

_ABOUT = {
    "spectrum": "the shape of its power spectrum",
    "cooccurrence": "how often small residuals stand side by side",
}


def look_spectral(material: Material) -> Sequence[Evidence]:
    """The azimuthal power spectrum: a score, and the spectrum as a curve."""
    return [_single(material, "spectrum", "spectrum", _draw_spectrum)]


def look_cooccurrence(material: Material) -> Sequence[Evidence]:
    """Co-occurrences of rounded residuals: a score."""
    return [_single(material, "co-occurrence", "cooccurrence", lambda found: ())]


def look_residual(material: Material) -> Sequence[Evidence]:
    """The network on residuals: a score, and its patches' scores as a heat map."""
    begun = time.process_time()
    picture, folder = material.picture, folder_of(material)
    network, stated = load_network(folder), measured("residual", folder)
    why = outside(picture)
    if not why and (network is None or stated is None):
        why = f"{folder} holds no network whose errors were measured"
    if why or stated is None:
        return [abstains("residual", Family.LEARNED, why or "")]
    patches = _patches(network, picture.pixels)
    return [_said("residual", stated, float(patches.mean()), (_heat(patches),), begun)]


def look_ensemble(material: Material) -> Sequence[Evidence]:
    """The mean of the heads, with the log-likelihood ratio that counts."""
    begun = time.process_time()
    picture, folder = material.picture, folder_of(material)
    stated = _stated("ensemble", folder)
    why = outside(picture)
    if why:
        return [abstains("learned", Family.LEARNED, why)]
    score = ensemble_score(picture.pixels, folder)
    why = unsteady(picture.pixels, score, stated.point.threshold, folder)
    if why:
        return [abstains("learned", Family.LEARNED, why, score=score)]
    return [_said("learned", stated, score, (), begun, llr=stated.calibration.llr(score))]


def unsteady(pixels: Pixels, score: float, threshold: float, folder: Path) -> str | None:
    """Why the answer would not survive the picture being passed on; None where it does."""
    if abs(score - threshold) >= NEAR:
        return None
    reached = score >= threshold
    again = _saved_again(pixels, folder)
    changed = sum((other >= threshold) != reached for other in again)
    if changed < CHANGED:
        return None
    return (
        f"its score of {score:.2f} lies at the threshold of {threshold:.2f}, and the answer changes in "
        f"{changed} of {len(again)} deliveries"
    )


def ensemble_score(pixels: Pixels, folder: Path = SHIPPED) -> float:
    """Median over the middle crops of the mean of the fused heads; higher is more like generated pictures.

    pixels: RGB of at least 128 x 128. folder: of the weights.
    """
    return float(numpy.median([_fused(planes(crop), folder) for crop in crops(pixels, MOST_CROPS)]))


def _fused(picture: Planes, folder: Path) -> float:
    heads = load_heads(folder)
    return float(numpy.mean([heads[name].score(FEATURES[name](picture)) for name in FUSED]))


def _saved_again(pixels: Pixels, folder: Path) -> list[float]:
    rng = numpy.random.default_rng(0)
    crop = crops(pixels)[0]
    return [ensemble_score(deliver(crop, name, rng), folder) for name in AGAIN]


def _single(
    material: Material,
    detector: str,
    name: str,
    draw: Callable[[Planes], tuple[HeatMap | Curve, ...]],
) -> Evidence:
    begun = time.process_time()
    picture, folder = material.picture, folder_of(material)
    stated, head = _stated(name, folder), load_heads(folder)[name]
    why = outside(picture)
    if why:
        return abstains(detector, Family.LEARNED, why)
    found = [planes(crop) for crop in crops(picture.pixels, MOST_CROPS)]
    score = float(numpy.median([head.score(FEATURES[name](one)) for one in found]))
    return _said(detector, stated, score, draw(found[0]), begun, about=_ABOUT[name])


def _stated(name: str, folder: Path) -> Measured:
    stated = measured(name, folder)
    if stated is None:
        raise InputError(
            f"{folder} states nothing measured of {name}: train again with this version"
        )
    return stated


def _said(
    detector: str,
    stated: Measured,
    score: float,
    drawings: tuple[HeatMap | Curve, ...],
    begun: float,
    *,
    about: str = "several statistics of its pixels together",
    llr: float | None = None,
) -> Evidence:
    reached = score >= stated.point.threshold
    return Evidence(
        detector=detector,
        family=Family.LEARNED,
        says=Says.GENERATED if reached and stated.above_chance else Says.NOTHING,
        summary=_sentence(about, score, stated.point) if stated.above_chance else _ONLY_SHOWN,
        score=score,
        llr=llr,
        point=stated.point,
        drawings=drawings,
        seconds=time.process_time() - begun,
    )


_ONLY_SHOWN = (
    "a small network on its residuals: only shown, since on generators it was not trained on it did "
    "not do better than chance"
)


def _sentence(about: str, score: float, point: OperatingPoint) -> str:
    beyond = "reaches" if score >= point.threshold else "stays below"
    return (
        f"{about}: {score:.2f} {beyond} the threshold of {point.threshold:.2f}, which "
        f"{point.false_positive_rate:.1%} of photographs of unseen sources reached "
        f"(at most {point.false_positive_rate_high:.1%}) and {point.true_positive_rate:.0%} of pictures of "
        "unseen generators"
    )


def _draw_spectrum(picture: Planes) -> tuple[Curve, ...]:
    from assaymark.provenance.image_spectrum import azimuthal, tiles

    power = (numpy.abs(tiles(picture.luma)) ** 2).mean(0)
    ring = 10 * numpy.log10(azimuthal(power)[1:] + 1e-2)
    return (
        Curve(
            title="Azimuthal power spectrum",
            x=tuple(float(k / TILE) for k in range(1, len(ring) + 1)),
            y=tuple(float(value) for value in ring),
            x_label="cycles a pixel",
            y_label="power, dB",
        ),
    )


def _patches(network: Any, pixels: Pixels) -> Float[numpy.ndarray, "rows columns"]:
    """The network's logits over the middle of the picture, 8 pixels apart."""
    import torch

    height, width = pixels.shape[:2]
    top, left = max(0, height - _WIDEST) // 2, max(0, width - _WIDEST) // 2
    part = numpy.array(pixels[top : top + _WIDEST, left : left + _WIDEST])
    images = torch.from_numpy(part).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        found: Float[numpy.ndarray, "rows columns"] = network.patches(images)[0].numpy()
    return found


def _heat(patches: Float[numpy.ndarray, "rows columns"]) -> HeatMap:
    probability = 1 / (1 + numpy.exp(-numpy.clip(patches, -30, 30)))
    return HeatMap(
        title="Patches by the network on residuals, middle of the picture",
        values=tuple(
            tuple(round(float(v), 3) for v in row) for row in probability[:_CELLS, :_CELLS]
        ),
    )
