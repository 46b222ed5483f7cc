"""Sign many files: side by side, resumable, and one that fails does not stop the others."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from assaymark.provenance.in_place import journal_of as undo_of
from assaymark.provenance.journal import Journal, beside, manifest_of, stamp
from assaymark.provenance.plan import Task
from assaymark.provenance.pool import each
from assaymark.provenance.room import sweep
from assaymark.provenance.sign import Signed
from assaymark.provenance.stamping import NoTimeStamp
from assaymark.reports.errors import AssaymarkError

State = Literal["signed", "kept", "failed", "not begun"]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Signs a task; the flag says that an existing destination may be replaced. Raises AssaymarkError.
SignOne = Callable[[Task, bool], Signed]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file. why: the reason of a failure. stops: the others would fail too."""

    task: Task
    state: State
    why: str = ""
    signed: Signed | None = None
    stops: bool = False


def sign_all(
    tasks: tuple[Task, ...],
    sign_one: SignOne,
    journal: Journal,
    *,
    overwrite: bool = False,
    ours: Callable[[Path], bool] = lambda path: False,
    workers: int | None = None,
) -> Iterator[Outcome]:
    """The outcome of each task, in their order, as soon as it is there.

    overwrite: whatever lies at a destination may be replaced. Without it that is done only with
    results of an earlier run that are untouched, or that an interrupted run left (`ours` says so).
    sign_one is pickled where workers > 1. A full disk stops the run; what is written then is whole.
    """
    for folder in {task.destination.parent for task in tasks}:
        sweep(folder)
    done = {task: _finished(task) for task in tasks if _is_finished(task, journal, ours)}
    todo = [task for task in tasks if task not in done and not journal.kept(task)]
    for task in todo:
        if task.inside:
            journal.begin(task)
    may = {task: overwrite or _replaceable(task, journal, ours) for task in todo}
    outcomes = each(
        partial(_outcome, sign_one),
        [(task, may[task]) for task in todo],
        workers=workers,
        crashed=lambda item: Outcome(
            task=item[0],
            state="failed",
            why="signing it ended the process, so nothing was written: report this file",
        ),
    )
    stopped = False
    for task in tasks:
        if task in done:
            yield done[task]
            journal.done(task)
        elif task not in may:
            yield Outcome(task=task, state="kept")
        elif stopped:
            yield Outcome(task=task, state="not begun")
        else:
            outcome = next(outcomes)
            stopped = outcome.stops
            yield outcome
            if outcome.signed is not None:  # and whoever logs it has done so
                journal.done(task, outcome.signed.read, outcome.signed.manifest)
            if stopped:
                outcomes.close()  # type: ignore[attr-defined]


def _is_finished(task: Task, journal: Journal, ours: Callable[[Path], bool]) -> bool:
    """Whether a file was signed in place by a run that was killed before it could note that."""
    return (
        task.inside
        and journal.begun(task)
        and not journal.kept(task)
        and not undo_of(task.source).exists()
        and ours(task.source)
    )


def _finished(task: Task) -> Outcome:
    size = task.source.stat().st_size
    signed = Signed(
        source=task.source,
        destination=task.source,
        manifest=task.source,
        before=size,
        after=size,
        found=None,
        read=stamp(task.source),
    )
    return Outcome(task=task, state="signed", signed=signed)


def _replaceable(task: Task, journal: Journal, ours: Callable[[Path], bool]) -> bool:
    target = manifest_of(task)
    if target.exists():
        return journal.ours(task) or (journal.begun_before and ours(target))
    # a manifest gets its name before the copy of its file does
    return journal.begun_before and beside(target).exists() and ours(beside(target))


def _outcome(sign_one: SignOne, item: tuple[Task, bool]) -> Outcome:
    task, overwrite = item
    try:
        return Outcome(task=task, state="signed", signed=sign_one(task, overwrite))
    except AssaymarkError as error:
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno in _FULL
        stops = full or isinstance(error, NoTimeStamp)
        return Outcome(task=task, state="failed", why=str(error), stops=stops)
    except Exception as error:  # a bug of ours or of a library costs one file, not the run
        return Outcome(
            task=task, state="failed", why=f"internal error, {type(error).__name__}: {error}"
        )
