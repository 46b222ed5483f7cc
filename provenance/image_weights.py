"""The weights that detectors of pictures read: those shipped, or a folder that `detect train` wrote.

A folder holds image_heads.safetensors and image_residual.json, which states what was measured, and may
hold image_residual.safetensors. It is as untrusted as any other file: sizes, names and numbers are checked
before they are used, and nothing in it is run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy

from assaymark.provenance.conformal import Zone, read_zone
from assaymark.provenance.evidence import OperatingPoint
from assaymark.provenance.frozen_scores import read_point
from assaymark.provenance.image_heads import FEATURES, FUSED, PARTS, Head, sizes
from assaymark.provenance.material import Material
from assaymark.provenance.score_calibration import Calibration, finite_number
from assaymark.reports.errors import InputError

SHIPPED = Path(__file__).parent / "weights"
HEADS, CARD, NETWORK = (
    "image_heads.safetensors",
    "image_residual.json",
    "image_residual.safetensors",
)
MAX_BYTES = 5 * 2**20  # of each file
_MOST = 4096  # directions or waves of a head


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a card states of one detector. above_chance: its AUC's interval lies above one half."""

    point: OperatingPoint
    zone: Zone
    calibration: Calibration
    above_chance: bool


def folder_of(material: Material) -> Path:
    """`options["image_weights"]`, a folder, or the shipped one; raises InputError for no folder."""
    asked = material.options.get("image_weights")
    if asked is None:
        return SHIPPED
    if not isinstance(asked, str | Path) or not Path(asked).is_dir():
        raise InputError(f"image_weights is {asked!r}: expected the folder that detect train wrote")
    return Path(asked)


@cache
def load_heads(folder: Path = SHIPPED) -> Mapping[str, Head]:
    """The linear heads, one for each of FEATURES that the folder holds; raises InputError for others."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / HEADS
    try:
        tensors = load(_content(path))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}): give weights that detect train wrote"
        ) from error
    names = {key.partition(".")[0] for key in tensors}
    unknown = sorted(names - FEATURES.keys())
    missing = sorted(set(FUSED) - names)
    if unknown or missing:
        raise InputError(
            f"{path} holds heads of {unknown[:3]} and none of {missing[:3]}: expected those of "
            f"{', '.join(FEATURES)}, as detect train writes them"
        )
    return {name: _head(tensors, name, path) for name in FEATURES if name in names}


def _head(tensors: Mapping[str, Any], name: str, path: Path) -> Head:
    parts: dict[str, Any] = {part: tensors.get(f"{name}.{part}") for part in PARTS}
    waves = parts["waves"]
    if waves is None or waves.ndim != 2 or not 0 < max(waves.shape) <= _MOST:
        raise InputError(
            f"{path}: {name}.waves is no table of at most {_MOST} x {_MOST}: train again"
        )
    count, width = waves.shape
    wanted = {
        "mean": (sizes()[name],),
        "scale": (sizes()[name],),
        "directions": (sizes()[name], count),
        "waves": (count, width),
        "phases": (width,),
        "weights": (width + count,),
        "offset": (1,),
    }
    for part, shape in wanted.items():
        tensor = parts[part]
        if tensor is None or tensor.shape != shape or tensor.dtype != numpy.float32:
            seen = "is missing" if tensor is None else f"is {tensor.dtype} of {tensor.shape}"
            raise InputError(
                f"{path}: {name}.{part} {seen}, expected 32-bit numbers of {shape}; train again with "
                "this version"
            )
        if not numpy.isfinite(tensor).all() or (part == "scale" and tensor.min() <= 0):
            raise InputError(f"{path}: {name}.{part} holds a number that no training gives")
    offset = float(parts.pop("offset")[0])
    return Head(**parts, offset=offset)


@cache
def load_network(folder: Path = SHIPPED) -> Any:
    """The network on residuals, in evaluation mode; None where the folder holds none."""
    from assaymark.provenance.residual_network import load_network as load

    path = folder / NETWORK
    return load(path) if path.is_file() else None


@cache
def model_card(folder: Path = SHIPPED) -> Mapping[str, Any]:
    """What the detectors were fitted to and how they did: image_residual.json."""
    path = folder / CARD
    try:
        card = json.loads(_content(path))
        if not isinstance(card, dict) or not isinstance(card["detectors"], dict):
            raise TypeError("it is no object with detectors")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is no card of detectors ({error}): give the folder that detect train wrote"
        ) from error
    return card


@cache
def measured(name: str, folder: Path = SHIPPED) -> Measured | None:
    """What the card states of a detector, or None; raises InputError for what training did not write."""
    stated = model_card(folder)["detectors"].get(name)
    if stated is None:
        return None
    try:
        interval = stated["measured"]["auc_interval"]
        return Measured(
            point=read_point(stated["point"]),
            zone=read_zone(stated["zone"]),
            calibration=Calibration.from_json(json.dumps(stated["calibration"])),
            above_chance=interval is not None and finite_number(interval[0]) > 0.5,
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InputError(
            f"{folder / CARD} states no measured point of {name} ({error}): train again"
        ) from error


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path} has {size:,} bytes: at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give the folder that detect train wrote"
        ) from error
