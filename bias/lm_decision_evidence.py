"""What a reader should see of decision questions: the groups side by side, ages, and the worst questions."""

import numpy

from assaymark.bias.lm_clusters import mean_interval
from assaymark.bias.lm_decision_fit import Contrast, Decided, Order
from assaymark.reports.model import (
    Cell,
    Estimate,
    Estimates,
    Evidence,
    Plot,
    Point,
    Series,
    Table,
)

_WORST, _CLIP = 10, 200
_CONFIDENCE = 0.95


def evidence(found: Decided, adjusted: dict[str, float | None]) -> tuple[Evidence, ...]:
    """Tables and charts; adjusted: Holm's p-value by target."""
    if not found.kept:
        return (_groups(found, adjusted),)
    return (_groups(found, adjusted), *_charts(found), *_worst(found))


def _groups(found: Decided, adjusted: dict[str, float | None]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    factors = dict.fromkeys(one.factor for one in found.wanted)
    for factor in factors:
        if factor == "age":
            rows.append(_row(found, "age", None, None, adjusted))
            continue
        reference = found.data.reference[factor]
        rows.append(_row(found, f"{factor} = {reference} (reference)", factor, reference, adjusted))
        for one in found.wanted:
            if one.factor == factor:
                rows.append(_row(found, one.target, factor, one.level, adjusted))
    return Table(
        title="Decisions by group",
        columns=(
            "group",
            "asked",
            "lost",
            "mean P(yes)",
            "log odds",
            "from",
            "to",
            "p (Holm)",
        ),
        rows=tuple(rows),
        note="Log odds: against the reference, or for each standard deviation of age, other things equal; "
        "intervals at 95 %.",
    )


def _row(
    found: Decided,
    label: str,
    factor: str | None,
    level: str | None,
    adjusted: dict[str, float | None],
) -> tuple[Cell, ...]:
    asked = [factor is None or getattr(item, factor) == level for item in found.data.items]
    kept = _members(found, factor, level)
    share = float(found.chance[kept].mean()) if kept.any() else None
    effect: tuple[Cell, ...] = (None,) * 4
    fit, _ = found.fitted
    names = [one.target for one in found.contrasts]
    if fit is not None and label in names:
        column = 1 + names.index(label)
        interval = fit.interval(column, _CONFIDENCE)
        ends = (None, None) if interval is None else (interval.low, interval.high)
        effect = (float(fit.value[column]), *ends, adjusted.get(label))
    elif label.endswith("(reference)"):
        effect = ("", "", "", "")
    return label, sum(asked), sum(asked) - int(kept.sum()), share, *effect


def _members(found: Decided, factor: str | None, level: object) -> numpy.ndarray:
    if factor is None:
        return numpy.ones(len(found.kept), dtype=bool)
    return numpy.array([getattr(item, factor) == level for item in found.items], dtype=bool)


def _charts(found: Decided) -> tuple[Evidence, ...]:
    estimates = []
    factors = {one.factor for one in found.wanted} - {"age"}
    for factor in sorted(factors):
        for level in dict.fromkeys(getattr(item, factor) for item in found.data.items):
            estimates.append(_estimate(found, f"{factor} = {level}", factor, level))
    charts: list[Evidence] = []
    if estimates:
        title = "Mean probability of a favourable decision"
        charts.append(Estimates(title=title, estimates=tuple(estimates)))
    ages = sorted({item.age for item in found.items})
    if len(ages) > 1:
        points = []
        for age in ages:
            one = _estimate(found, f"{age:g}", "age", age)
            assert one.value is not None
            points.append(Point(x=age, y=one.value, low=one.low, high=one.high, n=one.n))
        charts.append(
            Plot(
                title="Favourable decisions by age",
                x_label="age in years",
                y_label="mean P(yes)",
                series=(Series(label="all questions", points=tuple(points)),),
            )
        )
    return tuple(charts)


def _estimate(found: Decided, label: str, factor: str, level: object) -> Estimate:
    kept = _members(found, factor, level)
    if not kept.any():
        return Estimate(label=label, value=None, n=0)
    interval = mean_interval(found.chance[kept], found.codes[kept], _CONFIDENCE)
    return Estimate(
        label=label,
        value=float(found.chance[kept].mean()),
        low=None if interval is None else max(interval.low, 0.0),
        high=None if interval is None else min(interval.high, 1.0),
        n=int(kept.sum()),
    )


def _worst(found: Decided) -> tuple[Evidence, ...]:
    """The questions in which a group fares most differently from its reference."""
    fit, _ = found.fitted
    if fit is None or not found.contrasts:
        return ()
    names = found.questions
    effects = fit.by_question[:, 1:]
    order = numpy.argsort(-abs(effects), axis=None, kind="stable")[:_WORST]
    rows = []
    for place in order.tolist():
        at, column = divmod(place, effects.shape[1])
        one = found.contrasts[column]
        rows.append(
            (names[at], one.target, float(effects[at, column]), *_example(found, names[at], one))
        )
    return (
        Table(
            title="Questions with the largest effects",
            columns=("question", "group", "log odds", "mean P(yes)", "of the reference", "text"),
            rows=tuple(rows),
            note="Effects of single questions spread more than those of all; the text is one of the group's.",
        ),
    )


def _example(found: Decided, question: str, one: Contrast) -> tuple[Cell, Cell, Cell]:
    asked = numpy.array([item.question == question for item in found.items])
    if one.factor == "age":
        mine, others = (
            _members_by_age(found, older=True) & asked,
            _members_by_age(found, older=False) & asked,
        )
    else:
        mine = _members(found, one.factor, one.level) & asked
        others = _members(found, one.factor, found.data.reference[one.factor]) & asked
    shares = [float(found.chance[part].mean()) if part.any() else None for part in (mine, others)]
    text = next((found.items[at].text for at in numpy.flatnonzero(mine)), "")
    return shares[0], shares[1], text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


def _members_by_age(found: Decided, *, older: bool) -> numpy.ndarray:
    return numpy.array([(item.age > found.age[0]) == older for item in found.items], dtype=bool)


_FITS = {
    "balanced": "Every question was answered for the same people, so the coefficients are the means over "
    "questions of those of each question, which restricted maximum likelihood gives too",
    "REML": "The coefficients are those of restricted maximum likelihood of one mixed model with an "
    "intercept and slopes of its own for each question",
    "within": "Restricted maximum likelihood was not reached, so the coefficients are those of least "
    "squares with an intercept for each question",
    "logistic": "The coefficients are those of a logistic regression of the replies with an intercept for "
    "each question, half an answer of each kind spread over every question",
}
_ASKED = {
    "scored": "The log odds are those of all spellings of “yes” and “no” right after the question",
    "first-token": "The log odds are those of “yes” and “no” among the likeliest first tokens of the reply",
    "sampled": "{samples} replies to each question were drawn at temperature 1 and read by their first word",
}


def steps(found: Decided, *, order: Order, min_mass: float, samples: int) -> tuple[str, ...]:
    """How the decisions were asked and fitted, in sentences."""
    fit, reason = found.fitted
    asked = _ASKED[found.variant].format(samples=samples)
    put = {"yes-first": "“yes” first", "no-first": "“no” first", "both": "both orders, averaged"}[
        order
    ]
    said = [f"{asked} ({put}); items where the two have less than {min_mass:g} together are lost."]
    masses = [answer.mass for _, answers in found.kept for answer in answers]
    if masses:
        said.append(
            f"Over the items that are kept the two have {numpy.median(masses):.3f} in the median."
        )
    if fit is None:
        return (*said, f"Nothing was fitted: {reason}.")
    said.append(
        f"{_FITS[fit.fit]}; one fit of {len(found.kept)} items over {fit.questions} questions, ages in "
        f"standard deviations of {found.age[1]:.1f} years. Intervals leave out each question in turn "
        "(jackknife, Student's t); p-values are Holm's over all groups."
    )
    return tuple(said)
