"""The files that names, folders and patterns stand for."""

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from assaymark.reports.errors import InputError


def find_files(patterns: tuple[str, ...], folder: Path = Path()) -> list[Path]:
    """The files that names and glob patterns stand for, each once, sorted; folders are searched.

    Raises InputError for a pattern that finds nothing: a missing file must not look like a good one.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = folder / pattern
        try:
            if os.path.lexists(path):
                matches = works(below(path)) if path.is_dir() else [path]
            else:
                parts = path.relative_to(path.anchor).parts if path.is_absolute() else path.parts
                start = Path(path.anchor) if path.is_absolute() else Path()
                found_paths = sorted(set(_expand(start, parts)))
                matches = works([file for item in found_paths for file in below(item)])
        except OSError as error:
            raise InputError(
                f'cannot search "{pattern}": {error}; what cannot be read cannot be verified'
            ) from error
        if not matches:
            raise InputError(
                f'no file matches "{pattern}": expected at least one; correct the name, or take it '
                "out"
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def works(files: list[Path]) -> list[Path]:
    """The files that are works of their own: a manifest beside one belongs to it."""
    ends = {
        file.parent / end
        for file in files
        if file.suffix != ".c2pa"
        for end in (file.name, file.stem)  # photo.jpg.c2pa, or photo.c2pa as c2patool calls it
    }
    return [file for file in files if file.suffix != ".c2pa" or file.with_suffix("") not in ends]


def _expand(start: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """What a pattern stands for; unlike pathlib's glob it skips nothing that it cannot enter."""
    if not parts:
        yield start
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _expand(start, rest or ("*",))
        for folder in walk(start)[1]:
            yield from _expand(folder, rest or ("*",))
    elif any(sign in head for sign in "*?["):
        for name in sorted(os.listdir(start)):
            if fnmatchcase(name, head) and (not rest or (start / name).is_dir()):
                yield from _expand(start / name, rest)
    elif os.path.lexists(start / head):
        yield from _expand(start / head, rest)


def below(path: Path) -> list[Path]:
    """A file, or every file below a folder."""
    return walk(path)[0] if path.is_dir() else [path]


def is_regular(path: Path) -> bool:
    """Whether it is a file that can be read to its end; a pipe or device would be waited for.

    What cannot be looked at counts: opening it says why.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return True


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders below, linked ones included; what cannot be entered is an error.

    A link to a folder around this one leads to all that lies beside it, keys included, and is not
    followed.
    """

    def refuse(error: OSError) -> None:
        raise error

    files, inner = [], []
    start = Path(os.path.realpath(folder))
    seen = {str(start), *map(str, start.parents)}
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        seen.add(os.path.realpath(root))
        folders[:] = sorted(
            name for name in folders if os.path.realpath(Path(root, name)) not in seen
        )
        inner += [Path(root, name) for name in folders]
        files += [Path(root, name) for name in names]
    return sorted(files), inner
