"""Association tests on a model, and what a reader should see of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from assaymark.bias.lm_weat_data import Association
from assaymark.bias.lm_weat_permutation import PermutationTest
from assaymark.bias.rows import Numbers
from assaymark.reports.model import Cell, Evidence, Interval, Plot, Point, Series, Table


@dataclass(frozen=True, kw_only=True, eq=False)
class Associated:
    """A test on a model. x, y: the association of each known text. why: what keeps it from being measured."""

    test: Association
    x: Numbers
    y: Numbers
    words: tuple[tuple[str, ...], tuple[str, ...]]
    texts: tuple[tuple[str, ...], tuple[str, ...]]
    counts: str
    why: str | None
    ddof: int
    effect: float | None = None
    by_word: PermutationTest | None = None
    as_published: PermutationTest | None = None


def evidence(
    found: Sequence[Associated],
    intervals: Sequence[Interval | None],
    adjusted: Sequence[float | None],
) -> tuple[Evidence, ...]:
    """The table of tests; a chart of their effect sizes and the strongest texts where there are any."""
    rows = [
        _row(one, interval, p) for one, interval, p in zip(found, intervals, adjusted, strict=True)
    ]
    table = Table(
        title="Association tests",
        columns=(
            "test",
            "x, y, a, b",
            "known texts",
            "words x / y",
            "effect size",
            "low",
            "high",
            "p",
            "p two-sided",
            "p adjusted (Holm)",
            "p as published",
            "splits",
        ),
        rows=tuple(rows),
        note="p: one-sided, words exchanged. As published: one-sided, every sentence exchanged as if it "
        "were independent. 95 % intervals.",
    )
    points = tuple(
        Point(
            x=place + 1,
            y=one.effect,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            label=one.test.name,
        )
        for place, (one, interval) in enumerate(zip(found, intervals, strict=True))
        if one.effect is not None
    )
    if not points:
        return (table,)
    chart = Plot(
        title="Effect sizes",
        x_label="test, in the order of the table",
        y_label="effect size",
        series=(Series(label="effect size", points=points, joined=False),),
    )
    return table, chart, _strongest(found)


def _row(one: Associated, interval: Interval | None, adjusted: float | None) -> tuple[Cell, ...]:
    p, published = one.by_word, one.as_published
    return (
        one.test.name,
        ", ".join(part.name for part in one.test.sets),
        one.counts,
        " / ".join(str(len(set(words))) for words in one.words),
        one.effect,
        None if interval is None else interval.low,
        None if interval is None else interval.high,
        None if p is None else p.greater,
        None if p is None else p.two_sided,
        adjusted,
        None if published is None else published.greater,
        one.why if p is None else p.method,
    )


def _strongest(found: Sequence[Associated], tests: int = 8, texts: int = 3) -> Table:
    """The texts that pull hardest in the direction of the effect, in the tests with the largest ones."""
    measured = [one for one in found if one.effect is not None]
    rows: list[tuple[Cell, ...]] = []
    for one in sorted(measured, key=lambda one: -abs(one.effect or 0.0))[:tests]:
        sign = 1 if (one.effect or 0.0) > 0 else -1
        for part, scores, named, side in (
            (one.test.x, one.x, one.texts[0], sign),
            (one.test.y, one.y, one.texts[1], -sign),
        ):
            for place in numpy.argsort(-side * scores, kind="stable")[:texts].tolist():
                score = float(scores[place])
                rows.append((one.test.name, part.name, named[place][:200], score))
    return Table(
        title="Most strongly associated texts",
        columns=("test", "set", "text", "association"),
        rows=tuple(rows),
        note="Association: mean cosine with attribute set a less that with b.",
    )
