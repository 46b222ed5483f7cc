"""Adversarial examples as files: one .npz with everything exact, and a picture of each."""

import io
import re
from pathlib import Path

import numpy
from PIL import Image

from assaymark.reports.files import write_atomically
from assaymark.robustness.evaluate import Evaluation
from assaymark.robustness.images import ImageData


def save_adversarial(
    folder: Path,
    data: ImageData,
    indices: list[int],
    result: Evaluation,
    classes: tuple[str, ...],
) -> None:
    """Write adversarial.npz and one PNG a fallen point to `folder`, which is made where it is missing.

    The arrays: index (number in the data set), x and adversarial (float32 in [0, 1], n×C×H×W; a point
    that stands has its own image), y, correct and robust. PNG files are rounded to 8 bits, which may
    undo the attack: evaluate with the .npz. Raises InputError where the folder cannot be written.
    """
    assert result.adversarial is not None
    stream = io.BytesIO()
    numpy.savez_compressed(
        stream,
        index=numpy.array(indices),
        x=data.images[indices].numpy(),
        adversarial=result.adversarial.numpy(),
        y=data.labels[indices].numpy(),
        correct=result.correct.numpy(),
        robust=result.robust.numpy(),
    )
    write_atomically(folder / "adversarial.npz", stream.getvalue())
    fallen = (result.correct & ~result.robust).nonzero().flatten().tolist()
    for place in fallen:
        pixels = (result.adversarial[place] * 255).round().byte().permute(1, 2, 0).numpy()
        label = re.sub(r"[^A-Za-z0-9-]+", "_", classes[int(data.labels[indices[place]])])[:40]
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        write_atomically(folder / f"{indices[place]:06d}_{label}.png", stream.getvalue())
