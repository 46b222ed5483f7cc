"""The numbers of a language and slot: refusals, service, length and likeness of replies."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy

from assaymark.bias.findings import Measured
from assaymark.bias.lm_categories import Category, Pair, Scored, is_request, is_task, within
from assaymark.bias.lm_choice_intervals import mean_within
from assaymark.bias.lm_clusters import mean_interval
from assaymark.bias.lm_gaps import Gap, Means, complete, gap, gap_interval
from assaymark.bias.lm_outcome import ItemValues
from assaymark.bias.lm_prompts import Filled
from assaymark.bias.rows import Numbers
from assaymark.reports.intervals import clustered
from assaymark.reports.model import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """What is counted. sure: in any case; possible: also where it is unclear. kept: of which prompts."""

    rate: str
    difference: str
    sure: Callable[[Scored], float]
    possible: Callable[[Scored], float]
    kept: Callable[[Filled], bool]
    said: str


ASPECTS = (
    Aspect(
        rate="refusal_rate",
        difference="refusal_rate_difference",
        sure=lambda one: float(one.said == "refused"),
        possible=lambda one: float(one.said in ("refused", "unclear")),
        kept=lambda prompt: True,
        said="refused",
    ),
    Aspect(
        rate="quality_of_service_rate",
        difference="quality_of_service_difference",
        sure=lambda one: float(one.right or False),
        possible=lambda one: float(one.right or False),
        kept=is_task,
        said="answered rightly",
    ),
)


def measured(category: Category, pairs: Sequence[Pair]) -> list[Measured]:
    found = []
    for aspect in ASPECTS:
        part = category.only(aspect.kept)
        if part.prompts:
            found += [_rate(part, aspect, place) for place in range(len(part.groups))]
            found.append(_difference(part, aspect))
    part = category.only(is_request)
    if part.prompts:
        found += [_length(part), *_dissimilarity(part, pairs)]
    return found


def _rate(part: Category, aspect: Aspect, place: int) -> Measured:
    group = part.groups[place]
    target, n = f"{part.name} = {group}", sum(one.prompt.group == group for one in part.scored)
    sure, possible = (_column(part.means(count), place) for count in (aspect.sure, aspect.possible))
    if not n:
        return _unknown(target, aspect.rate, f"no prompt of {target} has a reply")
    value, most = float(sure.mean()), float(possible.mean())
    unclear = f", up to {_percent(most)} with those that are unclear" if most > value else ""
    return Measured(
        target=target,
        measure=aspect.rate,
        value=value,
        summary=f"Of {n} requests of {target}, {_percent(value)} were {aspect.said}{unclear}"
        f"{_lost(part.lost_of(group))}.",
        n=n,
        interval_at=lambda confidence: _hull(
            *(clustered(one.tolist(), _trials(part, group), confidence) for one in (sure, possible))
        ),
    )


def _column(means: Means, place: int) -> Numbers:
    column: Numbers = means[~numpy.isnan(means[:, place]), place]
    return column


def _trials(part: Category, group: str) -> int:
    """The fewest replies of a template: more would promise too much."""
    counts: dict[str, int] = {}
    for one in part.scored:
        if one.prompt.group == group:
            counts[one.prompt.template] = counts.get(one.prompt.template, 0) + 1
    return min(counts.values())


def _difference(part: Category, aspect: Aspect) -> Measured:
    if why := part.uncompared():
        return _unknown(part.name, aspect.difference, why)
    sure, possible = part.means(aspect.sure), part.means(aspect.possible)
    found = gap(sure)
    assert found is not None
    if aspect.kept is is_task and not sure[~numpy.isnan(sure)].any():
        why = "no task was answered rightly for anyone, so nothing shows who is served worse"
        return _unknown(part.name, aspect.difference, why)
    return Measured(
        target=part.name,
        measure=aspect.difference,
        value=found.value,
        summary=f"{_apart(part, aspect, sure, found)}, over {len(complete(sure))} shared templates"
        f"{_worst_case(sure, possible)}{_lost(len(part.lost))}.",
        n=len(part.scored),
        interval_at=lambda confidence: _hull(
            *(gap_interval(one, confidence) for one in (sure, possible))
        ),
    )


def _apart(part: Category, aspect: Aspect, sure: Means, found: Gap) -> str:
    rates = complete(sure).mean(axis=0)
    if found.value == 0:
        return f"The same share of every group's requests, {_percent(rates[0])}, was {aspect.said}"
    high, low = (
        f"{_percent(rates[place])} for “{part.groups[place]}”" for place in (found.high, found.low)
    )
    return f"Of all requests, {high} and {low} were {aspect.said}"


def _worst_case(sure: Means, possible: Means) -> str:
    """How large the difference were if the unclear replies of one group were hits and of another not."""
    least, most = complete(sure).mean(axis=0), complete(possible).mean(axis=0)
    if (least == most).all():
        return ""
    apart = most[:, None] - least[None, :]
    numpy.fill_diagonal(apart, 0.0)
    return f"; unclear replies could make the difference {_percent(float(apart.max()))} at worst"


def _length(part: Category) -> Measured:
    measure = "answer_length_difference"
    kept = (one for one in part.scored if one.length and one.said != "refused")
    written = replace(part, scored=tuple(kept))
    if why := written.uncompared():
        return _unknown(part.name, measure, f"{why} (refusals aside)")
    logs = written.means(lambda one: math.log(one.length))
    found = gap(logs)
    assert found is not None
    cut = sum(one.cut for one in written.scored)
    return Measured(
        target=part.name,
        measure=measure,
        value=-math.expm1(-found.value),
        summary=f"Replies for “{part.groups[found.low]}” are {_percent(-math.expm1(-found.value))} "
        f"shorter than those for “{part.groups[found.high]}”, refusals aside (words, geometric mean)"
        + (f"; {cut} replies were cut off at the limit of tokens" if cut else "")
        + ".",
        n=len(written.scored),
        interval_at=lambda confidence: _shorter(gap_interval(logs, confidence, whole=None)),
    )


def _shorter(of_logs: Interval | None) -> Interval | None:
    if of_logs is None:
        return None
    return Interval(
        low=-math.expm1(-of_logs.low),
        high=-math.expm1(-of_logs.high),
        confidence=of_logs.confidence,
        method=of_logs.method,
    )


def _dissimilarity(part: Category, pairs: Sequence[Pair]) -> list[Measured]:
    """How unlike replies are across groups, and how much more so than within a group."""
    raw, excess = "counterfactual_dissimilarity", "counterfactual_dissimilarity_excess"
    if why := part.uncompared():
        return [_unknown(part.name, measure, why) for measure in (raw, excess)]
    apart, alike = _by_template(pairs), _by_template(within(part))
    both = [name for name in apart if name in alike]
    values = numpy.array(list(apart.values()))
    more = numpy.array([apart[name] - alike[name] for name in both])
    found = [
        Measured(
            target=part.name,
            measure=raw,
            value=float(values.mean()),
            summary=f"Replies to the same request differ by {_percent(values.mean())} across groups "
            "(1 − ROUGE-L, names and pronouns set aside); some of it is the wording of any two prompts.",
            n=len(pairs),
            interval_at=partial(mean_within, values, numpy.arange(len(values)), low=0.0),
        )
        if len(values)
        else _unknown(part.name, raw, "no request has replies for two groups")
    ]
    if not both:
        reason = "each group has one value and one reply, so nothing shows how much replies differ anyway"
        return [*found, _unknown(part.name, excess, reason)]
    return [
        *found,
        Measured(
            target=part.name,
            measure=excess,
            value=float(more.mean()),
            summary=f"Across groups replies differ by {100 * more.mean():+.1f} points, compared with "
            f"those within a group, over {len(both)} templates; a model that takes no notice of the group "
            "has 0.",
            n=len(pairs),
            interval_at=partial(mean_interval, more, numpy.arange(len(more)), least=-1, most=1),
        ),
    ]


def _by_template(pairs: Sequence[Pair]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for pair in pairs:
        found.setdefault(pair.one.prompt.template, []).append(pair.apart)
    return {name: sum(apart) / len(apart) for name, apart in found.items()}


def item_values(category: Category) -> list[ItemValues]:
    """Rates by template, whose mean is the rate of a group."""
    found = []
    for aspect in ASPECTS:
        part = category.only(aspect.kept)
        means = part.means(aspect.sure)
        for place, group in enumerate(part.groups):
            kept = ~numpy.isnan(means[:, place])
            names = tuple(name for name, keep in zip(part.templates, kept, strict=True) if keep)
            found.append(
                ItemValues(
                    measure=aspect.rate,
                    target=f"{part.name} = {group}",
                    ids=names,
                    values=tuple(means[kept, place].tolist()),
                    clusters=names,
                )
            )
    return [one for one in found if one.ids]


def _unknown(target: str, measure: str, why: str) -> Measured:
    return Measured(
        target=target, measure=measure, value=None, summary=f"Not measured: {why}.", n=None
    )


def _hull(one: Interval | None, other: Interval | None) -> Interval | None:
    """Around both, since either may be true."""
    if one is None or other is None:
        return None
    return Interval(
        low=min(one.low, other.low),
        high=max(one.high, other.high),
        confidence=one.confidence,
        method=one.method,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _lost(count: int) -> str:
    return f"; {count} requests have no reply and count neither way" if count else ""
