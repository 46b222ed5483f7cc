"""A detector as an image classifier of two classes, so that attacks on classifiers can be run on it."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assaymark.provenance.evidence import Medium
from assaymark.provenance.image_tensors import Images
from assaymark.provenance.published_calibration import read_calibrated
from assaymark.provenance.published_detectors import ADAPTERS, opened
from assaymark.reports.errors import InputError, nearest

OURS = ("residual",)
WITHOUT_GRADIENTS = ("learned",)
CLASSES = ("not generated", "generated")


class DetectorModel(nn.Module):
    """Images in [0, 1] to logits of [not generated, generated]; the larger is the detector's decision.

    For trufor, "generated" stands for manipulated. Differentiable with respect to the images.
    """

    def __init__(self, detector: nn.Module, threshold: float = 0.0) -> None:
        super().__init__()
        self.detector = detector
        self.threshold = threshold

    def forward(self, x: Images) -> Float[Tensor, "batch 2"]:
        score: Tensor = self.detector(x).reshape(len(x)) - self.threshold
        return torch.stack([torch.zeros_like(score), score], 1)


class Statistics(nn.Module):
    """The ensemble of fitted statistics: images in [0, 1] to its score, without gradients.

    It sees what a file of 8 bits would hold.
    """

    def forward(self, x: Images) -> Float[Tensor, " batch"]:
        module = import_module("assaymark.provenance.image_weights")
        levels = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8)
        pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return x.new_tensor([module.ensemble_score(one) for one in pixels])


def detector_model(
    name: str, *, calibration: Path | None = None, options: Mapping[str, Any] | None = None
) -> DetectorModel:
    """The model of a name: `residual`, `residual:FILE`, `learned` (which gives no gradients), or a
    published checkpoint, `npr:FILE`, `cnndetection:FILE`, `univfd:FOLDER`, `trufor:FILE`, `tiny-ladeda:FILE`,
    `torchscript:FILE`.

    calibration: the file whose threshold decides; by default the published one, or our measured one.
    options: as in `look_published`, for torchscript. Raises InputError for other names and files.
    """
    kind, _, file = name.partition(":")
    path = Path(file) if file else None
    if kind in WITHOUT_GRADIENTS:
        model = DetectorModel(Statistics(), _threshold("ensemble"))
    elif kind in OURS:
        model = _ours(kind, path)
    elif kind == "onnx":
        raise InputError(
            f"{name}: onnxruntime gives no gradients; attack the file itself, --model {file or 'FILE'}"
        )
    elif kind not in (*ADAPTERS, "torchscript"):
        known = (*OURS, *WITHOUT_GRADIENTS, *ADAPTERS, "torchscript")
        raise InputError(f"there is no detector {kind[:80]!r}{nearest(kind, known)}")
    elif kind in ADAPTERS and ADAPTERS[kind].medium is not Medium.IMAGE:
        raise InputError(f"{kind} hears sound: attacks are on detectors of pictures")
    elif path is None:
        raise InputError(f"{kind} needs its checkpoint: write {kind}:FILE")
    else:
        model = DetectorModel(opened(kind, path, options or {}))
    if calibration is not None:
        detector = kind if kind in OURS else f"published:{kind}"
        model.threshold = read_calibrated(calibration, detector).point.threshold
    return model.eval().requires_grad_(False)


def _ours(kind: str, path: Path | None) -> DetectorModel:
    """The shipped network at the threshold of its model card, or other weights of it at the same one."""
    shipped = import_module("assaymark.provenance.image_weights")
    module = import_module("assaymark.provenance.residual_network")
    network: nn.Module = shipped.load_network() if path is None else module.load_network(path)
    return DetectorModel(network, _threshold(kind))


def _threshold(kind: str) -> float:
    shipped = import_module("assaymark.provenance.image_weights")
    return float(shipped.model_card()["detectors"][kind]["point"]["threshold"])
