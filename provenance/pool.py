"""Work on many files side by side; a file that kills its process costs itself, not the others."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_CHUNK = 16
_AHEAD = 4  # chunks a worker that wait; more would only cost memory
_work: Callable[[Any], Any] | None = None


def cores() -> int:
    """How many processes can run at once here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    work: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int | None = None,
    crashed: Callable[[T], R],
) -> Iterator[R]:
    """`work` of each item, in their order. workers: processes; None takes what the cores allow.

    work is pickled once a process and must not raise. crashed: the answer for an item whose process
    died (a hostile file may end a native library); it is asked alone before it is blamed.
    """
    wanted = workers or min(cores(), 1 + len(items) // (2 * _CHUNK))
    if wanted <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    pool = _pool(work, wanted)
    waiting: deque[tuple[Sequence[T], Future[list[R]]]] = deque()
    broken = False
    try:
        for chunk in chunks:
            while len(waiting) >= wanted * _AHEAD:
                answers, broken = _answers(*waiting.popleft(), work, crashed, broken)
                yield from answers
            if broken:  # the executor takes no more once a process of it has died
                pool.shutdown(wait=False, cancel_futures=True)
                while waiting:
                    answers, broken = _answers(*waiting.popleft(), work, crashed, broken)
                    yield from answers
                pool, broken = _pool(work, wanted), False
            waiting.append((chunk, _submit(pool, chunk)))
        while waiting:
            answers, broken = _answers(*waiting.popleft(), work, crashed, broken)
            yield from answers
    finally:
        # the interpreter waits for it anyway, and prints a traceback where it is half down by then
        pool.shutdown(cancel_futures=True)


def _pool(work: Callable[[T], R], workers: int) -> ProcessPoolExecutor:
    # macOS offers fork, but its own libraries do not survive it
    method = "fork" if sys.platform == "linux" else "spawn"
    return ProcessPoolExecutor(
        workers, multiprocessing.get_context(method), initializer=_begin, initargs=(work,)
    )


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    _end_with_the_parent()


def _end_with_the_parent() -> None:
    """A run that is killed takes its workers along, which would go on writing files nobody notes."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        os._exit(1)


def _submit(pool: ProcessPoolExecutor, chunk: Sequence[T]) -> "Future[list[R]]":
    try:
        return pool.submit(_all, chunk)
    except BrokenProcessPool as error:
        failed: Future[list[R]] = Future()
        failed.set_exception(error)
        return failed


def _all(chunk: Sequence[Any]) -> list[Any]:
    assert _work is not None
    return [_work(item) for item in chunk]


def _answers(
    chunk: Sequence[T],
    future: "Future[list[R]]",
    work: Callable[[T], R],
    crashed: Callable[[T], R],
    broken: bool,
) -> tuple[list[R], bool]:
    try:
        return future.result(), broken
    except BrokenProcessPool:
        return [_alone(item, work, crashed) for item in chunk], True


def _alone(item: T, work: Callable[[T], R], crashed: Callable[[T], R]) -> R:
    with _pool(work, 1) as pool:
        try:
            found: list[R] = pool.submit(_all, (item,)).result()
            return found[0]
        except BrokenProcessPool:
            return crashed(item)
