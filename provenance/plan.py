"""Which file is signed to where: settled for all of them before the first is touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assaymark.provenance.files import walk, works
from assaymark.reports.errors import InputError

JOURNAL = ".assaymark-signed.jsonl"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One file to be signed; where the two are the same, its manifest goes into a file beside it.

    inside: or into the file itself, which is signed in place.
    """

    source: Path
    destination: Path
    inside: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is to be signed. folder: where the journal of the run lies; None for a single file."""

    tasks: tuple[Task, ...]
    hidden: int = 0
    folder: Path | None = None


def plan_where_they_lie(paths: Sequence[Path], *, inside: bool) -> Plan:
    """Every file stays where it is; its manifest goes beside it, or inside. Raises as `plan` does."""
    _check_paths(paths)
    tasks: list[Task] = []
    hidden = 0
    for path in paths:
        found, left_out = _sources(path) if path.is_dir() else ([path], 0)
        tasks += [Task(source=file, destination=file, inside=inside) for file in found]
        hidden += left_out
    _no_clash(tasks)
    if not tasks:
        raise InputError(f"{', '.join(map(str, paths))}: no file is in it that could be signed")
    alone = len(paths) == 1 and paths[0].is_dir()
    return Plan(tasks=tuple(tasks), hidden=hidden, folder=paths[0] if alone else None)


def plan(paths: Sequence[Path], output: Path | None = None) -> Plan:
    """Where each of these files and of those below these folders goes.

    output: a folder, or a file where one file is signed. Without it a copy is named beside its
    source: photo.jpg becomes photo.signed.jpg, the folder media becomes media.signed. Files whose
    names begin with a dot are left out and counted; .c2pa files beside a file belong to it.
    Raises InputError for a missing path, an empty folder and two sources of one destination.
    """
    _check_paths(paths)
    if len(paths) == 1 and not paths[0].is_dir() and not _is_folder(output, paths[0]):
        destination = output or _signed_name(paths[0])
        return Plan(tasks=(Task(source=paths[0], destination=destination),))
    if output is not None and any(_same(output, path) for path in paths):
        raise InputError(
            f"{output} is what is signed, and sources are never changed: name another folder"
        )
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file and several are signed: name a folder for them")
    tasks: list[Task] = []
    hidden = 0
    for path in paths:
        found, left_out = _below(path, output, alone=len(paths) == 1)
        tasks += found
        hidden += left_out
    _no_clash(tasks)
    if not tasks:
        raise InputError(f"{', '.join(map(str, paths))}: no file is in it that could be signed")
    folder = output if output is not None else _signed_name(paths[0]) if len(paths) == 1 else None
    return Plan(tasks=tuple(tasks), hidden=hidden, folder=folder)


def _same(output: Path, path: Path) -> bool:
    return path.is_dir() and output.exists() and output.samefile(path)


def _below(path: Path, output: Path | None, *, alone: bool) -> tuple[list[Task], int]:
    if not path.is_dir():
        destination = output / path.name if output is not None else _signed_name(path)
        return [Task(source=path, destination=destination)], 0
    target = _signed_name(path) if output is None else output if alone else output / _name(path)
    found, hidden = _sources(path)
    inside = target.resolve()
    tasks = [
        Task(source=file, destination=target / file.relative_to(path))
        for file in found
        if not file.resolve().is_relative_to(inside)
    ]
    return tasks, hidden


def _sources(folder: Path) -> tuple[list[Path], int]:
    """The works below a folder, and how many were left out because their names begin with a dot."""
    try:
        files, _ = walk(folder)
    except OSError as error:
        raise InputError(f"cannot search {folder}: {error}") from error
    found = works(files)
    seen = [
        file
        for file in found
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    return seen, len(found) - len(seen)


def _check_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist: expected a file or a folder to sign")


def _no_clash(tasks: list[Task]) -> None:
    seen: dict[Path, Path] = {}
    for task in tasks:
        other = seen.setdefault(task.destination, task.source)
        if other != task.source:
            raise InputError(
                f"{other} and {task.source} would both become {task.destination}: sign them in "
                "two runs, or rename one"
            )
    if len(seen) < len(tasks):
        raise InputError("a file is named twice: name each once")


def _signed_name(path: Path) -> Path:
    """photo.jpg: photo.signed.jpg.

    >>> _signed_name(Path("a/photo.jpg")).name
    'photo.signed.jpg'
    """
    named = path if path.name not in ("", "..") else path.resolve()
    if named.is_dir():
        return named.with_name(f"{named.name}.signed")
    return named.with_name(f"{named.stem}.signed{named.suffix}")


def _name(path: Path) -> str:
    return path.name if path.name not in ("", "..") else path.resolve().name


def _is_folder(output: Path | None, source: Path) -> bool:
    """Whether the output of one file is meant as a folder: it is one, or has no ending."""
    if output is None or output.is_dir():
        return output is not None
    return not output.exists() and not output.suffix and bool(source.suffix)
