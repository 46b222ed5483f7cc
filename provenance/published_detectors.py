"""Detectors of others from checkpoints that the user has, unchanged, with their published preprocessing.

None comes with a false-positive rate on sources it was not trained on, so none decides by itself: a
score is shown and the detector abstains, until the user has measured it on data of his own
(assaymark.provenance.published_calibration).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy
import torch
from torch import Tensor, nn

from assaymark.provenance.aasist import LENGTH, RATE, load_aasist, repeated
from assaymark.provenance.cnn_detection import load_cnn_detection
from assaymark.provenance.evidence import Evidence, Family, HeatMap, Medium, Says, abstains
from assaymark.provenance.image_tensors import as_images
from assaymark.provenance.material import Material, Pixels
from assaymark.provenance.npr_detector import load_npr
from assaymark.provenance.own_network import load_onnx, load_torchscript, network_input
from assaymark.provenance.published_calibration import Calibrated, read_calibrated
from assaymark.provenance.tiny_ladeda import load_tiny_ladeda, stretched
from assaymark.provenance.trufor import TruFor, load_trufor
from assaymark.provenance.univfd import load_univfd
from assaymark.reports.errors import InputError, nearest

_CELLS = 96  # of a heat map's side
_LARGE = 16_000_000
_UNMEASURED = "the authors state no false-positive rate on sources they did not train on"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A published detector.

    load: a file to a module from what it looks at (images in [0, 1], or waveforms) to one logit each.
    says: what a positive logit speaks for. licence: of code and weights. published: what its authors
    measured. prepare: what they do to 8-bit pixels before the network. most_pixels: of a picture that
    is looked at as it is.
    """

    medium: Medium
    load: Callable[[Path], nn.Module]
    says: Says
    licence: str
    source: str
    published: str
    prepare: Callable[[Pixels], Pixels] | None = None
    most_pixels: int = _LARGE


ADAPTERS: Mapping[str, Adapter] = MappingProxyType(
    {
        "npr": Adapter(
            medium=Medium.IMAGE,
            load=load_npr,
            says=Says.GENERATED,
            licence="none stated",
            source="github.com/chuangchuangtan/NPR-DeepfakeDetection",
            published="accuracy 92.5 % on ForenSynths, trained on ProGAN; JPEG was not considered",
        ),
        "cnndetection": Adapter(
            medium=Medium.IMAGE,
            load=load_cnn_detection,
            says=Says.GENERATED,
            licence="CC BY-NC-SA 4.0",
            source="github.com/PeterWang512/CNNDetection",
            published="average precision 0.66 to 0.99 on GANs of 2020, trained on ProGAN",
        ),
        "univfd": Adapter(
            medium=Medium.IMAGE,
            load=load_univfd,
            says=Says.GENERATED,
            licence="MIT",
            source="github.com/WisconsinAIVision/UniversalFakeDetect",
            published="trained on ProGAN, tested on 19 generators of 2018 to 2022",
        ),
        "trufor": Adapter(
            medium=Medium.IMAGE,
            load=load_trufor,
            says=Says.MANIPULATED,
            licence="GRIP-UNINA, nonprofit use only",
            source="github.com/grip-unina/TruFor",
            published="area under the ROC curve on seven sets of edited pictures, threshold 0.5",
            most_pixels=4_000_000,
        ),
        "tiny-ladeda": Adapter(
            medium=Medium.IMAGE,
            load=load_tiny_ladeda,
            says=Says.GENERATED,
            licence="Yissum, research only",
            source="github.com/barcavia/RealTime-DeepfakeDetection-in-the-RealWorld",
            published="trained on ProGAN or on WildRF; one JPEG save takes its hits to none",
            prepare=stretched,
        ),
        "aasist": Adapter(
            medium=Medium.AUDIO,
            load=load_aasist,
            says=Says.GENERATED,
            licence="MIT",
            source="github.com/clovaai/aasist",
            published="equal error rate 0.8 % (AASIST-L 1.0 %) on ASVspoof 2019 LA",
        ),
    }
)
OWN = ("onnx", "torchscript")
NAMES = (*ADAPTERS, *OWN)


def look_published(material: Material) -> Sequence[Evidence]:
    """The detectors that `options["checkpoints"]` names, {name: path}, which are made for this medium.

    options["calibrations"], {name: path}, makes their scores evidence; options["network"] says what an
    onnx or torchscript network takes. Raises InputError for wrong options and files.
    """
    asked = checkpoints(material.options)
    fitting = [name for name in asked if _medium(name) is material.medium]
    if not fitting:
        why = (
            f"the checkpoints that were named ({', '.join(asked)}) do not look at such a file"
            if asked
            else "no checkpoint of a published detector was named"
        )
        return [abstains("published", Family.LEARNED, why)]
    return [_looked(material, name, asked[name]) for name in fitting]


def check_published(options: Mapping[str, object]) -> None:
    """Load everything that the options name, so that a mistake is told before the first file."""
    for name, path in checkpoints(options).items():
        _calibration(options, name)
        opened(name, path, options)


def checkpoints(options: Mapping[str, object]) -> dict[str, Path]:
    """Names and files; raises InputError for a name that is no detector."""
    return _paths(options, "checkpoints")


