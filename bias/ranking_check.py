"""The bias check of rankings: NDCG by group of users, exposure by group of items.

An attribute describes users where every query has rows of one group only, and items where it does not.
"""

from functools import partial

from assaymark.bias.check import at_worst, gates_of
from assaymark.bias.exposure import GAPS, ExposureByGroup, exposure_by_group
from assaymark.bias.findings import Measured, findings, unanswered
from assaymark.bias.groups import title
from assaymark.bias.ranking import NdcgByGroup, mixed_queries, ndcg_by_group
from assaymark.bias.rows import Rankings
from assaymark.reports.errors import InputError
from assaymark.reports.model import (
    Cell,
    CheckResult,
    Estimate,
    Estimates,
    Evidence,
    Finding,
    Gate,
    Method,
    Table,
)

NDCG = "ndcg_difference"


def check_ranking(
    check: str,
    data: Rankings,
    *,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    min_group_size: int = 1,
    k: int | None = None,
) -> CheckResult:
    """The gaps of every sensitive attribute that it allows; a gate on another one is not measured.

    min_group_size: queries of a group of users, or rows of a group of items, that it needs to be
    compared. k: positions beyond it count for nothing; without it all count. Raises InputError for k below
    1 and for rows of one query that weigh differently.
    """
    if k is not None and k < 1:
        raise InputError(f"the cutoff k is {k}: expected at least 1, or none for whole rankings")
    found: list[Finding] = []
    untested: list[str] = []
    for attribute in data.groups:
        mine = gates_of(gates, data, attribute)
        mixed = mixed_queries(data, attribute)
        if mixed:
            exposure = exposure_by_group(data, attribute, k, min_group_size)
            measured = [_exposure(exposure, gap) for gap in GAPS]
            evidence, apart = _exposure_evidence(exposure, data), _not_beside(exposure)
        else:
            ndcg = ndcg_by_group(data, attribute, k, min_group_size)
            measured = [_ndcg(ndcg)]
            evidence, apart = _ndcg_evidence(ndcg, data, k), _too_few(ndcg, min_group_size)
        names = {one.measure for one in measured}
        asked = {gate.metric for gate in mine}
        measured += [
            _not_allowed(attribute, measure, mixed)
            for measure in (*GAPS, NDCG)
            if measure in asked and measure not in names
        ]
        each = [finding for one in measured for finding in findings(check, one, mine, tags)]
        found += at_worst(each, evidence)
        untested += apart
    found += unanswered(check, found, gates, tags)
    return CheckResult(findings=tuple(found), method=_method(check, data, k, untested))


def _exposure(exposure: ExposureByGroup, gap: str) -> Measured:
    value = exposure.gaps[gap]
    if value is None:
        summary = f"Not measured: {exposure.why[gap]}."
    else:
        shares = exposure.by_relevance if gap == GAPS[2] else exposure.by_items
        order = sorted(exposure.compared, key=lambda place: float(shares.ratio[place]))
        summary = (
            f"{title(gap).capitalize()} between the groups of {exposure.attribute}: {value:.3f}, least in "
            f"{exposure.names[order[0]]} and most in {exposure.names[order[-1]]}."
        )
        if exposure.interval(gap, 0.95) is None:
            summary += (
                " No interval: a group is in one query only, gets nothing, or fares alike in all."
            )
    return Measured(
        target=exposure.attribute,
        measure=gap,
        value=value,
        summary=summary,
        n=sum(exposure.rows[place] for place in exposure.compared),
        interval_at=partial(exposure.interval, gap),
    )


def _ndcg(ndcg: NdcgByGroup) -> Measured:
    if ndcg.gap is None:
        summary = f"Not measured: {ndcg.why}."
    else:
        order = sorted(ndcg.compared, key=lambda place: ndcg.means.value(place) or 0.0)
        summary = (
            f"Largest difference in mean NDCG between the groups of {ndcg.attribute}: {ndcg.gap:.3f}; "
            f"lowest for {ndcg.names[order[0]]}, highest for {ndcg.names[order[-1]]}."
        )
        unknown = [ndcg.names[place] for place in ndcg.compared if not ndcg.means.spread[place]]
        if unknown:
            summary += (
                f" No interval: one query, or queries that are all alike, of {', '.join(unknown)}."
            )
    return Measured(
        target=ndcg.attribute,
        measure=NDCG,
        value=ndcg.gap,
        summary=summary,
        n=sum(int(ndcg.means.rows[place]) for place in ndcg.compared),
        interval_at=ndcg.interval,
    )


def _not_allowed(attribute: str, measure: str, mixed: int) -> Measured:
    reason = (
        f"{attribute} describes items, since {mixed} queries have rows of several groups: NDCG is compared "
        "between groups of users"
        if measure == NDCG
        else f"{attribute} describes users, since every query has rows of one group only: exposure is "
        "compared between items of one query"
    )
    return Measured(
        target=attribute, measure=measure, value=None, summary=f"Not measured: {reason}.", n=None
    )


