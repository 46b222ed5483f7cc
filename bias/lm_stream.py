"""Answers that come one by one, in any order, so that each can be kept before the last one is there.

A model's `score` or `generate` may have an attribute `answers`, a function of the requests that yields
(index, answer) pairs as they come. Whoever wants all of them in order calls the model as usual.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from assaymark.bias.lm_model import (
    Continuation,
    Failed,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    quiet,
)
from assaymark.reports.errors import InternalContradiction

A = TypeVar("A")
J = TypeVar("J")
_SHOWN_EVERY = 0.05
_FIRST_PORTION = 256
_PORTION_SECONDS = 20.0


@dataclass(frozen=True)
class StreamedScore:
    """A `Score` whose answers can also be had one by one."""

    answers: Callable[[Sequence[Continuation]], Generator[tuple[int, Scored | Failed], None, None]]

    def __call__(
        self, requests: Sequence[Continuation], progress: Progress = quiet
    ) -> list[Scored | Failed]:
        return in_order(self.answers(requests), len(requests), progress)


@dataclass(frozen=True)
class StreamedGenerate:
    """A `Generate` whose answers can also be had one by one."""

    answers: Callable[
        [Sequence[Prompt], Sampling], Generator[tuple[int, Reply | Failed], None, None]
    ]

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> list[Reply | Failed]:
        return in_order(self.answers(prompts, sampling), len(prompts), progress)


def in_order(
    answers: Generator[tuple[int, A], None, None], total: int, progress: Progress = quiet
) -> list[A]:
    """All answers in the order of the requests; progress is told at most twenty times a second."""
    placed: dict[int, A] = {}
    shown = time.monotonic()
    with closing(answers):
        for index, answer in answers:
            placed[index] = answer
            if (now := time.monotonic()) - shown > _SHOWN_EVERY or len(placed) == total:
                progress(len(placed), total)
                shown = now
    if len(placed) != total:
        raise InternalContradiction(f"{len(placed)} of {total} requests were answered")
    return [placed[index] for index in range(total)]


def in_portions(
    ask: Callable[[Sequence[J], Progress], Iterable[A]],
    requests: Sequence[J],
    progress: Progress = quiet,
    first: int = _FIRST_PORTION,
) -> Generator[tuple[int, A], None, None]:
    """The answers of a function that hands all of them back at once, asked for a part of them at a time.

    Parts grow or shrink until one takes some twenty seconds: that much is lost when the program ends,
    while requests that share their beginning stay together. first: requests of the first part.
    """
    start, size = 0, first
    while start < len(requests):
        begun = time.monotonic()
        part = requests[start : start + size]
        yield from enumerate(ask(part, _shifted(progress, start, len(requests))), start)
        start += len(part)
        factor = _PORTION_SECONDS / max(time.monotonic() - begun, 1e-3)
        size = max(int(size * min(max(factor, 0.25), 4.0)), 16)


def _shifted(progress: Progress, start: int, total: int) -> Progress:
    return lambda done, _: progress(start + done, total)


def in_threads(
    work: Callable[[J, threading.Event], Sequence[A]], jobs: Sequence[J], threads: int
) -> Generator[A, None, None]:
    """What `work` makes of each job, as it comes; jobs are begun in their order.

    work is told by the event when nobody waits any more: when the generator is closed, as Ctrl-C does.
    The threads are daemons, so that none keeps a program from ending.
    """
    stop = threading.Event()
    waiting: queue.SimpleQueue[J] = queue.SimpleQueue()
    done: queue.SimpleQueue[Sequence[A] | BaseException] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def labour() -> None:
        while not stop.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(work(job, stop))
            except BaseException as error:
                done.put(error)

    for _ in range(min(threads, len(jobs))):
        threading.Thread(target=labour, daemon=True, name="endpoint").start()
    try:
        for _ in jobs:
            answers = done.get()
            if isinstance(answers, BaseException):
                raise answers
            yield from answers
    finally:
        stop.set()
