"""What fitted detectors say of a picture: four single ones that explain, and one ensemble that counts.

The single detectors give a score and a drawing and no ratio: the ensemble is made of them, and evidence
must not be counted twice. All abstain outside the envelope that was measured: there, false positives
exceed what the operating point states. The ensemble also abstains where its answer does not survive the
picture being saved again.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
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
from assaymark.provenance.image_heads import FEATURES, FUSED, Head
from assaymark.provenance.image_planes import Pixels, Planes, crops, planes
from assaymark.provenance.image_spectrum import TILE
from assaymark.provenance.material import Material
from assaymark.provenance.score_calibration import Calibration

WEIGHTS = Path(__file__).parent / "weights"
MOST_CROPS = 3  # of a large picture; the score is their median
NEAR = 0.5  # standard deviations of the score: this near the threshold, the picture is saved again
AGAIN = ("jpeg75", "webp75", "crop90", "resize75-bicubic")
_WIDEST = 512  # pixels a side of what the network looks at
_CELLS = 64  # a side of the heat map

_ABOUT = {
    "spectrum": "the shape of its power spectrum",
    "cooccurrence": "how often small residuals stand side by side",
}


def look_spectral(material: Material) -> Sequence[Evidence]:
    """The azimuthal power spectrum: a score, and the spectrum as a curve."""
    return [_single(material, "spectral", "spectrum", _draw_spectrum)]


def look_cooccurrence(material: Material) -> Sequence[Evidence]:
    """Co-occurrences of rounded residuals: a score."""
    return [_single(material, "cooccurrence", "cooccurrence", lambda found: ())]


def look_residual(material: Material) -> Sequence[Evidence]:
    """The network on residuals: a score, and its patches' scores as a heat map."""
    begun = time.process_time()
    picture = material.picture
    why = outside(picture)
    if why:
        return [abstains("residual", Family.LEARNED, why)]
    patches = _patches(picture.pixels)
    return [_said("residual", "residual", float(patches.mean()), (_heat(patches),), begun)]


def look_ensemble(material: Material) -> Sequence[Evidence]:
    """The mean of the heads, with the log-likelihood ratio that counts."""
    begun = time.process_time()
    picture = material.picture
    why = outside(picture)
    if why:
        return [abstains("learned", Family.LEARNED, why)]
    score = ensemble_score(picture.pixels)
    card = _card("ensemble")
    threshold = card["point"]["threshold"]
    if abs(score - threshold) < NEAR:
        called = [
            score >= threshold,
            *(again >= threshold for again in _saved_again(picture.pixels)),
        ]
        if len(set(called)) > 1:
            why = (
                f"its score of {score:.2f} lies at the threshold of {threshold:.2f}, and the answer changes "
                f"in {min(sum(called), len(called) - sum(called))} of {len(called)} deliveries"
            )
            return [abstains("learned", Family.LEARNED, why, score=score)]
    return [_said("learned", "ensemble", score, (), begun, llr=_calibration().llr(score))]


def ensemble_score(pixels: Pixels) -> float:
    """Median over the middle crops of the mean of the fused heads; higher is more like generated pictures.

    pixels: RGB of at least 128 x 128.
    """
    return float(numpy.median([_fused(planes(crop)) for crop in crops(pixels, MOST_CROPS)]))


def _fused(picture: Planes) -> float:
    heads = load_heads()
    return float(numpy.mean([heads[name].score(FEATURES[name](picture)) for name in FUSED]))


def _saved_again(pixels: Pixels) -> list[float]:
    rng = numpy.random.default_rng(0)
    crop = crops(pixels)[0]
    return [ensemble_score(deliver(crop, name, rng)) for name in AGAIN]


def _single(
    material: Material,
    detector: str,
    name: str,
    draw: Callable[[Planes], tuple[HeatMap | Curve, ...]],
) -> Evidence:
    begun = time.process_time()
    picture = material.picture
    why = outside(picture)
    if why:
        return abstains(detector, Family.LEARNED, why)
    found = [planes(crop) for crop in crops(picture.pixels, MOST_CROPS)]
    head = load_heads()[name]
    score = float(numpy.median([head.score(FEATURES[name](one)) for one in found]))
    return _said(detector, name, score, draw(found[0]), begun)


def _said(
    detector: str,
    name: str,
    score: float,
    drawings: tuple[HeatMap | Curve, ...],
    begun: float,
    *,
    llr: float | None = None,
) -> Evidence:
    card = _card(name)
    point = OperatingPoint(**card["point"])
    above_chance = card["measured"]["auc_interval"][0] > 0.5
    reached = score >= point.threshold
    return Evidence(
        detector=detector,
        family=Family.LEARNED,
        says=Says.GENERATED if reached and above_chance else Says.NOTHING,
        summary=_sentence(name, score, point) if above_chance else _ONLY_SHOWN,
        score=score,
        llr=llr,
        point=point,
        drawings=drawings,
        seconds=time.process_time() - begun,
    )


_ONLY_SHOWN = (
    "a small network on its residuals: only shown, since on generators it was not trained on it did "
    "not do better than chance"
)


def _sentence(name: str, score: float, point: OperatingPoint) -> str:
    about = _ABOUT.get(name, "several statistics of its pixels together")
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


def _patches(pixels: Pixels) -> Float[numpy.ndarray, "rows columns"]:
    """The network's logits over the middle of the picture, 8 pixels apart."""
    import torch

    height, width = pixels.shape[:2]
    top, left = max(0, height - _WIDEST) // 2, max(0, width - _WIDEST) // 2
    part = numpy.array(pixels[top : top + _WIDEST, left : left + _WIDEST])
    images = torch.from_numpy(part).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        found: Float[numpy.ndarray, "rows columns"] = load_weights().patches(images)[0].numpy()
    return found


def _heat(patches: Float[numpy.ndarray, "rows columns"]) -> HeatMap:
    probability = 1 / (1 + numpy.exp(-numpy.clip(patches, -30, 30)))
    return HeatMap(
        title="Patches by the network on residuals, middle of the picture",
        values=tuple(
            tuple(round(float(v), 3) for v in row) for row in probability[:_CELLS, :_CELLS]
        ),
    )


@cache
def load_weights() -> Any:
    """The shipped network on residuals, in evaluation mode."""
    from assaymark.provenance.residual_network import load_network

    return load_network(WEIGHTS / "image_residual.safetensors")


@cache
def load_heads() -> Mapping[str, Head]:
    """The shipped linear heads."""
    from safetensors.numpy import load_file

    tensors = load_file(WEIGHTS / "image_heads.safetensors")
    return {
        name: Head(
            mean=tensors[f"{name}.mean"],
            scale=tensors[f"{name}.scale"],
            weights=tensors[f"{name}.weights"],
            offset=float(tensors[f"{name}.offset"][0]),
        )
        for name in FEATURES
    }


@cache
def model_card() -> Mapping[str, Any]:
    """What the shipped detectors were fitted to and how they did: image_residual.json."""
    card: Mapping[str, Any] = json.loads((WEIGHTS / "image_residual.json").read_text("utf-8"))
    return card


def _card(name: str) -> Mapping[str, Any]:
    card: Mapping[str, Any] = model_card()["detectors"][name]
    return card


@cache
def _calibration() -> Calibration:
    return Calibration.from_json(json.dumps(_card("ensemble")["calibration"]))
