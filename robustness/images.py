"""Image data by name: folder by class · .npz · package.module:factory · demo:digits."""

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness import demo
from assaymark.robustness.factories import call, resolve
from assaymark.robustness.types import Images, Labels

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
_ROUNDING = 1e-6
_KEYS = (("x", "y"), ("images", "labels"), ("x_test", "y_test"), ("data", "labels"))


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images in [0, 1] with class numbers and class names."""

    name: str
    images: Images
    labels: Labels
    classes: tuple[str, ...] | None
    """None when the data do not say; then the policy or plain numbers name them."""
    skipped: tuple[str, ...] = ()
    """Files that are no pictures by their name."""


def load(
    spec: str,
    *,
    folder: Path = Path(),
    classes: tuple[str, ...] | None = None,
    data_range: tuple[float, float] | None = None,
    image_size: tuple[int, int] | None = None,
) -> ImageData:
    """The labelled images a spec names.

    classes: names in the order of the model's outputs; an image folder's class folders are matched
    with it. data_range: what the values of a float array span, when it is not [0, 1]. image_size:
    (height, width) to which files are resized. Raises InputError for anything that cannot be used.
    """
    if spec.startswith("demo:"):
        known = ["demo:digits", "demo:digits-train"]
        if spec not in known:
            raise InputError(f'no demo images "{spec}"{nearest(spec, known)}')
        images, labels = demo.digits(train=spec == "demo:digits-train")
        found = ImageData(
            name=spec, images=images, labels=labels, classes=tuple(str(i) for i in range(10))
        )
    elif re.fullmatch(r"[\w.]+:[\w.]+", spec):
        found = _from_factory(spec, folder, data_range)
    elif (folder / spec).is_dir():
        found = _folder(folder / spec, spec, classes, image_size)
    elif (folder / spec).is_file() and spec.endswith(".npz"):
        found = _npz(folder / spec, spec, data_range)
    else:
        raise InputError(
            f"no image data at {spec}: expected a folder with one sub-folder a class, an .npz with "
            "arrays x and y, package.module:factory or demo:digits"
        )
    if classes is not None:
        found = replace(found, classes=classes)
    return _checked(found)


def _checked(data: ImageData) -> ImageData:
    if not len(data.images):
        raise InputError(f"{data.name} holds no images: expected at least one")
    if data.classes is not None and int(data.labels.max()) >= len(data.classes):
        raise InputError(
            f"{data.name} has the label {int(data.labels.max())}, but only {len(data.classes)} "
            "classes are named: labels count from 0"
        )
    if int(data.labels.min()) < 0:
        raise InputError(f"{data.name} has the label {int(data.labels.min())}: labels count from 0")
    return data


def _folder(
    root: Path, name: str, classes: tuple[str, ...] | None, size: tuple[int, int] | None
) -> ImageData:
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    folders = [path for path in folders if not path.name.startswith(".")]
    if not folders:
        raise InputError(f"{name} has no class folders: expected {name}/CLASS/picture.png")
    names = classes or tuple(path.name for path in folders)
    strangers = [path.name for path in folders if path.name not in names]
    if strangers:
        raise InputError(
            f"{name} has the folder {strangers[0]!r}, which is not among the classes of the policy"
            f"{nearest(strangers[0], names)}"
        )
    arrays, labels, skipped = [], [], []
    for path in folders:
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in EXTENSIONS:
                arrays.append(_picture(file, f"{name}/{path.name}/{file.name}", size))
                labels.append(names.index(path.name))
            elif not file.name.startswith("."):
                skipped.append(f"{path.name}/{file.name}")
    if not arrays:
        raise InputError(
            f"{name} holds no images in its class folders: expected files ending in "
            f"{', '.join(sorted(EXTENSIONS))}"
        )
    if any(array.shape[0] == 3 for array in arrays):  # grey pictures among colour ones
        arrays = [array.expand(3, *array.shape[1:]) for array in arrays]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        seen = ", ".join(
            "×".join(map(str, s)) for s in sorted(shapes, key=lambda s: tuple(map(int, s)))[:3]
        )
        raise InputError(f"{name} mixes image shapes ({seen}): give image_size = [height, width]")
    return ImageData(
        name=name,
        images=torch.stack(arrays),
        labels=torch.tensor(labels),
        classes=names,
        skipped=tuple(skipped),
    )


def _picture(path: Path, name: str, size: tuple[int, int] | None) -> Tensor:
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise ValueError(
                    f"mode {picture.mode} has more than 8 bits; use .npz for such data"
                )
            grey = picture.mode in ("1", "L", "LA")
            converted = picture.convert("L" if grey else "RGB")
            if size is not None:
                converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            array = numpy.asarray(converted, dtype=numpy.float32) / 255
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise InputError(
            f"cannot read the image {name}: {error}; replace it or take it out of the data"
        ) from error
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def _npz(path: Path, name: str, data_range: tuple[float, float] | None) -> ImageData:
    try:
        with contextlib.closing(numpy.load(path, allow_pickle=False)) as archive:
            if not isinstance(archive, numpy.lib.npyio.NpzFile):
                raise InputError(f"{name} holds one array, expected two: x and y (numpy.savez)")
            keys = next((pair for pair in _KEYS if set(pair) <= set(archive.files)), None)
            if keys is None:
                raise InputError(
                    f"{name} has the arrays {', '.join(archive.files) or 'none'}: expected x "
                    "(n×C×H×W or n×H×W×C) and y (n)"
                )
            x, y = archive[keys[0]], archive[keys[1]]
    except InputError:
        raise
    except Exception as error:  # a hostile archive fails in zipfile, zlib, numpy or the allocator
        raise InputError(f"cannot read {name}: {error}; write it with numpy.savez") from error
    return _arrays(name, x, y, data_range)


def _from_factory(spec: str, folder: Path, data_range: tuple[float, float] | None) -> ImageData:
    made = call(resolve(spec, folder), spec)
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise InputError(f"{spec} made a {type(made).__name__}, expected (images, labels)")
    try:
        x, y = (
            numpy.asarray(part.detach().cpu() if isinstance(part, Tensor) else part)
            for part in made
        )
    except ValueError as error:
        raise InputError(f"{spec} made something that is no array: {error}") from error
    return _arrays(spec, x, y, data_range)


def _arrays(
    name: str,
    x: NDArray[Any],
    y: NDArray[Any],
    data_range: tuple[float, float] | None,
) -> ImageData:
    if y.ndim != 1 or not numpy.issubdtype(y.dtype, numpy.integer):
        raise InputError(
            f"{name} has labels of shape {y.shape} and type {y.dtype}: expected n whole class numbers"
        )
    if not numpy.issubdtype(x.dtype, numpy.number) or numpy.iscomplexobj(x):
        raise InputError(f"{name} has images of type {x.dtype}: expected numbers")
    if x.ndim and len(x) != len(y):
        raise InputError(
            f"{name} has {len(x)} images and {len(y)} labels: expected one label an image"
        )
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4:
        raise InputError(f"{name} has images of shape {x.shape}: expected n×C×H×W or n×H×W×C")
    if x.shape[1] not in (1, 3, 4) and x.shape[3] in (1, 3, 4):
        x = x.transpose(0, 3, 1, 2)
    if not x.size:
        raise InputError(f"{name} holds no images: expected at least one")
    low, high = data_range or ((0.0, 255.0) if x.dtype == numpy.uint8 else (0.0, 1.0))
    scaled = (x.astype(numpy.float64) - low) / (high - low)
    if not numpy.isfinite(scaled).all():
        raise InputError(f"{name} has NaN or infinite pixels: expected numbers in [0, 1]")
    smallest, largest = float(scaled.min()), float(scaled.max())
    if smallest < -_ROUNDING or largest > 1 + _ROUNDING:
        raise InputError(
            f"pixels must lie in [{low:g}, {high:g}], {name} has [{x.min():g}, {x.max():g}]: divide "
            "8-bit images by 255, or say what the values span with data_range = [low, high]"
        )
    return ImageData(
        name=name,
        images=torch.from_numpy(numpy.ascontiguousarray(scaled.clip(0, 1), dtype=numpy.float32)),
        labels=torch.from_numpy(y.astype(numpy.int64)),
        classes=None,
    )
