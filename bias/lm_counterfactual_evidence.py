"""Tables and charts of the suite "prompts": groups, wordings, and the replies that differ most."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy

from assaymark.bias.lm_categories import Category, Pair, Scored, is_task
from assaymark.bias.lm_gaps import complete, gap
from assaymark.reports.intervals import clustered
from assaymark.reports.model import Cell, Estimate, Estimates, Evidence, Table

_CLIP, _WORST, _ROWS = 200, 10, 400
_Apart = tuple[float, Scored, Scored]
"""How far apart the rates of two groups are, and a pair of replies that shows it."""


def evidence(
    found: Sequence[Category], pairs: Mapping[str, Sequence[Pair]]
) -> tuple[Evidence, ...]:
    """pairs: the compared replies of each category."""
    charts = [
        _chart(title, [one for one in found if one.name.split(" ")[0] == language], number, tasks)
        for language in dict.fromkeys(one.name.split(" ")[0] for one in found)
        for title, number, tasks in (
            (f"Refused by group, {language}", _refused, False),
            (f"Tasks answered rightly by group, {language}", _right, True),
        )
    ]
    unlike = sorted(
        (pair for each in pairs.values() for pair in each), key=lambda pair: -pair.apart
    )
    return (
        _groups(found),
        _wordings(found),
        _examples(
            "Same request, refused for one group and answered for another",
            _worst(found, _discordant),
            "refused",
        ),
        _examples(
            "Same task, right for one group and wrong for another",
            _worst(found, _discordant_tasks),
            "answered wrongly",
        ),
        _examples(
            "Replies that differ most",
            [(pair.one, pair.other) for pair in unlike[:_WORST]],
            "one",
        ),
        *[chart for chart in charts if chart.estimates],
    )


def _worst(
    found: Sequence[Category], pairs: Callable[[Category], list[_Apart]]
) -> list[tuple[Scored, Scored]]:
    """Those of the groups that lie furthest apart come first."""
    every = sorted((pair for one in found for pair in pairs(one)), key=lambda pair: -pair[0])
    return [(one, other) for _, one, other in every[: 3 * _WORST]]


def _refused(one: Scored) -> float:
    return float(one.said == "refused")


def _right(one: Scored) -> float:
    return float(one.right or False)


def _groups(found: Sequence[Category]) -> Table:
    return Table(
        title="Replies by group",
        columns=(
            "category",
            "group",
            "replies",
            "lost",
            "refused",
            "unclear",
            "tasks",
            "answered rightly",
            "words, median",
            "cut off",
        ),
        rows=tuple(_row(one, group) for one in found for group in one.groups),
        note="Lost requests count neither way. Unclear: a refusal that goes on, comes late, or only sends to "
        "someone else.",
    )


def _row(category: Category, group: str) -> tuple[Cell, ...]:
    mine = [one for one in category.scored if one.prompt.group == group]
    tasks = [one for one in mine if one.right is not None]
    lengths = [one.length for one in mine if one.right is None]
    return (
        category.name,
        group,
        len(mine),
        category.lost_of(group),
        sum(one.said == "refused" for one in mine),
        sum(one.said == "unclear" for one in mine),
        len(tasks),
        sum(one.right or False for one in tasks) if tasks else None,
        float(numpy.median(lengths)) if lengths else None,
        sum(one.cut for one in mine),
    )


def _wordings(found: Sequence[Category]) -> Table:
    """How much the numbers of a topic depend on the template."""
    rows: list[tuple[Cell, ...]] = []
    for category in found:
        for what, number in (("refused", _refused), ("answered rightly", _right)):
            rows += _spread(category, what, number)
    return Table(
        title="How much the wording matters",
        columns=(
            "category",
            "topic",
            "measure",
            "wordings",
            "lowest share",
            "highest share",
            "lowest difference",
            "highest difference",
        ),
        rows=tuple(rows[:_ROWS]),
        note="Shares over all groups, and the difference between the two groups that lie furthest apart in "
        "the category, of the wordings of a topic: where they have both signs, the wording decides."
        + (f" {len(rows) - _ROWS} more topics are not listed." if len(rows) > _ROWS else ""),
    )


def _spread(
    category: Category, what: str, number: Callable[[Scored], float]
) -> list[tuple[Cell, ...]]:
    part = category.only(is_task) if number is _right else category
    topics: dict[str, list[int]] = defaultdict(list)
    topic = {prompt.template: prompt.topic for prompt in part.prompts}
    for place, template in enumerate(part.templates):
        topics[topic[template]].append(place)
    means = part.means(number)
    apart = None if part.uncompared() else gap(means)
    rows: list[tuple[Cell, ...]] = []
    for name, places in topics.items():
        here = complete(means[places])
        if not len(here) or apart is None:
            continue
        shares, gaps = here.mean(axis=1), here[:, apart.high] - here[:, apart.low]
        ends = (shares.min(), shares.max(), gaps.min(), gaps.max())
        rows.append((category.name, name, what, len(here), *(float(end) for end in ends)))
    return rows


def _cells(category: Category) -> list[list[Scored]]:
    """Replies that only differ by group."""
    found: dict[tuple[str, int, int], list[Scored]] = defaultdict(list)
    for one in category.scored:
        found[one.prompt.template, one.prompt.value, one.sample].append(one)
    return list(found.values())


def _discordant(category: Category) -> list[_Apart]:
    """One refused, the other answered."""
    return _first(
        category, _refused, lambda one: one.said == "refused", lambda one: one.said == "answered"
    )


def _discordant_tasks(category: Category) -> list[_Apart]:
    return _first(
        category.only(is_task),
        _right,
        lambda one: one.right is False,
        lambda one: one.right is True,
    )


def _first(
    category: Category,
    number: Callable[[Scored], float],
    worse: Callable[[Scored], bool],
    better: Callable[[Scored], bool],
) -> list[_Apart]:
    means = category.means(number)
    there = numpy.maximum((~numpy.isnan(means)).sum(axis=0), 1)
    rate = dict(zip(category.groups, numpy.nan_to_num(means).sum(axis=0) / there, strict=True))
    found = []
    for cell in _cells(category):
        bad, good = [one for one in cell if worse(one)], [one for one in cell if better(one)]
        found += [
            (abs(rate[one.prompt.group] - rate[other.prompt.group]), one, other)
            for one in bad
            for other in good
        ]
    return sorted(found, key=lambda pair: -pair[0])[:_WORST]


def _examples(title: str, pairs: Sequence[tuple[Scored, Scored]], first: str) -> Table:
    return Table(
        title=title,
        columns=(
            "category",
            f"{first}: group",
            "prompt",
            "reply",
            "other group",
            "prompt",
            "reply",
        ),
        rows=tuple(
            (
                one.prompt.category,
                one.prompt.group,
                _clip(one.prompt.text),
                _clip(one.text),
                other.prompt.group,
                _clip(other.prompt.text),
                _clip(other.text),
            )
            for one, other in pairs
        ),
        note="" if pairs else "There is none.",
    )


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


def _chart(
    title: str, found: Sequence[Category], number: Callable[[Scored], float], tasks: bool
) -> Estimates:
    estimates = []
    for category in found:
        part = category.only(is_task) if tasks else category
        means = part.means(number)
        for place, group in enumerate(part.groups):
            shares = means[~numpy.isnan(means[:, place]), place].tolist()
            interval = clustered(shares, 1)
            estimates.append(
                Estimate(
                    label=f"{category.name.partition(' ')[2]}: {group}",
                    value=sum(shares) / len(shares) if shares else None,
                    low=interval.low if interval else None,
                    high=interval.high if interval else None,
                    n=sum(one.prompt.group == group for one in part.scored),
                )
            )
    return Estimates(title=title, estimates=tuple(estimates))
