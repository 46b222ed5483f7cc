"""Protected pictures as files: where they may go, how they are made, and what is written of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch

from assaymark.reports.errors import InputError, InternalContradiction
from assaymark.reports.files import check_writable, write_atomically
from assaymark.robustness import catalogue, picture_files
from assaymark.robustness.picture_files import (
    JPEG_QUALITY,
    Form,
    StoredPicture,
    is_lossy,
    written_name,
)
from assaymark.robustness.protect import grid_radius, inside, protect
from assaymark.robustness.protection_check import measure
from assaymark.robustness.recognisers import Recogniser
from assaymark.robustness.streams import seed_of
from assaymark.robustness.transforms import Jpeg, Transform
from assaymark.robustness.types import Labels, Norm

_POOL_BYTES = 1 << 26
"""Pictures that are searched at once: attacks keep some twenty copies of them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Made:
    """A picture's file; protected when no recogniser reads it, as it is and after what it shall survive."""

    name: str
    content: bytes
    protected: bool


def make(
    pictures: Sequence[StoredPicture],
    recognisers: Sequence[Recogniser],
    attacks: Sequence[tuple[str, Mapping[str, object]]],
    *,
    labels: Labels | None = None,
    eps: float = 8 / 255,
    norm: Norm = "linf",
    survive: Sequence[Transform] = (),
    form: Form = "png",
    seed: int = 0,
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Made]:
    """The files of the protected pictures, each decoded again and asked about.

    What is written as JPEG is searched through JPEG. Raises InputError where an attack needs more of
    a recogniser than can be seen.
    """
    for name, _ in attacks:
        for one in recognisers:
            catalogue.can_see(name, one.loaded.access, norm, one.name)
    for picture in pictures:
        grid_radius(eps, norm, picture.pixels.numel())
    made: dict[int, Made] = {}
    for rows in _together(pictures, form):
        x = torch.stack([pictures[row].image for row in rows])
        truth = None if labels is None else labels[rows]
        lossy = is_lossy(written_name(pictures[rows[0]].name, form))
        moved = protect(
            x.to(device),
            [one.module for one in recognisers],
            labels=None if truth is None else truth.to(device),
            eps=eps,
            norm=norm,
            attacks=catalogue.build(attacks, norm),
            survive=survive,
            written=Jpeg(JPEG_QUALITY) if lossy else None,
            keys=[seed_of(pictures[row].name) for row in rows],
            seed=seed,
            batch_size=batch_size,
        ).cpu()
        files = [
            picture_files.encode(
                pictures[row], (one * 255).round().byte(), written_name(pictures[row].name, form)
            )
            for row, one in zip(rows, moved, strict=True)
        ]
        again = [picture_files.read(BytesIO(content), "the file").image for content in files]
        if not lossy and not bool(inside(x, torch.stack(again), eps, norm).all()):
            raise InternalContradiction(f"a protected picture lies outside the ball of {eps:g}")
        readings = measure(
            list(x), again, recognisers, labels=truth, countermeasures=survive, device=device
        )
        readable = torch.stack([reading.readable.any(1) for reading in readings]).any(0)
        for place, row in enumerate(rows):
            made[row] = Made(
                name=written_name(pictures[row].name, form),
                content=files[place],
                protected=not bool(readable[place]),
            )
        progress(len(made), len(pictures))
    return [made[row] for row in range(len(pictures))]


def _together(pictures: Sequence[StoredPicture], form: Form) -> Iterator[list[int]]:
    """Pictures of one size and way of writing, as many at once as memory allows."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        kind = (*picture.pixels.shape, is_lossy(written_name(picture.name, form)))
        groups.setdefault(kind, []).append(row)
    for rows in groups.values():
        size = max(_POOL_BYTES // (4 * pictures[rows[0]].pixels.numel()), 1)
        for begin in range(0, len(rows), size):
            yield rows[begin : begin + size]


def check_places(
    pictures: Sequence[StoredPicture],
    sources: Sequence[Path],
    folder: Path,
    form: Form,
    *,
    force: bool,
) -> None:
    """Raise InputError where writing to `folder` would replace an original or, unforced, anything."""
    target = folder.resolve()
    for source in sources:
        if source.is_dir() and target.is_relative_to(source.resolve()):
            raise InputError(
                f"{folder} lies in {source}, which holds the originals: name a folder elsewhere with -o"
            )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder with -o")
    inputs = {picture.path.resolve() for picture in pictures if picture.path is not None}
    there = []
    for picture in pictures:
        for name in _names(picture, form):
            if (folder / name).resolve() in inputs:
                raise InputError(
                    f"{folder / name} is an original and is never replaced: name another folder with -o"
                )
            if (folder / name).exists():
                there.append(name)
    if there and not force:
        raise InputError(
            f"{folder} holds {there[0]}"
            + (f" and {len(there) - 1} more of these names" if len(there) > 1 else "")
            + " already: name another folder, or replace them with --force"
        )
    check_writable(folder / "x")


def _names(picture: StoredPicture, form: Form) -> list[str]:
    """What a copy may be called: as it is written, and in the other form, by which it would be found too."""
    return list(dict.fromkeys(written_name(picture.name, one) for one in (form, "png", "keep")))


def write(
    made: Sequence[Made],
    pictures: Sequence[StoredPicture],
    folder: Path,
    *,
    unprotected: bool,
) -> tuple[list[str], list[str]]:
    """Write what is protected, with `unprotected` all; the names written, and those of what is not protected.

    A picture that no recogniser recognised before is written, since it is unreadable as it is. What
    lay under the name of a picture that is not written is taken away: it would pass for protected.
    """
    written, recognised = [], []
    for one, picture in zip(made, pictures, strict=True):
        if not one.protected:
            recognised.append(picture.name)
        for old in _names(picture, "png"):
            if old != one.name or not (one.protected or unprotected):
                (folder / old).unlink(missing_ok=True)
        if one.protected or unprotected:
            write_atomically(folder / one.name, one.content)
            written.append(one.name)
    return written, recognised
