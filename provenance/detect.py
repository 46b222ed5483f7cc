"""Is this file generated, or was it changed? Every detector that fits, fused by one written rule."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from assaymark.provenance.detection import Detection
from assaymark.provenance.detectors import DETECTORS, Detector
from assaymark.provenance.evidence import Evidence, Family, Medium, Says, abstains
from assaymark.provenance.files import is_regular
from assaymark.provenance.fuse import Verdict, fuse
from assaymark.provenance.material import Material, Picture, open_material
from assaymark.reports.errors import AssaymarkError, InputError, nearest


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is looked at, and with what.

    only: names of detectors (assaymark.provenance.detectors); empty takes all. skip: names to leave out.
    prior: probability in (0, 1) that such a file is generated, before anything is looked at. options: what
    single detectors take (trust, watermark_key, binding_store, prnu_references, checkpoints, calibrations).
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    prior: float = 0.5
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1:
            raise InputError(f"prior {self.prior}: expected a probability between 0 and 1")
        for name in (*self.only, *self.skip):
            if name not in DETECTORS:
                raise InputError(f'there is no detector "{name}"{nearest(name, DETECTORS)}')

        if not self.detectors:
            raise InputError("every detector is left out: nothing would be looked at")

    @property
    def detectors(self) -> tuple[Detector, ...]:
        names = [name for name in DETECTORS if not self.only or name in self.only]
        return tuple(DETECTORS[name] for name in names if name not in self.skip)


DEFAULT = Settings()
LEFT_OUT = "left out by the settings"


def detect(path: Path, settings: Settings = DEFAULT) -> Detection:
    """Look at one file with every detector that fits its medium; never raises for what it holds."""
    begun = time.process_time()
    try:
        if not is_regular(path):
            raise InputError(f"{path} is no regular file: name files that can be read to their end")
        state = _state(path)
        material = open_material(path, {"frame_look": frame_look, **settings.options})
        digest = sha256_of(path)
    except (InputError, OSError) as error:
        return _unreadable(path, str(error))
    found = _looked_at(material, settings)
    notes = _notes(material, found)
    if _state(path) != state:
        return _unreadable(
            path, f"{path} changed while it was looked at: look again when it is done"
        )
    fused = fuse(found, prior=settings.prior)
    return Detection(
        path=path,
        medium=material.medium,
        kind=material.kind.name if material.kind else "unknown",
        verdict=fused.verdict,
        because=fused.because if fused.contributions else _why_not(material, fused.because),
        probability=fused.probability,
        manipulated_probability=fused.manipulated_probability,
        prior=settings.prior,
        declared=any(map(_declares, found)),
        evidence=tuple(found),
        contributions=fused.contributions,
        conflicts=fused.conflicts,
        not_looked_at=_not_looked_at(found, settings, material.medium),
        notes=notes,
        sha256=digest,
        seconds=time.process_time() - begun,
    )


def _why_not(material: Material, because: str) -> str:
    """Why nothing counts: a file of no known medium first says so, whatever its containers lack."""
    if material.medium is not None:
        return because
    if not material.path.stat().st_size:
        return "the file is empty"
    return "it is no picture, sound or video of a kind that is known here"


def frame_look(picture: Picture) -> Evidence | None:
    """What the fitted statistics say of one frame of a video."""
    from assaymark.provenance.image_learned import look_ensemble

    still = Material(path=Path("frame"), kind=None, medium=Medium.IMAGE)
    vars(still)["picture"] = picture  # where cached_property keeps what it has decoded
    return next(iter(look_ensemble(still)), None)


def crashed(path: Path) -> Detection:
    """The outcome of a file that ended the process which looked at it."""
    return _unreadable(path, "looking at it ended the process, so nothing is known of it")


def _unreadable(path: Path, problem: str) -> Detection:
    return Detection(
        path=path,
        medium=None,
        kind="",
        verdict=Verdict.CANNOT_TELL,
        because=problem,
        problem=problem,
    )


def _looked_at(material: Material, settings: Settings) -> list[Evidence]:
    found: list[Evidence] = []
    for detector in settings.detectors:
        if detector.needs[0] and not settings.options.get(detector.needs[0]):
            continue
        if material.medium is None and detector.family not in _OF_ANY_FILE:
            continue
        if material.medium is not None and material.medium not in detector.media:
            continue
        begun = time.process_time()
        pieces = _pieces(detector, material)
        seconds = time.process_time() - begun
        found += [
            replace(piece, seconds=piece.seconds or seconds / len(pieces)) for piece in pieces
        ]
    return found


_OF_ANY_FILE = (Family.CREDENTIAL, Family.METADATA)


def _pieces(detector: Detector, material: Material) -> Sequence[Evidence]:
    """What a detector found; where it fails, that it abstains."""
    try:
        return tuple(detector.look(material))
    except AssaymarkError as error:
        said = str(error).removeprefix(f"{material.path} ")  # the report names the file already
        why = said if said == str(error) else f"it {said}"
        return (abstains(detector.name, detector.family, why),)
    except Exception as error:  # a hostile file must cost one detector, not the run
        why = f"stopped by an internal error, {type(error).__name__}: {error}"
        return (abstains(detector.name, detector.family, why),)


def _declares(item: Evidence) -> bool:
    if item.says is not Says.GENERATED:
        return False
    if item.detector == "binding" and "watermark" not in item.details.get("found_by", ()):
        return False  # what a store says of a look-alike is written nowhere in this file
    stated = item.family in (Family.CREDENTIAL, Family.WATERMARK)
    return stated or bool(item.details.get("source_type"))


def _not_looked_at(
    found: Sequence[Evidence], settings: Settings, medium: Medium | None
) -> tuple[str, ...]:
    left = [
        name
        for name, row in DETECTORS.items()
        if row not in settings.detectors and (medium is None or medium in row.media)
    ]
    needing = [
        f"{row.name}: needs {row.needs[1]}"
        for row in settings.detectors
        if row.needs[0] and not settings.options.get(row.needs[0]) and medium in row.media
    ]
    silent = [f"{item.detector}: {item.summary}" for item in found if item.says is Says.ABSTAINS]
    if medium is None:
        silent.append("its contents: no picture, sound or video that is known here")
    return (*silent, *needing, *(f"{name}: {LEFT_OUT}" for name in left))


def _notes(material: Material, found: Sequence[Evidence]) -> tuple[str, ...]:
    """What decoding lost, of a picture, and of sound and frames as their detectors tell it."""
    notes: list[str] = []
    if material.medium is Medium.IMAGE:
        with suppress(InputError):
            notes += material.picture.notes
    for item in found:
        told = item.details.get("notes")
        notes += [f"{item.detector}: {note}" for note in told] if isinstance(told, list) else []
    return tuple(dict.fromkeys(notes))


def _state(path: Path) -> tuple[int, ...] | None:
    """What tells whether somebody wrote to a file; None where it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes; raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
