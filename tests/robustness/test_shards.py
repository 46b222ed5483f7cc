"""Shards: the same answer from one process or several, from one run or an interrupted one."""

import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import linear
import pytest
import torch

from assaymark.reports.errors import InputError
from assaymark.robustness import demo, models
from assaymark.robustness.evaluate import Evaluation, evaluate, rounds
from assaymark.robustness.gradient_steps import fgsm, pgd
from assaymark.robustness.shard import Search
from assaymark.robustness.shard_bytes import unpack
from assaymark.robustness.shards import Shards
from assaymark.robustness.suites import SUITES
from assaymark.robustness.workers import as_finished


def same(one: Evaluation, other: Evaluation) -> bool:
    """All but the time it took."""
    tensors = ("correct", "robust", "unknown", "adversarial")
    counts = ("name", "tried", "fooled", "outside", "unconfirmed", "unmoved", "passes")
    return (
        all(_equal(getattr(one, name), getattr(other, name)) for name in tensors)
        and one.passes == other.passes
        and all(
            getattr(a, name) == getattr(b, name)
            for a, b in zip(one.outcomes, other.outcomes, strict=True)
            for name in counts
        )
        and [example.index for example in one.examples] == [e.index for e in other.examples]
        and all(
            torch.equal(a.adversarial, b.adversarial) and a.fooled_confidence == b.fooled_confidence
            for a, b in zip(one.examples, other.examples, strict=True)
        )
    )


def _equal(one: Any, other: Any) -> bool:
    return one is other or torch.equal(one, other)


def digits(n: int, **more: Any) -> "partial[Evaluation]":
    x, y = demo.digits()
    model = models.load("demo:digits", x[:2]).module
    return partial(evaluate, model, x[:n], y[:n], eps=0.1, norm="linf", seed=3, **more)


@pytest.mark.parametrize("name", ["quick", "fgsm", "foolbox:LinfDeepFoolAttack"])
def test_the_number_of_workers_changes_nothing(name: str) -> None:
    from assaymark.robustness.catalogue import build

    def run(workers: int) -> Evaluation:
        attacks = build([(name, {})], "linf")
        return digits(100, collect=True)(attacks, shards=Shards(workers=workers))

    one = run(1)
    assert same(one, run(2))
    assert same(one, run(4))
    assert 0 < int(one.robust.sum()) < 100


def test_workers_stop_where_one_process_stops() -> None:
    def decided(correct: Any, robust: Any) -> bool:
        return len(correct) >= 40

    found = [
        digits(100, decided=decided)({"fgsm": fgsm}, shards=Shards(workers=workers))
        for workers in (1, 3)
    ]
    assert found[0].n < 100
    assert same(*found)


@dataclass
class Memory:
    """Kept shards in a dictionary; dies on purpose after some."""

    content: dict[int, bytes] = field(default_factory=dict)
    most: int = 1000
    loaded: int = 0

    def load(self, number: int) -> bytes | None:
        self.loaded += number in self.content
        return self.content.get(number)

    def save(self, number: int, content: bytes) -> None:
        if len(self.content) == self.most:
            raise KeyboardInterrupt
        self.content[number] = content


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_evaluation_goes_on_where_it_stopped(workers: int) -> None:
    attacks = {"pgd": partial(pgd, steps=5)}
    whole = digits(120, collect=True)(attacks)
    keep = Memory(most=2)
    with pytest.raises(KeyboardInterrupt):
        digits(120, collect=True)(attacks, shards=Shards(workers=workers, keep=keep))
    assert len(keep.content) == 2
    keep.most = 1000
    asked: list[int] = []

    def counting(model: Any, x: Any, y: Any, **more: Any) -> Any:
        asked.append(len(x))
        return pgd(model, x, y, steps=5, **more)

    resumed = digits(120, collect=True)({"pgd": counting}, shards=Shards(keep=keep))
    assert same(whole, resumed)
    assert keep.loaded == 2
    assert sum(asked) < whole.outcomes[0].tried


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY", b"PK\x05\x06" + bytes(18)]
)
def test_what_is_no_shard_is_attacked_again(content: bytes) -> None:
    assert unpack(content) is None
    keep = Memory(content={0: content})
    assert same(digits(40)({"fgsm": fgsm}), digits(40)({"fgsm": fgsm}, shards=Shards(keep=keep)))


