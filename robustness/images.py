"""Image data by name.

Folder by class · .npz · .npy with labels · .parquet or .csv · Hugging Face dataset folder ·
package.module:factory · demo:digits.
"""

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.named_code import first_line
from assaymark.robustness import demo
from assaymark.robustness.decode import labels_of, picture, pictures_of, stacked
from assaymark.robustness.factories import call, resolve
from assaymark.robustness.tables import SUFFIXES, Cells, Columns, dataset, is_dataset, table
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
    labels: str | None = None,
    columns: Columns | None = None,
    split: str | None = None,
) -> ImageData:
    """The labelled images a spec names.

    classes: names in the order of the model's outputs; an image folder's class folders are matched
    with it. data_range: what the values of a float array span, when it is not [0, 1]. image_size:
    (height, width) to which files are resized. labels: the .npy file with the labels of another. columns
    and split: of a table and of a dataset folder. Raises InputError for anything that cannot be used.
    """
    columns = columns or Columns()
    if spec.startswith("demo:"):
        known = ["demo:digits", "demo:digits-train"]
        if spec not in known:
            raise InputError(f'no demo images "{spec}"{nearest(spec, known)}')
        images, numbers = demo.digits(train=spec == "demo:digits-train")
        found = ImageData(
            name=spec, images=images, labels=numbers, classes=tuple(str(i) for i in range(10))
        )
    elif re.fullmatch(r"[\w.]+:[\w.]+", spec):
        found = _from_factory(spec, folder, data_range)
    elif (folder / spec).is_dir() and is_dataset(folder / spec):
        cells, chosen = dataset(folder / spec, spec, split, columns)
        called = f"{spec}, split {chosen}"
        found = _table(cells, called, folder / spec, classes, image_size, data_range)
    elif (folder / spec).is_dir():
        found = _folder(folder / spec, spec, classes, image_size)
    elif (folder / spec).is_file() and spec.endswith(".npz"):
        found = _npz(folder / spec, spec, data_range)
    elif (folder / spec).is_file() and spec.endswith(".npy"):
        found = _npy(folder / spec, spec, labels, folder, data_range)
    elif (folder / spec).is_file() and spec.lower().endswith(SUFFIXES):
        cells, root = table(folder / spec, spec, columns), (folder / spec).parent
        found = _table(cells, spec, root, classes, image_size, data_range)
    else:
        raise InputError(
            f"no image data at {spec}: expected a folder with one sub-folder a class or with parquet "
            "files, an .npz with arrays x and y, an .npy with labels beside it, a .parquet or .csv table, "
            "package.module:factory or demo:digits"
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
                arrays.append(picture(file, f"{name}/{path.name}/{file.name}", size))
                labels.append(names.index(path.name))
            elif not file.name.startswith("."):
                skipped.append(f"{path.name}/{file.name}")
    if not arrays:
        raise InputError(
            f"{name} holds no images in its class folders: expected files ending in "
            f"{', '.join(sorted(EXTENSIONS))}"
        )
    return ImageData(
        name=name,
        images=stacked(arrays, name),
        labels=torch.tensor(labels),
        classes=names,
        skipped=tuple(skipped),
    )


def _table(
    cells: Cells,
    name: str,
    root: Path,
    classes: tuple[str, ...] | None,
    size: tuple[int, int] | None,
    data_range: tuple[float, float] | None,
) -> ImageData:
    read = pictures_of(cells.images, name, root, size)
    y, names = labels_of(cells.labels, name, classes)
    if isinstance(read, Tensor):
        found = ImageData(name=name, images=read, labels=torch.from_numpy(y), classes=None)
    else:
        found = _arrays(name, read, y, data_range)
    return replace(found, classes=names or cells.classes)


def _npy(
    path: Path, name: str, labels: str | None, folder: Path, data_range: tuple[float, float] | None
) -> ImageData:
    beside = [
        path.with_name(f"{path.stem[: -len(x)]}{y}.npy") for x, y in _KEYS if path.stem.endswith(x)
    ]
    found = folder / labels if labels else next((p for p in beside if p.is_file()), None)
    if found is None or not found.is_file():
        usual = beside[-1].name if beside else "y.npy"
        raise InputError(
            f"{name} holds images, and {labels or f'no {usual} beside it'} holds their labels: name an .npy "
            "file of class numbers with labels"
        )
    return _arrays(name, _one_array(path, name), _one_array(found, found.name), data_range)


def _one_array(path: Path, name: str) -> NDArray[Any]:
    try:
        # mapped, so that a header which promises more than the file holds costs no memory
        array = numpy.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:
        raise InputError(
            f"cannot read {name}: {first_line(error)}; write it with numpy.save"
        ) from error
    if not isinstance(array, numpy.ndarray):
        raise InputError(f"{name} holds several arrays: call it .npz, or write one with numpy.save")
    return array


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
