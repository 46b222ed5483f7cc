"""Evidence from the sensor's noise, where the user has reference pictures of the camera."""

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from assaymark.provenance.camera_noise import (
    LEAST_SIDE,
    THRESHOLD,
    Fingerprint,
    Match,
    match,
    references,
)
from assaymark.provenance.evidence import Evidence, Family, Says, abstains
from assaymark.provenance.forensic_view import Pixels, refusal
from assaymark.provenance.material import Material
from assaymark.reports.errors import InputError

NAME = "camera-noise"
MOST = 1536  # pixels a side that are compared, from the middle


def look_camera_noise(material: Material) -> Sequence[Evidence]:
    """Score: peak-to-correlation energy; at 60 and above the picture comes from the camera.

    A low one says nothing: resizing, strong compression or a dark scene hides the noise. Raises
    InputError where the option `prnu_references` (a folder, pictures, or an .npz) is of no use.
    """
    began = time.process_time()
    given = material.options.get("prnu_references")
    if given is None:
        why = "no reference pictures of a camera were given (prnu_references)"
        return [abstains(NAME, Family.FORENSIC, why)]
    pixels = material.picture.pixels
    if (no := refusal(NAME, pixels, LEAST_SIDE)) is not None:
        return [no]
    camera = _camera(_key(given))
    height, width = camera.pattern.shape
    if pixels.shape[0] > height or pixels.shape[1] > width:
        why = (
            f"the picture has {pixels.shape[1]} x {pixels.shape[0]} pixels, the camera's references "
            f"{width} x {height}: only their size or a crop of it can be compared"
        )
        return [abstains(NAME, Family.FORENSIC, why)]
    found = _match(camera, pixels)
    clear = found.pce >= THRESHOLD
    summary = (
        f"its noise is that of the camera that took the {camera.pictures} reference pictures (PCE "
        f"{found.pce:.0f}, chance {found.p_value:.1g})"
        if clear
        else f"its noise does not show the camera of the references (PCE {found.pce:.1f} of "
        f"{THRESHOLD:.0f}), which resizing or compression would hide as well"
    )
    return [
        Evidence(
            detector=NAME,
            family=Family.FORENSIC,
            says=Says.AUTHENTIC if clear else Says.NOTHING,
            summary=summary,
            score=found.pce,
            details={
                "p_value": found.p_value,
                "top": found.top,
                "left": found.left,
                "positions": found.shifts,
                "references": camera.pictures,
            },
            seconds=time.process_time() - began,
        )
    ]


def _key(given: object) -> str | tuple[str, ...]:
    if isinstance(given, str | Path):
        return str(given)
    if isinstance(given, Sequence) and all(isinstance(item, str | Path) for item in given):
        return tuple(str(item) for item in given)
    raise InputError(
        f"prnu_references must be a folder, an .npz or a list of pictures, got {type(given).__name__}"
    )


@lru_cache(maxsize=1)  # a folder of files is compared with one camera
def _camera(given: str | tuple[str, ...]) -> Fingerprint:
    return references([Path(given)] if isinstance(given, str) else [Path(item) for item in given])


def _match(camera: Fingerprint, pixels: Pixels) -> Match:
    """Compare the middle of a large picture; with the same place where the sizes agree."""
    height, width = pixels.shape[:2]
    top, left = max(0, height - MOST) // 2, max(0, width - MOST) // 2
    part = pixels[top : top + MOST, left : left + MOST]
    if camera.pattern.shape == (height, width):
        same = Fingerprint(
            pattern=camera.pattern[top : top + MOST, left : left + MOST], pictures=camera.pictures
        )
        return match(same, part)
    found = match(camera, part)
    return Match(
        pce=found.pce,
        p_value=found.p_value,
        top=found.top - top,
        left=found.left - left,
        shifts=found.shifts,
    )
