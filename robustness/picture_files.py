"""Pictures as people keep them: upright 8-bit pixels of any size, and files that say the same again.

What cannot be changed without guessing what a viewer shows is refused in one sentence.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line
from assaymark.robustness import images
from assaymark.robustness.decode import MOST_BYTES
from assaymark.robustness.images import EXTENSIONS
from assaymark.robustness.tables import is_dataset

Pixels = UInt8[Tensor, "channels height width"]
Form = Literal["png", "keep"]
JPEG_QUALITY = 95
LOSSY = (".jpg", ".jpeg")
_LOSSLESS = {".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
_LOSSLESS |= {".ppm": "PPM", ".pgm": "PPM"}


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredPicture:
    """A picture with the name it is told by, a path with / in it.

    folder: the name of its class folder; label: the class number that its data set says; both None
    where there is none. profile: its colour profile (ICC). path: its file.
    """

    name: str
    pixels: Pixels
    folder: str | None = None
    label: int | None = None
    profile: bytes | None = None
    path: Path | None = None

    @property
    def image(self) -> Tensor:
        """As float32 in [0, 1]."""
        return self.pixels.float() / 255


def find(specs: Sequence[str], folder: Path = Path()) -> list[StoredPicture]:
    """The pictures that files, folders (with all below them) and data specs name, each name once.

    Raises InputError for a place without pictures, for what cannot be read, and for two pictures that
    would be told by one name.
    """
    found: list[StoredPicture] = []
    held = 0
    for spec in specs:
        place = folder / spec
        if _is_data(spec, place):
            new = _of_data(spec, folder)
        elif place.is_dir():
            new = [read(file, file.relative_to(place).as_posix()) for file in _files(place)]
            if not new:
                raise InputError(
                    f"{spec} holds no pictures: expected files ending in {', '.join(sorted(EXTENSIONS))}"
                )
        elif place.is_file():
            new = [read(place, place.name)]
        else:
            raise InputError(
                f"no pictures at {spec}: expected a picture, a folder of them, an .npz, a table, "
                "package.module:factory or demo:digits"
            )
        found += new
        held += sum(4 * picture.pixels.numel() for picture in new)
        if held > MOST_BYTES:
            raise InputError(
                f"the pictures up to {spec} hold more than {MOST_BYTES >> 30} GiB of pixels: take fewer "
                "at a time"
            )
    _distinct(found)
    return found


def _distinct(found: Sequence[StoredPicture]) -> None:
    """One name one picture, also without its suffix: both would be written to one .png."""
    stems: dict[str, str] = {}
    for picture in found:
        stem = written_name(picture.name, "png").lower()
        place = picture.name if picture.path is None else picture.path.as_posix()
        if stems.get(stem) == place:
            raise InputError(f"{place} is named twice: name it once")
        if stem in stems:
            raise InputError(
                f"{place} and {stems[stem]} would both be written as {stem}: rename one of them, "
                "or give them in two runs"
            )
        stems[stem] = place


def _is_data(spec: str, place: Path) -> bool:
    if place.is_dir():
        return is_dataset(place)
    if place.is_file():
        return place.suffix.lower() not in EXTENSIONS
    return ":" in spec


def _files(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in EXTENSIONS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def names_in(folder: Path) -> list[str]:
    """The names of all pictures in a folder and below."""
    return [file.relative_to(folder).as_posix() for file in _files(folder)]


def _of_data(spec: str, folder: Path) -> list[StoredPicture]:
    """Pictures of a data set, rounded to 8 bits and told by their numbers."""
    data = images.load(spec, folder=folder)
    if data.images.shape[1] not in (1, 3):
        raise InputError(
            f"{spec} has pictures of {data.images.shape[1]} channels: expected 1 (grey) or 3 (RGB)"
        )
    pixels = (data.images * 255).round().byte()
    return [
        StoredPicture(
            name=f"{number:06}.png",
            pixels=one,
            label=label,
            folder=data.classes[label] if data.classes else None,
        )
        for number, (one, label) in enumerate(zip(pixels, data.labels.tolist(), strict=True))
    ]


def read(source: Path | io.BytesIO, name: str) -> StoredPicture:
    """A file's picture, upright, grey or RGB.

    Palettes become RGB and two levels become grey, which changes no pixel. Raises InputError for what
    is no picture and for transparency, more than 8 bits, CMYK and several frames.
    """
    try:
        with Image.open(source) as opened:
            _check(opened)
            upright = ImageOps.exif_transpose(opened)
            grey = opened.mode in ("1", "L", "LA")
            array = numpy.array(upright.convert("L" if grey else "RGB"))
            profile = opened.info.get("icc_profile")
    except InputError as error:
        raise InputError(f"{name} {error}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning) as error:
        raise InputError(
            f"cannot read the picture {name}: {first_line(error)}; replace it or leave it out"
        ) from error
    pixels = torch.from_numpy(array[None] if grey else array.transpose(2, 0, 1).copy())
    parts = Path(name).parts
    return StoredPicture(
        name=name,
        pixels=pixels,
        folder=parts[0] if len(parts) > 1 else None,
        profile=profile if isinstance(profile, bytes) else None,
        path=source if isinstance(source, Path) else None,
    )


def _check(opened: Image.Image) -> None:
    deep = any(
        "16" in str(tile[3]) for tile in getattr(opened, "tile", ())
    )  # Pillow drops the low bytes of these
    if deep or opened.mode.startswith(("I", "F")):
        raise InputError("has more than 8 bits a channel: convert it to 8 bits first")
    if opened.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise InputError(f"is in {opened.mode}, not in RGB or grey: convert it to RGB first")
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":  # of a phone's MPO, the first is the photograph
        raise InputError(f"holds {frames} frames: give one picture a file")
    if opened.has_transparency_data:
        opaque = opened.convert("RGBA").getchannel("A").getextrema()[0] == 255
        if not opaque:
            raise InputError(
                "is transparent in places, and what shows through is not known: flatten it first"
            )


def written_name(name: str, form: Form) -> str:
    """What a protected picture is called: the original's name, as .png unless its format is kept.

    >>> written_name("a/b.jpg", "png"), written_name("a/b.jpg", "keep")
    ('a/b.png', 'a/b.jpg')
    """
    return name if form == "keep" else Path(name).with_suffix(".png").as_posix()


def is_lossy(name: str) -> bool:
    """Whether a file of this name does not give back the pixels that were written."""
    return Path(name).suffix.lower() in LOSSY


def encode(picture: StoredPicture, pixels: Pixels, name: str) -> bytes:
    """The file of a picture: no metadata but the colour profile, so upright as it is."""
    array = pixels.numpy()
    image = Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0).copy())
    suffix, stream = Path(name).suffix.lower(), io.BytesIO()
    if suffix in LOSSY:
        image.save(stream, "JPEG", quality=JPEG_QUALITY, icc_profile=picture.profile)
    elif suffix == ".webp":
        image.save(stream, "WEBP", lossless=True, exact=True, icc_profile=picture.profile)
    elif suffix in _LOSSLESS:
        image.save(stream, _LOSSLESS[suffix], icc_profile=picture.profile)
    else:
        raise InputError(
            f"{name}: a {suffix} file does not hold every colour, so its format cannot be kept: leave "
            "out --format keep, and a PNG is written"
        )
    return stream.getvalue()