def _exposure_evidence(exposure: ExposureByGroup, data: Rankings) -> tuple[Evidence, ...]:
    rows: list[tuple[Cell, ...]] = []
    for place, name in enumerate(exposure.names):
        row: list[Cell] = [name, exposure.rows[place], exposure.discount[place]]
        for shares in (exposure.by_items, exposure.by_relevance):
            value = float(shares.ratio[place])
            found = shares.interval(place, 0.95)
            row.append(value if value == value else None)
            row.append(f"{found.low:.3f} to {found.high:.3f}" if found else None)
        rows.append(tuple(row))
    left_out = (
        f" {exposure.alone} queries with rows of one group only compare nothing and are left out."
        if exposure.alone
        else ""
    )
    without = (
        f" {exposure.irrelevant} queries without a relevant row are left out per relevance."
        if exposure.irrelevant
        else ""
    )
    table = Table(
        title=f"Exposure by {exposure.attribute}",
        columns=(
            "group",
            "rows",
            "mean worth of a position",
            "exposure",
            "95 % interval",
            "exposure per relevance",
            "95 % interval",
        ),
        rows=tuple(rows),
        note=f"{data.note[:1].upper()}{data.note[1:]}. Exposure is a group's share of what positions are "
        "worth over its share of the items, averaged over queries: 1 where the order does not depend on "
        f"the group.{left_out}{without}",
    )
    return (table,)


def _ndcg_evidence(ndcg: NdcgByGroup, data: Rankings, k: int | None) -> tuple[Evidence, ...]:
    rows: list[tuple[Cell, ...]] = []
    estimates = []
    for place, name in enumerate(ndcg.names):
        scored, value = int(ndcg.means.rows[place]), ndcg.means.value(place)
        found = ndcg.means.interval(place, 0.95)
        low, high = (max(found.low, 0.0), min(found.high, 1.0)) if found else (None, None)
        rows.append((name, ndcg.queries[place], ndcg.queries[place] - scored, value, low, high))
        estimates.append(Estimate(label=name, value=value, low=low, high=high, n=scored))
    called = "NDCG" if k is None else f"NDCG@{k}"
    table = Table(
        title=f"{called} by {ndcg.attribute}",
        columns=("group", "queries", "without a relevant row", f"mean {called}", "from", "to"),
        rows=tuple(rows),
        note=f"{data.note[:1].upper()}{data.note[1:]}. A query without a relevant row has no NDCG: it is "
        "counted, and not scored. From and to are the ends of the 95 % interval.",
    )
    chart = Estimates(title=f"Mean {called} by {ndcg.attribute}", estimates=tuple(estimates))
    return (table, chart)


def _not_beside(exposure: ExposureByGroup) -> list[str]:
    absent = [
        f"{exposure.attribute} = {name}"
        for place, name in enumerate(exposure.names)
        if place not in exposure.compared
    ]
    if not absent:
        return []
    return [
        "groups with too few rows in queries where another group stands beside them, which were not "
        f"compared: {', '.join(absent)}"
    ]


def _too_few(ndcg: NdcgByGroup, min_group_size: int) -> list[str]:
    absent = [
        f"{ndcg.attribute} = {name}"
        for place, name in enumerate(ndcg.names)
        if place not in ndcg.compared
    ]
    if not absent:
        return []
    return [
        f"groups of fewer than {min_group_size} queries, which were not compared: {', '.join(absent)}"
    ]


def _method(check: str, data: Rankings, k: int | None, untested: list[str]) -> Method:
    steps = [
        f"{data.n} rows of {data.name}; {data.note}.",
        "A position is worth 1 / log2(1 + rank); tied items share the mean of their positions."
        + ("" if k is None else f" Positions beyond {k} are worth nothing."),
        "Where every query has rows of one group only, the attribute describes users: mean NDCG of each "
        "group's queries is compared. Otherwise it describes items: each group's share of what positions "
        "are worth is compared with its share of the items, and of the relevance, query by query.",
        "Queries are independent of each other, their rows are not. Intervals of NDCG gaps are those of "
        "means over queries, for all pairs of groups at once (Tukey and Kramer); those of exposure leave "
        "out one query after the other (jackknife), with Student's t for all pairs at once (Bonferroni).",
    ]
    if data.weight is not None:
        steps.append("Queries are weighted; intervals use Kish's effective number of queries.")
    open_ = [
        "whether several queries come from one user",
        "exposure beyond the position, such as clicks",
    ]
    if data.crossed is None:
        open_.append("intersections of the sensitive attributes")
    return Method(
        check=check,
        title=f"Rankings of {data.name} by {', '.join(data.groups)}",
        steps=tuple(steps),
        not_tested=(*open_, *untested),
        sources=(
            "Järvelin and Kekäläinen 2002, ACM TOIS 20",
            "McSherry and Najork 2008, ECIR",
            "Singh and Joachims 2018, arXiv 1802.07281",
            "Biega, Gummadi and Weikum 2018, arXiv 1805.01788",
            "Miller 1974, Biometrika 61",
        ),
    )
