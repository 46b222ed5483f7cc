"""Where faces are in a picture: OpenCV's detectors behind one function, where OpenCV is installed.

OpenCV 4 carries Haar cascades (Viola and Jones 2001) in its wheel; OpenCV 5 does not, and there, or for
faces turned aside, the user names an ONNX file of the YuNet detector (Wu, Peng and Yu 2023).
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
from jaxtyping import UInt8

from assaymark.provenance.material import Pixels
from assaymark.reports.errors import InputError

Box = tuple[int, int, int, int]  # left, top, width, height, in pixels
SMALLEST = 48  # side of a face's box
_SEARCHED = 640  # longest side in which faces are looked for
_MISSING = "no face detector is installed: pip install assaymark[faces]"


def faces(pixels: Pixels, model: Path | None = None, smallest: int = SMALLEST) -> tuple[Box, ...]:
    """Boxes of faces, the largest first; `model` is an ONNX file of YuNet.

    Raises InputError where OpenCV is not installed, has no cascades and no model is named, or the model
    cannot be read.
    """
    opencv = _opencv()
    height, width = pixels.shape[:2]
    scale = min(1.0, _SEARCHED / max(height, width))
    seen = pixels
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        seen = opencv.resize(pixels, size, interpolation=opencv.INTER_AREA)
    found = _by_model(opencv, seen, model) if model else _by_cascade(opencv, seen, smallest * scale)
    boxes = [_inside(box, scale, width, height) for box in found]
    large = [box for box in boxes if min(box[2], box[3]) >= smallest]
    return tuple(sorted(large, key=lambda box: -box[2] * box[3]))


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise InputError(_MISSING) from error
    cv2.setNumThreads(1)
    return cv2


def _by_cascade(opencv: Any, pixels: Pixels, smallest: float) -> list[tuple[float, ...]]:
    cascade = _cascade(opencv)
    grey = opencv.cvtColor(numpy.ascontiguousarray(pixels), opencv.COLOR_RGB2GRAY)
    side = max(24, int(smallest))
    return [tuple(map(float, box)) for box in cascade.detectMultiScale(
        grey, scaleFactor=1.1, minNeighbors=5, minSize=(side, side))]  # fmt: skip


def _cascade(opencv: Any) -> Any:
    place = Path(opencv.data.haarcascades, "haarcascade_frontalface_alt2.xml")
    if not hasattr(opencv, "CascadeClassifier") or not place.is_file():
        raise InputError(
            f"OpenCV {opencv.__version__} carries no face cascades: "
            "pip install 'opencv-python-headless<5', or name a YuNet model (face_model)"
        )
    return _loaded(str(place))


@lru_cache(maxsize=1)
def _loaded(place: str) -> Any:
    return _opencv().CascadeClassifier(place)


def _by_model(opencv: Any, pixels: Pixels, model: Path | None) -> list[tuple[float, ...]]:
    height, width = pixels.shape[:2]
    try:
        detector = opencv.FaceDetectorYN.create(str(model), "", (width, height), 0.7)
        _, found = detector.detect(numpy.ascontiguousarray(pixels[:, :, ::-1]))
    except (opencv.error, AttributeError) as error:
        raise InputError(f"{model} is no YuNet face detector that OpenCV can run") from error
    return [] if found is None else [tuple(map(float, row[:4])) for row in found]


def _inside(box: tuple[float, ...], scale: float, width: int, height: int) -> Box:
    left, top = max(0, round(box[0] / scale)), max(0, round(box[1] / scale))
    right = min(width, round((box[0] + box[2]) / scale))
    bottom = min(height, round((box[1] + box[3]) / scale))
    return left, top, max(0, right - left), max(0, bottom - top)


def oval(box: Box, height: int, width: int) -> UInt8[numpy.ndarray, "height width"]:
    """Distance from the middle of a face in tenths of the way to its outline; 10 is the outline.

    The outline is an ellipse a little narrower and a little taller than a detector's box.
    """
    left, top, wide, high = box
    row, column = numpy.ogrid[:height, :width]
    x = (column + 0.5 - left - wide / 2) / (0.44 * wide)
    y = (row + 0.5 - top - 0.52 * high) / (0.58 * high)
    tenths: UInt8[numpy.ndarray, "height width"] = numpy.minimum(
        10 * numpy.hypot(x, y), 255
    ).astype(numpy.uint8)
    return tenths
