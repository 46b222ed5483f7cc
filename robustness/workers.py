"""Parts of a computation one after the other here, or side by side in worker processes.

A worker is a copy of this process (fork), so it has the model as it stands: nothing is sent to it but
the number of a part, and nothing comes back but bytes.
"""

import io
import multiprocessing
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy
import numpy.typing
import torch

from assaymark.reports.errors import InputError

Array = numpy.typing.NDArray[Any]
Run = Callable[[int], bytes]
"""What comes out of the part with a number."""
_run: Run | None = None
"""In a worker, what it was made for."""


def as_finished(
    run: Run, numbers: Sequence[int], *, workers: int
) -> Generator[tuple[int, bytes], None, None]:
    """(number, what came out) of each part, in the order they finish; close it to leave out the rest.

    workers: processes of one thread each; 1 runs the parts here, in order. Raises InputError where
    there can be no worker processes, or one of them died, and what `run` raises.
    """
    some = min(workers, len(numbers))
    if some <= 1:
        for number in numbers:
            yield number, run(number)
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        raise InputError(
            f"--workers {workers} needs processes that share memory (fork), which this system does not "
            "have: leave it out"
        )
    todo = iter(numbers)
    running: dict[Future[bytes], int] = {}
    with _pool(run, some) as pool:
        while True:
            for number in islice(todo, some - len(running)):
                running[pool.submit(_run_here, number)] = number
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()


def in_order(
    run: Callable[[int], dict[str, Array]],
    count: int,
    *,
    workers: int,
    finished: Callable[[int], None] = lambda number: None,
) -> list[dict[str, Array]]:
    """The arrays that come out of parts 0 to count - 1. finished: told the number of each, at its end."""

    def packed(number: int) -> bytes:
        stream = io.BytesIO()
        numpy.savez(stream, **run(number))  # type: ignore[arg-type]
        return stream.getvalue()

    found: dict[int, dict[str, Array]] = {}
    for number, content in as_finished(packed, range(count), workers=workers):
        with numpy.load(io.BytesIO(content), allow_pickle=False) as archive:
            found[number] = {name: archive[name] for name in archive.files}
        finished(number)
    return [found[number] for number in range(count)]


@contextmanager
def _pool(run: Run, workers: int) -> Iterator[ProcessPoolExecutor]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=_begin, initargs=(run,)
    )
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of threads beside fork; a worker uses none of them
            warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
            yield pool
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, most likely for want of memory: use fewer --workers or a smaller "
            "--batch-size"
        ) from error
    except RuntimeError as error:
        if "fork-based multiprocessing" in str(error):  # torch started threads for a GPU
            raise InputError(
                "worker processes cannot take gradients once torch has woken a GPU: set "
                "CUDA_VISIBLE_DEVICES= (empty), or leave out --workers"
            ) from error
        raise
    finally:
        # what still runs is not wanted any more: a decided gate, an error or Ctrl-C
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        pool.shutdown(cancel_futures=True)


def _begin(run: Run) -> None:
    global _run
    torch.set_num_threads(1)  # the threads of the parent did not come along
    _run = run


def _run_here(number: int) -> bytes:
    assert _run is not None
    return _run(number)
