"""Every way to name images, and every way in which they can be wrong."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from assaymark.reports.errors import InputError
from assaymark.robustness import images

RANDOM = numpy.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (6, 8, 8, 3), dtype=numpy.uint8)
LABELS = numpy.array([0, 1, 2, 0, 1, 2])


def picture_folder(root: Path) -> None:
    for i, label in enumerate(LABELS):
        folder = root / "pictures" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(BYTES[i]).save(folder / f"{i}.png")


def test_a_folder_by_class(tmp_path: Path) -> None:
    picture_folder(tmp_path)
    (tmp_path / "pictures" / ".cache").mkdir()
    (tmp_path / "pictures" / "class0" / "notes.txt").write_text("not a picture")
    data = images.load("pictures", folder=tmp_path)
    assert data.classes == ("class0", "class1", "class2")
    assert data.images.shape == (6, 3, 8, 8)
    order = numpy.argsort(LABELS, kind="stable")
    assert torch.equal(data.labels, torch.from_numpy(LABELS[order]))
    expected = torch.from_numpy(BYTES[order].transpose(0, 3, 1, 2).copy()) / 255
    assert torch.allclose(data.images, expected)


def test_class_names_of_the_policy_give_the_order(tmp_path: Path) -> None:
    picture_folder(tmp_path)
    names = ("other", "class2", "class0", "class1")
    data = images.load("pictures", folder=tmp_path, classes=names)
    assert data.classes == names
    assert sorted(set(data.labels.tolist())) == [1, 2, 3]


@pytest.mark.parametrize(
    ("x", "data_range"),
    [
        (BYTES, None),
        (BYTES.transpose(0, 3, 1, 2), None),
        ((BYTES / 255).astype(numpy.float32), None),
        (BYTES.astype(numpy.float64), (0.0, 255.0)),
        (BYTES / 127.5 - 1, (-1.0, 1.0)),
    ],
    ids=["uint8 HWC", "uint8 CHW", "float", "float 0..255", "float -1..1"],
)
def test_arrays_of_every_layout_and_unit(tmp_path: Path, x: Any, data_range: Any) -> None:
    numpy.savez(tmp_path / "d.npz", x=x, y=LABELS)
    data = images.load("d.npz", folder=tmp_path, data_range=data_range)
    expected = torch.from_numpy(BYTES.transpose(0, 3, 1, 2).copy()) / 255
    assert torch.allclose(data.images, expected, atol=1e-6)
    assert data.labels.tolist() == LABELS.tolist()


def test_grey_images_and_resizing(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "d.npz", images=BYTES[..., 0], labels=LABELS)
    assert images.load("d.npz", folder=tmp_path).images.shape == (6, 1, 8, 8)
    picture_folder(tmp_path)
    Image.fromarray(BYTES[0]).resize((20, 10)).save(tmp_path / "pictures" / "class0" / "big.png")
    data = images.load("pictures", folder=tmp_path, image_size=(4, 6))
    assert data.images.shape == (7, 3, 4, 6)


def wrong_npz(folder: Path, **arrays: Any) -> str:
    numpy.savez(folder / "d.npz", **arrays)
    return "d.npz"


def truncated(folder: Path) -> str:
    picture_folder(folder)
    path = folder / "pictures" / "class1" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    return "pictures"


def mixed(folder: Path) -> str:
    picture_folder(folder)
    Image.fromarray(BYTES[0][:4]).save(folder / "pictures" / "class0" / "9.png")
    return "pictures"


def bomb(folder: Path) -> str:
    picture_folder(folder)
    huge = Image.new("1", (20_000, 20_000))
    huge.save(folder / "pictures" / "class0" / "huge.png")
    return "pictures"


def sixteen_bits(folder: Path) -> str:
    picture_folder(folder)
    deep = Image.fromarray(BYTES[0][..., 0].astype(numpy.uint16) * 256)
    deep.save(folder / "pictures" / "class0" / "deep.png")
    return "pictures"


def empty_folder(folder: Path) -> str:
    (folder / "pictures" / "class0").mkdir(parents=True)
    return "pictures"


def no_classes(folder: Path) -> str:
    (folder / "pictures").mkdir()
    return "pictures"


def not_npz(folder: Path) -> str:
    (folder / "d.npz").write_bytes(b"no zip")
    return "d.npz"


FLOATS = (BYTES / 255).astype(numpy.float32)
WRONG: list[tuple[str, Any, str]] = [
    ("missing", lambda folder: "nowhere", "no image data at nowhere: expected a folder"),
    ("empty folder", empty_folder, "holds no images in its class folders"),
    ("no class folders", no_classes, "has no class folders: expected pictures/CLASS/picture.png"),
    ("truncated", truncated, "cannot read the image pictures/class1/1.png"),
    ("mixed sizes", mixed, "mixes image shapes (3×4×8, 3×8×8): give image_size"),
    ("bomb", bomb, "cannot read the image pictures/class0/huge.png"),
    ("16 bits", sixteen_bits, "more than 8 bits"),
    ("no zip", not_npz, "cannot read d.npz"),
    ("wrong keys", lambda f: wrong_npz(f, a=FLOATS, b=LABELS), "has the arrays a, b: expected x"),
    ("empty", lambda f: wrong_npz(f, x=FLOATS[:0], y=LABELS[:0]), "holds no images"),
    ("range", lambda f: wrong_npz(f, x=FLOATS * 255, y=LABELS), "divide 8-bit images by 255"),
    ("negative", lambda f: wrong_npz(f, x=FLOATS - 1, y=LABELS), "pixels must lie in [0, 1]"),
    ("nan", lambda f: wrong_npz(f, x=FLOATS * numpy.nan, y=LABELS), "has NaN or infinite pixels"),
    ("labels", lambda f: wrong_npz(f, x=FLOATS, y=LABELS[:3]), "6 images and 3 labels"),
    ("float labels", lambda f: wrong_npz(f, x=FLOATS, y=LABELS / 1), "whole class numbers"),
    ("negative labels", lambda f: wrong_npz(f, x=FLOATS, y=LABELS - 1), "has the label -1"),
    ("shape", lambda f: wrong_npz(f, x=FLOATS[:, 0, 0], y=LABELS), "images of shape (6, 3)"),
    ("objects", lambda f: wrong_npz(f, x=numpy.array([{}]), y=LABELS), "cannot read d.npz"),
    ("text", lambda f: wrong_npz(f, x=numpy.array(["a"]), y=LABELS), "images of type <U1"),
    ("demo", lambda folder: "demo:digit", 'no demo images "demo:digit": did you mean'),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("make", "expected"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_images_are_one_clear_sentence(tmp_path: Path, make: Any, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        images.load(make(tmp_path), folder=tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_the_policy_does_not_know(tmp_path: Path) -> None:
    picture_folder(tmp_path)
    with pytest.raises(InputError, match="'class1', which is not among the classes"):
        images.load("pictures", folder=tmp_path, classes=("class0", "class2"))
    numpy.savez(tmp_path / "d.npz", x=FLOATS, y=LABELS)
    with pytest.raises(InputError, match="has the label 2, but only 2 classes are named"):
        images.load("d.npz", folder=tmp_path, classes=("a", "b"))
