"""Individual fairness as findings: consistency among neighbours, and attribute flips."""

from collections.abc import Sequence

import pandas

from assaymark.bias import consistency as neighbourhoods
from assaymark.bias.answers import Positive, TabularModel
from assaymark.bias.codes import MISSING
from assaymark.bias.counterfactual import Changed, Example, Flips, flips, why_not
from assaymark.bias.findings import Measured, findings
from assaymark.bias.rows import Numbers, Predictions
from assaymark.reports.errors import InputError
from assaymark.reports.intervals import wilson
from assaymark.reports.model import Cell, Estimate, Estimates, Evidence, Finding, Gate, Table

FLIP_RATE = "counterfactual_flip_rate"
CONSISTENCY = "consistency"
SOURCES = (
    "Zemel et al. 2013, Learning fair representations, ICML",
    "Efron and Stein 1981, Annals of Statistics 9",
    "Galhotra, Brun and Meliou 2017, arXiv 1709.03221",
    "Garg et al. 2019, arXiv 1809.10610",
)
_MOST_PAIRS = 30
_MOST_COLUMNS = 12


def consistency_findings(
    check: str,
    data: Predictions,
    features: pandas.DataFrame,
    *,
    neighbors: int = 5,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
    seed: int = 0,
) -> list[Finding]:
    """Whether rows that are near each other in these columns get the same decision.

    features: as many rows as `data`, in the same order. Of more than `consistency.MOST_ROWS` rows a
    sample is compared. Raises InputError for features that are no points.
    """
    if len(features) != data.n:
        raise InputError(
            f"features have {len(features)} rows, {data.name} has {data.n}: expected the same rows"
        )
    places = neighbourhoods.sample(data.n, seed)
    found = neighbourhoods.consistency(
        neighbourhoods.apart(neighbourhoods.points(features.iloc[places]), seed),
        data.prediction[places],
        neighbors=neighbors,
        weight=None if data.weight is None else data.weight[places],
    )
    alike = f"their {neighbors} nearest neighbours by {_listed(list(features.columns))}"
    summary = (
        f"Not measured: {found.why}."
        if found.value is None
        else f"Decisions agree with those of {alike} to {found.value:.3f} of 1"
        + (
            f", in a sample of {found.n:,} of {data.n:,} rows (seed {seed})."
            if found.n < data.n
            else "."
        )
    )
    named = [name for name in data.groups if name in features.columns]
    if named and found.value is not None:
        summary += f" Alike includes alike in {_listed(named)}."
    measured = Measured(
        target=data.name,
        measure=CONSISTENCY,
        value=found.value,
        summary=summary,
        n=found.n,
        interval_at=found.interval,
    )
    return findings(check, measured, gates, tags)


def flip_findings(
    check: str,
    model: TabularModel,
    features: pandas.DataFrame,
    columns: Sequence[str],
    positive: Positive,
    threshold: float | None = None,
    *,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
    weight: Numbers | None = None,
) -> list[Finding]:
    """The flip rate of each sensitive column; "not measured" where the model does not read it.

    A gate with an attribute is held against that column only. Raises InputError as `flips` does.
    """
    found: list[Finding] = []
    for column in columns:
        mine = [gate for gate in gates if gate.attribute in (None, column)]
        reason = why_not(model, features, column)
        if reason is None:
            flipped = flips(
                model, features, column, positive=positive, threshold=threshold, weight=weight
            )
            measured = _flip_rate(flipped, features)
        else:
            measured = Measured(
                target=column,
                measure=FLIP_RATE,
                value=None,
                summary=f"Not measured: {reason}.",
                n=None,
            )
        found += findings(check, measured, mine, tags)
    return found


def _flip_rate(found: Flips, features: pandas.DataFrame) -> Measured:
    total = found.total
    if total.value is None:
        summary = f"Not measured: no row with a value of {found.column} weighs anything."
    else:
        summary = (
            f"Changing nothing but {found.column} changes the decision on {_percent(total.value)} of "
            f"{total.n:,} rows{_moved(found)}."
        )
    if found.missing:
        summary += f" {found.missing:,} rows without a value were left out."
    return Measured(
        target=found.column,
        measure=FLIP_RATE,
        value=total.value,
        summary=summary,
        n=total.n,
        interval_at=lambda confidence: wilson(total.hits, total.cases, confidence),
        evidence=_flip_evidence(found, features),
    )


def _moved(found: Flips) -> str:
    if found.score_change is None:
        return ""
    if found.score_change == found.total.value == 0:
        return (
            " and no score by anything: the model leaves the column aside, which says nothing about other "
            "columns that stand for it"
        )
    return f" and moves the score by {found.score_change:.4f} on average"


def _flip_evidence(found: Flips, features: pandas.DataFrame) -> tuple[Evidence, ...]:
    worst = sorted(found.pairs, key=lambda pair: -(pair.changed.value or 0))[:_MOST_PAIRS]
    note = f"The {_MOST_PAIRS} pairs that change most of {len(found.pairs)}. "
    pairs = Table(
        title=f"Decisions when {found.column} is changed",
        columns=(
            "from",
            "to",
            "rows",
            "changed",
            "became positive",
            "ceased to be",
            "mean change of the score",
        ),
        rows=tuple(
            (
                pair.old,
                pair.new,
                pair.changed.n,
                pair.changed.value,
                pair.gained,
                pair.lost,
                pair.score,
            )
            for pair in worst
        ),
        note=(note if len(found.pairs) > len(worst) else "")
        + "Other columns stay as they are, also those that the attribute may have shaped, so that some rows "
        "may describe nobody: an attribute flip, no causal counterfactual.",
    )
    chart = Estimates(
        title=f"Share whose decision changes with {found.column}, by its value",
        estimates=tuple(_estimate(name, one) for name, one in found.by_value.items()),
    )
    return (pairs, chart, _examples(found, features)) if found.examples else (pairs, chart)


def _estimate(name: str, one: Changed) -> Estimate:
    interval = wilson(one.hits, one.cases) if one.cases else None
    return Estimate(
        label=name,
        value=one.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n=one.n,
    )


def _examples(found: Flips, features: pandas.DataFrame) -> Table:
    others = [name for name in features.columns if name != found.column][:_MOST_COLUMNS]
    return Table(
        title=f"Rows whose decision changes with {found.column}",
        columns=("data row", found.column, "asked as", "the decision", *map(str, others)),
        rows=tuple(_example(one, features[others]) for one in found.examples),
        note="The first that were found, not drawn at random.",
    )


def _example(one: Example, features: pandas.DataFrame) -> tuple[Cell, ...]:
    change = "becomes positive" if one.gained else "is positive no more"
    # column by column: a row taken as one has a single type
    rest = [_cell(features[name].iloc[[one.row]].tolist()[0]) for name in features.columns]
    return (one.row + 1, one.old, one.new, change, *rest)


def _cell(value: object) -> Cell:
    if pandas.isna(value):  # type: ignore[call-overload]
        return MISSING
    return value if isinstance(value, str | int | float | bool) else str(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(names: Sequence[object]) -> str:
    shown = [str(name) for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
