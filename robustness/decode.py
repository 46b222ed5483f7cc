"""Pictures and columns of cells as tensors, with one sentence for each thing that is none."""

import json
import warnings
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.named_code import first_line

MOST_BYTES = 8 << 30
"""Of pixels as float32 in one data set; more is a mistake or an attack on this machine's memory."""


def picture(source: Path | BytesIO, name: str, size: tuple[int, int] | None) -> Tensor:
    """A grey or RGB picture as channels×height×width in [0, 1], resized where a size is given."""
    try:
        with Image.open(source) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"mode {opened.mode} has more than 8 bits; use .npz for such data")
            grey = opened.mode in ("1", "L", "LA")
            converted = opened.convert("L" if grey else "RGB")
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
        unknown = isinstance(source, BytesIO) and isinstance(error, UnidentifiedImageError)
        reason = "its bytes are no picture" if unknown else str(error)
        raise InputError(
            f"cannot read the image {name}: {reason}; replace it or take it out of the data"
        ) from error
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def stacked(pictures: Sequence[Tensor], name: str) -> Tensor:
    """Pictures of one size as one tensor; grey ones among colour ones become RGB."""
    arrays = list(pictures)
    if any(array.shape[0] == 3 for array in arrays):
        arrays = [array.expand(3, *array.shape[1:]) for array in arrays]
    shapes = {tuple(array.shape) for array in arrays}
    if len(shapes) > 1:
        seen = ", ".join("×".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise InputError(f"{name} mixes image shapes ({seen}): give image_size = [height, width]")
    return torch.stack(arrays)


def pictures_of(
    cells: Iterable[object], name: str, root: Path, size: tuple[int, int] | None
) -> Tensor | NDArray[Any]:
    """A column of paths, encoded pictures or nested lists: pictures in [0, 1], or an array as it is."""
    tensors: list[Tensor] = []
    arrays: list[NDArray[Any]] = []
    held = 0
    for row, cell in enumerate(cells):
        where = f"{name}, row {row + 1}"
        if isinstance(cell, dict):  # a Hugging Face image
            cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
        if isinstance(cell, str) and cell.lstrip().startswith("["):
            cell = _listed(cell, where)
        if isinstance(cell, bytes):
            tensors.append(picture(BytesIO(cell), where, size))
        elif isinstance(cell, str):
            tensors.append(picture(_inside(cell, root, where), f"{where} ({cell[:80]})", size))
        elif isinstance(cell, list | numpy.ndarray):
            arrays.append(_array(cell, where, size))
        else:
            raise InputError(f"{where} has no image: expected a path, bytes of a picture, or lists")
        if tensors and arrays:
            raise InputError(
                f"{where} is of another kind than the rows before it: expected one kind"
            )
        held += arrays[-1].size if arrays else tensors[-1].numel()
        if 4 * held > MOST_BYTES:
            raise InputError(
                f"{name} holds more than {MOST_BYTES >> 30} GiB of pixels up to row {row + 1}: give "
                "fewer rows, or a smaller image_size"
            )
    if not tensors and not arrays:
        raise InputError(f"{name} holds no images: expected at least one row")
    if tensors:
        return stacked(tensors, name)
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        seen = ", ".join("×".join(map(str, shape)) for shape in shapes[:3])
        raise InputError(f"{name} mixes arrays of the shapes {seen}: expected one shape")
    return numpy.stack(arrays)


def labels_of(
    values: Sequence[object], name: str, classes: tuple[str, ...] | None
) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Class numbers, and the class names where the labels are names."""
    for row, value in enumerate(values):
        if value is None or value == "" or value != value:  # NaN
            raise InputError(f"{name}, row {row + 1} has no label: expected a class number or name")
    if all(isinstance(value, int) for value in values):
        return _numbers(values, name), None
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        strange = next(value for value in values if not isinstance(value, int | str))
        raise InputError(
            f"{name} has labels such as {str(strange)[:40]!r} ({type(strange).__name__}): expected class "
            "numbers or names"
        )
    numeric = all(text.isascii() and text.isdecimal() and len(text) < 10 for text in texts)
    if classes is None or (numeric and not set(texts) <= set(classes)):
        if numeric:
            return _numbers([int(text) for text in texts], name), None
        classes = classes or tuple(sorted(set(texts)))
    places = {text: place for place, text in enumerate(classes)}
    for row, text in enumerate(texts):
        if text not in places:
            raise InputError(
                f"{name}, row {row + 1} has the label {text[:40]!r}, which is not among the classes of "
                f"the policy{nearest(text, classes)}"
            )
    return _numbers([places[text] for text in texts], name), classes


def _numbers(values: Sequence[Any], name: str) -> NDArray[Any]:
    try:
        return numpy.array(values, dtype=numpy.int64)
    except OverflowError as error:
        raise InputError(f"{name} has a label beyond 64 bits: expected class numbers") from error


def _inside(path: str, root: Path, where: str) -> Path:
    """A file in the folder of its table; no table says where else to look on this machine."""
    try:
        found = (root / path).resolve()
        inside = found.is_relative_to(root.resolve()) and "\0" not in path
        there = inside and found.is_file()
    except (OSError, ValueError, RuntimeError):
        inside, there = False, False
    if not inside:
        raise InputError(
            f"{where} has the path {path[:80]!r}, which leaves the folder of the table: expected files "
            "beside it"
        )
    if not there:
        raise InputError(f"{where} has the path {path[:80]!r}: no such file beside the table")
    return found


def _listed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no list of numbers: {first_line(error)}") from error


def _array(cell: object, where: str, size: tuple[int, int] | None) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            array: NDArray[Any] = numpy.array(cell)
    except Exception as error:
        raise InputError(f"{where} is no even list of numbers: {first_line(error)}") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"{where} holds {array.dtype}: expected numbers")
    if array.ndim == 1:
        if size is None or array.size != size[0] * size[1]:
            raise InputError(
                f"{where} is a flat list of {array.size} numbers: give image_size = [height, width] of "
                "one grey picture, or lists of rows"
            )
        array = array.reshape(size)
    if array.ndim not in (2, 3):
        raise InputError(
            f"{where} has {array.ndim} axes: expected height×width with or without channels"
        )
    return array