def opened(name: str, path: Path, options: Mapping[str, object]) -> nn.Module:
    """The network in a file, which is read once a process as long as it does not change."""
    if name in OWN:
        takes = network_input(options.get("network", {}))
        return load_onnx(path, takes) if name == "onnx" else load_torchscript(path, takes)
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"no weights at {path}: name the downloaded checkpoint") from error
    return _loaded(name, path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _loaded(name: str, path: Path, changed: int, size: int) -> nn.Module:
    return ADAPTERS[name].load(path)


def _looked(material: Material, name: str, path: Path) -> Evidence:
    network, calibration = (
        opened(name, path, material.options),
        _calibration(material.options, name),
    )
    began = time.process_time()
    x = _input(material, name)
    if isinstance(x, str):
        return abstains(f"published:{name}", Family.LEARNED, x)
    drawings: tuple[HeatMap, ...] = ()
    with torch.inference_mode():
        if isinstance(network, TruFor):
            maps = network.maps(x)
            logit = maps.logit
            drawings = (
                heat("TruFor: anomaly", maps.anomaly[0]),
                heat("TruFor: where it cannot be relied on", 1 - maps.confidence[0]),
            )
        else:
            logit = network(x)
    seconds = time.process_time() - began
    return _evidence(name, float(logit[0]), calibration, drawings, seconds)


def _evidence(
    name: str,
    score: float,
    calibration: Calibrated | None,
    drawings: tuple[HeatMap, ...],
    seconds: float,
) -> Evidence:
    adapter = ADAPTERS.get(name)
    said = Says.GENERATED if adapter is None else adapter.says
    if not math.isfinite(score):
        why = f"{name} gives {score}, which is no score: the file or the weights are not what it takes"
        return abstains(f"published:{name}", Family.LEARNED, why)
    shown = f"{name} gives {score:.2f} (log-odds of its own training)"
    if calibration is None:
        says = Says.ABSTAINS
        summary = f"{shown}, which is not calibrated: {_UNMEASURED}"
    else:
        says = said if score >= calibration.point.threshold else Says.NOTHING
        beside = "at or above" if says is said else "below"
        summary = (
            f"{shown}, {beside} the threshold {calibration.point.threshold:.2f} of its calibration"
        )
    return Evidence(
        detector=f"published:{name}",
        family=Family.LEARNED,
        says=says,
        summary=summary,
        score=score,
        llr=None if calibration is None else calibration.llr(score),
        point=None if calibration is None else calibration.point,
        drawings=drawings,
        details={} if adapter is None else _card(adapter),
        seconds=seconds,
    )


def _card(adapter: Adapter) -> dict[str, str]:
    return {
        "licence": adapter.licence,
        "source": adapter.source,
        "published": adapter.published,
        "speaks_for": adapter.says.value,
    }


def _input(material: Material, name: str) -> Tensor | str:
    """What a network is given, or why it is given nothing."""
    adapter = ADAPTERS.get(name)
    if adapter is not None and adapter.medium is Medium.AUDIO:
        return _speech(material)
    pixels = material.picture.pixels
    if adapter is not None and adapter.prepare is not None:
        return as_images(adapter.prepare(pixels))
    most = _LARGE if adapter is None else adapter.most_pixels
    height, width = pixels.shape[:2]
    if height * width > most:
        return f"the picture has {width} x {height} pixels, and {name} looks at {most:,} at most"
    return as_images(pixels)


def _speech(material: Material) -> Tensor | str:
    from assaymark.provenance.sound import read_sound

    samples = read_sound(material.path, rate=RATE, seconds=LENGTH / RATE).samples
    if not len(samples):
        return "the file holds no sound"
    return repeated(torch.from_numpy(numpy.ascontiguousarray(samples)))[None]


def heat(title: str, values: Tensor) -> HeatMap:
    """A map of any size in at most 96 x 96 cells, each the mean of what it covers."""
    size = (min(values.shape[0], _CELLS), min(values.shape[1], _CELLS))
    cells = torch.nn.functional.adaptive_avg_pool2d(values[None, None], size)[0, 0].clamp(0, 1)
    return HeatMap(title=title, values=tuple(map(tuple, cells.double().tolist())))


def _medium(name: str) -> Medium:
    return ADAPTERS[name].medium if name in ADAPTERS else Medium.IMAGE


def _calibration(options: Mapping[str, object], name: str) -> Calibrated | None:
    path = _paths(options, "calibrations").get(name)
    return None if path is None else read_calibrated(path, f"published:{name}")


def _paths(options: Mapping[str, object], option: str) -> dict[str, Path]:
    said = options.get(option, {})
    if not isinstance(said, Mapping):
        raise InputError(f"{option} is {said!r:.80}: expected a table of names and files")
    for name, path in said.items():
        if name not in NAMES:
            raise InputError(
                f"{option} has no detector {str(name)[:80]!r}{nearest(str(name), NAMES)}"
            )
        if not isinstance(path, str | Path):
            raise InputError(f"{option}.{name} is {path!r:.80}: expected a file")
    return {str(name): Path(path) for name, path in said.items()}
