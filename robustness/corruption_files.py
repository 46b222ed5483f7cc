"""Corrupted copies as files, for other tools: pictures in class folders, or arrays."""

import io
import re
from pathlib import Path
from typing import Literal

import numpy
import torch
from PIL import Image

from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically
from assaymark.robustness.corruption_check import chosen_corruptions
from assaymark.robustness.corruptions import corrupt
from assaymark.robustness.evaluate import subset
from assaymark.robustness.images import ImageData
from assaymark.robustness.streams import Streams

_AT_ONCE = 250


def write_corrupted(
    data: ImageData,
    folder: Path,
    *,
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    form: Literal["png", "npz"] = "png",
    examples: int | None = None,
    seed: int = 0,
    check: str = "corrupt",
) -> int:
    """Write a copy of each image for each corruption and severity; how many copies were written.

    png: FOLDER/CORRUPTION/SEVERITY/CLASS/NUMBER.png. npz: FOLDER/CORRUPTION-SEVERITY.npz with x
    (n×C×H×W, 8 bits) and y (n). A check of the same id and seed measures the same copies before they
    are rounded to 8 bits. Raises InputError for a folder that holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} holds something already: name an empty or a new folder")
    names = chosen_corruptions(corruptions, data.images.shape[1])
    chosen = subset(len(data.images), examples, seed, check)
    classes = _folder_names(data)
    labels = data.labels[chosen]
    for name in names:
        for severity in severities:
            parts = []
            for begin in range(0, len(chosen), _AT_ONCE):
                rows = chosen[begin : begin + _AT_ONCE]
                streams = Streams.of(seed, check, rows)
                moved = corrupt(data.images[rows], name, severity, streams)
                parts.append((moved * 255).round().byte())
            copies = torch.cat(parts).numpy()
            if form == "npz":
                stream = io.BytesIO()
                numpy.savez_compressed(stream, x=copies, y=labels.numpy())
                write_atomically(folder / f"{name}-{severity}.npz", stream.getvalue())
                continue
            place = folder / name / str(severity)
            for copy, label, index in zip(copies, labels.tolist(), chosen, strict=True):
                picture = Image.fromarray(copy[0] if len(copy) == 1 else copy.transpose(1, 2, 0))
                stream = io.BytesIO()
                picture.save(stream, "PNG")
                write_atomically(place / classes[label] / f"{index:06}.png", stream.getvalue())
    return len(names) * len(severities) * len(chosen)


def _folder_names(data: ImageData) -> list[str]:
    """Class names as names of folders; numbers where they would not be safe or not differ."""
    count = int(data.labels.max()) + 1
    names = list(data.classes or ())
    safe = all(re.fullmatch(r"[\w-][\w .-]{0,99}", name) for name in names)
    differ = len({name.lower() for name in names}) == len(names)
    return names if names and safe and differ else [f"{label:04}" for label in range(count)]
