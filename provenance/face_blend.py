"""Whether a face was blended into its picture: the face is compared with a ring around it.

A face that comes from elsewhere brings its own noise, sharpness, colour and JPEG grid, and where it was
blended in, these change along the outline (Li et al. 2020, "Face X-ray", section 3.1; Shiohara and
Yamasaki 2022, section 3.2). A logistic regression weighs eight such differences.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy
from jaxtyping import Float32, Float64, UInt8
from scipy.ndimage import gaussian_filter, uniform_filter

from assaymark.provenance.evidence import Evidence, Family, HeatMap, Says, abstains
from assaymark.provenance.faces import Box, faces, oval
from assaymark.provenance.material import Material, Pixels, upright
from assaymark.provenance.video_points import llr, points
from assaymark.reports.errors import InputError

FEATURES = (
    "noise", "noise of the colours", "sharpness", "fine over coarse detail", "noise of flat parts",
    "block grid", "noise along the outline", "colour along the outline",
)  # fmt: skip
NAME = "face-blend"
SMALLEST = 64  # side of a face's box that was measured
_Plane = Float32[numpy.ndarray, "height width"]
_Shells = UInt8[numpy.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Logistic regression on the features, each less its mean and over its spread."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    weight: tuple[float, ...]
    bias: float


@cache
def weights() -> Weights:
    """The weights that are shipped (face_blend.json)."""
    stored = json.loads(files("assaymark.provenance").joinpath("face_blend.json").read_text())
    bias = float(stored.pop("bias"))
    return Weights(bias=bias, **{name: tuple(values) for name, values in stored.items()})


def save(fitted: Weights, path: Path) -> None:
    """Write weights in the form that `weights` reads."""
    path.write_text(json.dumps(asdict(fitted), indent=1) + "\n")


def fit(blended: Float64[numpy.ndarray, "n 8"], whole: Float64[numpy.ndarray, "m 8"]) -> Weights:
    """Logistic regression with equal weight for both classes."""
    from sklearn.linear_model import LogisticRegression

    table = numpy.concatenate([blended, whole])
    mean, spread = table.mean(axis=0), table.std(axis=0) + 1e-6
    model = LogisticRegression(class_weight="balanced", C=0.3, max_iter=1000)
    model.fit((table - mean) / spread, numpy.repeat([1, 0], [len(blended), len(whole)]))
    return Weights(
        mean=tuple(map(float, mean)),
        spread=tuple(map(float, spread)),
        weight=tuple(map(float, model.coef_[0])),
        bias=float(model.intercept_[0]),
    )


def score(found: Float64[numpy.ndarray, " 8"], by: Weights) -> float:
    """Logit that the face was blended in, for equal odds."""
    scaled = (found - numpy.array(by.mean)) / numpy.array(by.spread)
    return float(numpy.clip(scaled, -4, 4) @ numpy.array(by.weight) + by.bias)


def differences(pixels: Pixels, box: Box) -> Float64[numpy.ndarray, " 8"]:
    """The eight differences between a face and the ring around it, by FEATURES; each is at least 0.

    Raises InputError where less than a third of the ring lies in the picture.
    """
    part, inner = _surroundings(pixels, box)
    far = oval(inner, *part.shape[:2])
    face, ring = far < 10, (far >= 11) & (far < 17)
    if ring.sum() < face.sum() / 3:
        raise InputError(f"the face at {box} fills the picture: there is no ring to compare with")
    planes = _planes(part)
    grey, colours = planes[0], planes[1:]
    fine, coarse, rough = _fine(grey), _coarse(grey), _steepness(grey)
    mixed = numpy.maximum(_fine(colours[0]), _fine(colours[1]))
    flat = uniform_filter(fine, 5)
    sharp = numpy.abs(grey - gaussian_filter(grey, 0.8))
    return numpy.array([
        _apart(fine, face, ring),
        _apart(mixed, face, ring),
        abs(_ratio(sharp, rough, face) - _ratio(sharp, rough, ring)),
        abs(_ratio(fine, coarse, face) - _ratio(fine, coarse, ring)),
        abs(_low(flat, face) - _low(flat, ring)),
        _grids(grey, face, ring),
        _along_outline(_shells(fine, far, logarithm=True)),
        max(_along_outline(_shells(plane, far)) for plane in colours),
    ])  # fmt: skip


def _surroundings(pixels: Pixels, box: Box) -> tuple[Pixels, Box]:
    """The part of the picture that is compared, on the grid of 8 x 8 blocks, and the box within it."""
    left, top, wide, high = box
    x, y = max(0, left - wide // 2) // 8 * 8, max(0, top - high // 2) // 8 * 8
    part = pixels[y : top + high + high // 2, x : left + wide + wide // 2]
    return part, (left - x, top - y, wide, high)


def _planes(pixels: Pixels) -> tuple[_Plane, _Plane, _Plane]:
    """Luminance and two differences of colour (ITU-R BT.601)."""
    red, green, blue = (pixels[:, :, i].astype(numpy.float32) for i in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey, 0.564 * (blue - grey), 0.713 * (red - grey)


def _fine(plane: _Plane) -> _Plane:
    """Size of the finest diagonal detail, which edges hardly reach; at most 8."""
    size: _Plane = numpy.zeros_like(plane)
    detail = numpy.diff(numpy.diff(plane, axis=0), axis=1)
    size[:-1, :-1] = numpy.minimum(numpy.abs(detail), 16) / 2
    return size


def _coarse(plane: _Plane) -> _Plane:
    """The same detail at twice the scale."""
    smooth = uniform_filter(plane, 2)
    size: _Plane = numpy.zeros_like(plane)
    down = smooth[2:] - smooth[:-2]
    size[:-2, :-2] = numpy.minimum(numpy.abs(down[:, 2:] - down[:, :-2]), 16) / 2
    return size


def _steepness(plane: _Plane) -> _Plane:
    down, right = numpy.gradient(plane)
    size: _Plane = numpy.hypot(down, right)
    return size


def _apart(plane: _Plane, face: numpy.ndarray, ring: numpy.ndarray) -> float:
    return abs(float(numpy.log(plane[face].mean() + 0.05) - numpy.log(plane[ring].mean() + 0.05)))


def _ratio(above: _Plane, below: _Plane, where: numpy.ndarray) -> float:
    return float(numpy.log((above[where].mean() + 0.05) / (below[where].mean() + 0.05)))


def _low(plane: _Plane, where: numpy.ndarray) -> float:
    return float(numpy.log(numpy.quantile(plane[where], 0.2) + 0.05))


def _grids(grey: _Plane, face: numpy.ndarray, ring: numpy.ndarray) -> float:
    """How much stronger the picture's own grid of blocks is on one side than on the other."""
    steps = numpy.abs(numpy.diff(grey, n=2, axis=1, prepend=0, append=0))
    column = numpy.broadcast_to(numpy.arange(grey.shape[1]) % 8, grey.shape)
    on = (column == 7) | (column == 0)

    def strength(where: numpy.ndarray) -> float:
        clipped = numpy.minimum(steps, 16)
        return float(
            numpy.log((clipped[where & on].mean() + 0.1) / (clipped[where & ~on].mean() + 0.1))
        )

    return abs(strength(face) - strength(ring))


