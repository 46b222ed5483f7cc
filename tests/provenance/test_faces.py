"""A face against its surroundings: planted ovals, and what happens where no detector is installed."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from video_clips import texture

from assaymark.provenance import face_blend, faces
from assaymark.provenance.evidence import HeatMap, Says
from assaymark.provenance.face_blend import FEATURES, differences, look_faces
from assaymark.provenance.material import Material
from assaymark.reports.errors import InputError

BOX = (120, 110, 120, 120)
Pixels = NDArray[numpy.float64]


def scene() -> Pixels:
    random = numpy.random.default_rng(1)
    base = numpy.asarray(texture(4).crop((0, 0, 360, 340)), dtype=numpy.float64)
    noisy: Pixels = gaussian_filter(base, (1, 1, 0)) + random.normal(0, 2, base.shape)
    return noisy


def planted(change: Callable[[Pixels], Pixels]) -> NDArray[numpy.uint8]:
    """`change` inside the face's oval, with a soft edge."""
    base = scene()
    mask = gaussian_filter((faces.oval(BOX, *base.shape[:2]) < 10).astype(float), 2)[:, :, None]
    mixed = numpy.clip(base * (1 - mask) + change(base) * mask, 0, 255)
    pixels: NDArray[numpy.uint8] = mixed.astype(numpy.uint8)
    return pixels


CHANGES: dict[str, tuple[Callable[[Pixels], Pixels], str]] = {
    "noise": (lambda a: a + numpy.random.default_rng(2).normal(0, 6, a.shape), "noise"),
    "blur": (lambda a: gaussian_filter(a, (1.5, 1.5, 0)), "fine over coarse detail"),
    "colour": (lambda a: a * [1.2, 1.0, 0.8], "colour along the outline"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_each_difference_answers_to_what_it_is_named_after(case: str) -> None:
    change, feature = CHANGES[case]
    at = FEATURES.index(feature)
    whole, edited = differences(planted(lambda a: a), BOX), differences(planted(change), BOX)
    assert edited[at] > whole[at] + 0.3
    weights = face_blend.weights()
    assert face_blend.score(edited, weights) > face_blend.score(whole, weights) + 1


def test_noise_is_compared_in_logarithms() -> None:
    """Noise of 2 grey levels against 4: the logarithms of its sizes lie log 2 apart."""
    random = numpy.random.default_rng(0)
    far = faces.oval(BOX, 340, 360)
    sigma = numpy.where(far < 10, 1.0, 2.0)[:, :, None]
    flat = 120 + random.normal(size=(340, 360, 1)) * sigma
    pixels = numpy.repeat(numpy.clip(numpy.rint(flat), 0, 255).astype(numpy.uint8), 3, axis=2)
    assert differences(pixels, BOX)[0] == pytest.approx(numpy.log(2), abs=0.08)


def test_a_face_that_fills_the_picture_has_no_ring() -> None:
    with pytest.raises(InputError, match="fills the picture"):
        differences(numpy.zeros((120, 120, 3), numpy.uint8), (0, 0, 120, 120))


def test_weights_are_fitted_to_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = numpy.random.default_rng(0)
    whole, blended = random.normal(0, 1, (200, 8)), random.normal(0, 1, (200, 8))
    blended[:, 3] += 3
    fitted = face_blend.fit(blended, whole)
    assert int(numpy.argmax(numpy.abs(fitted.weight))) == 3
    right = [face_blend.score(row, fitted) > 0 for row in blended]
    assert sum(right) > 0.9 * 200


def _material(pixels: NDArray[numpy.uint8], folder: Path) -> Material:
    from PIL import Image

    Image.fromarray(pixels).save(folder / "face.png")
    return Material(path=folder / "face.png", kind=None, medium=None)


def test_the_face_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_blend, "faces", lambda pixels, model, smallest: (BOX,))
    noisy = planted(lambda a: gaussian_filter(a, (2, 2, 0)) * [1.2, 1, 0.8] + 8)
    (found,) = look_faces(_material(noisy, tmp_path))
    assert found.says is Says.MANIPULATED
    assert (found.llr or 0) > 0
    heat = found.drawings[0]
    assert isinstance(heat, HeatMap)
    values = numpy.array(heat.values)
    assert max(values.shape) <= 96
    row, column = (index.mean() for index in numpy.nonzero(values == values.max()))
    assert (row / values.shape[0], column / values.shape[1]) == pytest.approx((0.5, 0.5), abs=0.03)
    (calm,) = look_faces(_material(planted(lambda a: a), tmp_path))
    assert (calm.says, calm.llr) == (Says.NOTHING, None)


def test_without_opencv_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    (found,) = look_faces(_material(planted(lambda a: a), tmp_path))
    assert found.says is Says.ABSTAINS
    assert "pip install assaymark[faces]" in found.summary


def test_opencv_without_cascades_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = SimpleNamespace(
        __version__="5.0.0", setNumThreads=lambda n: None, INTER_AREA=3, COLOR_RGB2GRAY=7,
        data=SimpleNamespace(haarcascades=str(tmp_path)), cvtColor=lambda a, code: a[:, :, 0],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cv2", bare)
    with pytest.raises(InputError, match="carries no face cascades"):
        faces.faces(numpy.zeros((64, 64, 3), numpy.uint8))


def test_real_faces_are_found(shared: Path) -> None:
    """One face in each of eight portraits, most of the picture wide."""
    opencv = pytest.importorskip("cv2")
    if not hasattr(opencv, "CascadeClassifier"):
        pytest.skip("this OpenCV carries no cascades")
    from PIL import Image

    folder = shared / "data/detect/images/native/fake/stylegan2_256"
    for path in sorted(folder.iterdir())[:8]:
        pixels = numpy.asarray(Image.open(path).convert("RGB"))
        (box,) = faces.faces(pixels)
        assert box[2] > 0.3 * pixels.shape[1]
