"""Many items side by side: in order, whole, and not stopped by one that kills its process."""

import os
import signal
from functools import partial

import pytest

from assaymark.provenance.pool import each


def _double(fatal: frozenset[int], item: int) -> tuple[int, int]:
    if item in fatal and os.getpid() != PARENT:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * 2, os.getpid()


PARENT = os.getpid()


def _lost(item: int) -> tuple[int, int]:
    return -item, 0


@pytest.mark.parametrize("count", [0, 1, 16, 17, 100])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_answers_come_in_the_order_of_the_items(count: int, workers: int) -> None:
    work = partial(_double, frozenset())
    answers = list(each(work, range(count), workers=workers, crashed=_lost))
    assert [answer for answer, _ in answers] == [2 * item for item in range(count)]
    if workers > 1 and count > 16:
        assert PARENT not in {process for _, process in answers}


@pytest.mark.parametrize("fatal", [{0}, {5}, {40, 41, 199}, {199}], ids=str)
def test_an_item_that_kills_its_process_is_the_only_one_lost(fatal: set[int]) -> None:
    work = partial(_double, frozenset(fatal))
    answers = [answer for answer, _ in each(work, range(200), workers=2, crashed=_lost)]
    assert answers == [-item if item in fatal else 2 * item for item in range(200)]


def test_who_stops_reading_leaves_no_process_behind() -> None:
    import multiprocessing

    answers = each(partial(_double, frozenset()), range(500), workers=2, crashed=_lost)
    assert next(answers)[0] == 0
    answers.close()  # type: ignore[attr-defined]
    for child in multiprocessing.active_children():
        child.join(10)
    assert not multiprocessing.active_children()