def test_a_shard_of_other_points_is_attacked_again() -> None:
    keep = Memory()
    digits(40)({"fgsm": fgsm}, shards=Shards(keep=keep))
    longer = digits(90)({"fgsm": fgsm}, shards=Shards(keep=keep))
    assert longer.n == 90


def test_an_error_in_a_worker_is_the_error_of_the_run() -> None:
    x, y = linear.points(100)
    with pytest.raises(InputError, match="NaN or infinity for 32 of 32"):
        evaluate(
            lambda x: torch.full((len(x), 3), torch.nan), x, y, {"fgsm": fgsm}, eps=0.1,
            norm="linf", shards=Shards(workers=2),
        )  # fmt: skip


def test_a_worker_that_dies_is_said_so() -> None:
    def dies(number: int) -> bytes:
        os._exit(9)

    with pytest.raises(InputError, match="a worker process died"):
        list(as_finished(dies, [0, 1, 2], workers=2))


def test_workers_are_gone_when_the_rest_is_left_out() -> None:
    import multiprocessing
    import time

    def slow(number: int) -> bytes:
        time.sleep(60 if number else 0)
        return b"done"

    found = as_finished(slow, [0, 1, 2], workers=2)
    began = time.monotonic()
    assert next(found) == (0, b"done")
    found.close()
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("n", [1, 31, 32, 33, 1000, 5000])
@pytest.mark.parametrize("grow", [True, False])
def test_shards_cover_every_point_once(n: int, grow: bool) -> None:
    parts = rounds(torch.zeros(n, 1, 2, 2), 250, grow=grow)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    assert max(part.stop - part.start for part in parts) <= 250


def test_no_image_is_no_pass() -> None:
    with pytest.raises(InputError, match="no image to attack"):
        evaluate(linear.model(), torch.zeros(0, 2, 3, 3), torch.zeros(0, dtype=torch.long),
                 {"fgsm": fgsm}, eps=0.1, norm="linf")  # fmt: skip


@pytest.mark.long
def test_suites_and_batches_keep_their_answer_in_shards() -> None:
    run = digits(70, search=Search(batch_size=17))
    one = run(SUITES["quick"].build("linf"))
    assert same(one, run(SUITES["quick"].build("linf"), shards=Shards(workers=3)))


def test_certificates_and_corruptions_do_not_depend_on_workers() -> None:
    from assaymark.robustness.certify_check import check_certificate
    from assaymark.robustness.corruption_check import check_corruptions
    from assaymark.robustness.images import ImageData, load
    from assaymark.robustness.models import Loaded
    from assaymark.robustness.proofs import Claim
    from assaymark.robustness.smoothing import Smoothing

    x, y = linear.points(40)
    data = ImageData(name="points", images=x, labels=y, classes=None)
    model = Loaded(name="linear", module=linear.model(), sha256=None, classes=4)
    bounds = Claim(methods=("ibp", "crown"), norm="linf", eps=0.02)
    pictures = load("demo:digits")
    smoothed = Claim(smoothing=Smoothing(sigma=0.25, samples=100, alpha=0.01), norm="l2", eps=0.1)
    checks = (
        partial(check_certificate, "c", model, data, bounds, batch_size=8),
        partial(check_certificate, "c", model, data, smoothed),
        partial(
            check_corruptions, "c", models.load("demo:digits", pictures.images[:2]), pictures,
            corruptions=("contrast", "pixelate"), examples=70,
        ),
    )  # fmt: skip
    for check in checks:
        one, several = (check(workers=workers) for workers in (1, 3))
        for a, b in zip(one.findings, several.findings, strict=True):
            assert (a.measure, a.value, a.interval, a.summary) == (
                b.measure, b.value, b.interval, b.summary,
            )  # fmt: skip
            assert a.cost.forward == b.cost.forward