def _shells(
    plane: _Plane, far: _Shells, *, logarithm: bool = False
) -> Float64[numpy.ndarray, " 12"]:
    """Means over twelve shells from 4 to 16 tenths of the way to the outline."""
    index = numpy.clip(far, 3, 16).ravel()
    counts = numpy.bincount(index, minlength=17)[4:16]
    sums = numpy.bincount(index, plane.ravel(), minlength=17)[4:16]
    means: Float64[numpy.ndarray, " 12"] = sums / numpy.maximum(counts, 1)
    return numpy.log(means + 0.05) if logarithm else means


def _along_outline(shells: Float64[numpy.ndarray, " 12"]) -> float:
    """The largest bend of the profile near the outline, over the usual bend elsewhere."""
    steps = numpy.abs(numpy.diff(shells))
    near, others = steps[4:8].max(), numpy.concatenate([steps[:4], steps[8:]])
    return float(numpy.log((near + 0.02) / (numpy.median(others) + 0.02)))


def scored(pixels: Pixels, model: Path | None = None) -> list[tuple[Box, float]]:
    """Each face that has a ring around it, and its score; raises InputError as `faces` does."""
    found: list[tuple[Box, float]] = []
    for box in faces(pixels, model, SMALLEST)[:8]:
        try:
            found.append((box, score(differences(pixels, box), weights())))
        except InputError:
            continue
    return found


def look_faces(material: Material) -> Sequence[Evidence]:
    """Each face of a picture against its surroundings; abstains without a detector, or a face of 64 pixels.

    options: `face_model`, the path of a YuNet model (ONNX), else OpenCV's cascade is used.
    """
    begun = time.process_time()
    picture = material.picture
    model = material.options.get("face_model")
    pixels = upright(picture)
    try:
        found = scored(pixels, Path(str(model)) if model else None)
    except InputError as error:
        return [abstains(NAME, Family.FORENSIC, str(error))]
    if not found:
        return [abstains(NAME, Family.FORENSIC, f"no face of {SMALLEST} pixels or more was found")]
    point = points()["face-blend"]
    worst = max(value for _, value in found)
    speaks = worst >= point.threshold
    box = next(box for box, value in found if value == worst)
    said = (
        f"the face at ({box[0]}, {box[1]}), {box[2]} pixels wide, differs from what surrounds it, as where "
        "a face was blended in"
        if speaks
        else "no face differs from what surrounds it more than whole ones do"
    )
    seconds = time.process_time() - begun
    return [
        Evidence(
            detector=NAME,
            family=Family.FORENSIC,
            says=Says.MANIPULATED if speaks else Says.NOTHING,
            summary=f"{said} (faces: {len(found)}; measured on self-blended faces, no face swaps)",
            score=worst,
            llr=llr(point) if speaks else None,
            point=point,
            drawings=(_map(pixels, found, point.threshold),),
            details={
                "faces": [{"box": list(box), "score": round(value, 3)} for box, value in found]
            },
            seconds=seconds,
        )
    ]


def _map(pixels: Pixels, found: Sequence[tuple[Box, float]], threshold: float) -> HeatMap:
    """Each face in the shade of its score; one half is the threshold."""
    height, width = pixels.shape[:2]
    scale = min(1.0, 96 / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    drawn = numpy.zeros((rows, columns))
    for (left, top, wide, high), value in found:
        small = (
            round(left * scale),
            round(top * scale),
            max(1, round(wide * scale)),
            max(1, round(high * scale)),
        )
        shade = 1 / (1 + numpy.exp(threshold - value))
        drawn = numpy.where(oval(small, rows, columns) < 10, numpy.maximum(drawn, shade), drawn)
    return HeatMap(
        title="faces that differ from their surroundings",
        values=tuple(tuple(round(float(value), 3) for value in row) for row in drawn),
    )
