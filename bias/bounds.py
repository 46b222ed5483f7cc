"""What a gap could be, were the groups of people known whose sensitive value is missing.

Each of them belongs to one of the known groups; which one is not known, so the gap lies between what
the kindest and the unkindest assignment would give (worst-case bounds, Manski 2003, Partial
Identification of Probability Distributions, chapter 1).
"""

import math
from collections.abc import Sequence

from assaymark.bias.groups import GAPS, Group, Grouped

Bounds = tuple[float, float]


def gap_bounds(grouped: Grouped, gap: str) -> Bounds | None:
    """The least and the largest gap between the known groups; None where nobody is missing.

    gap: a name in GAPS. Only groups that are compared count. The unkind end is reached by an
    assignment of people to groups; no assignment is beyond the kind one. None also where fewer than two
    groups are known, or a rate of one could be undefined.
    """
    known = [group for group in grouped.groups if group.compared and not group.missing]
    missing = [group for group in grouped.groups if group.missing]
    if not missing or len(known) < 2:
        return None
    ends = []
    for rate in GAPS[gap]:
        rates = [group.rates[rate] for group in known]
        if any(one.value is None for one in rates):
            return None
        unknown = [group.rates[rate] for group in missing]
        hits = sum((one.value or 0.0) * one.mass for one in unknown)
        ends.append(
            _bounds(
                [((one.value or 0.0) * one.mass, one.mass) for one in rates],
                hits,
                sum(one.mass for one in unknown) - hits,
                ratio=gap.endswith("ratio"),
            )
        )
    pick = min if gap.endswith("ratio") else max
    return pick(low for low, _ in ends), pick(high for _, high in ends)


def rate_bounds(grouped: Grouped, group: Group, rate: str) -> Bounds | None:
    """The least and the largest rate of a group, were all people without a value of its members.

    None where nobody is missing, or the rate is not defined.
    """
    missing = [other.rates[rate] for other in grouped.groups if other.missing]
    found = group.rates[rate]
    if not missing or found.value is None:
        return None
    hits = sum((one.value or 0.0) * one.mass for one in missing)
    misses = sum(one.mass for one in missing) - hits
    own = found.value * found.mass
    return own / (found.mass + misses), (own + hits) / (found.mass + hits)


def impact_bound(grouped: Grouped, reference: str | None = None) -> float | None:
    """The least disparate impact ratio that people without a value could make; None where nobody is missing.

    reference: the group beside which the others stand; without one, any could be the most selected.
    """
    if reference is None:
        bounds = gap_bounds(grouped, "demographic_parity_ratio")
        return None if bounds is None else bounds[0]
    rates = {
        group.name: rate_bounds(grouped, group, "selection_rate")
        for group in grouped.groups
        if group.compared and not group.missing
    }
    beside = rates.pop(reference, None)
    others = [bounds[0] for bounds in rates.values() if bounds is not None]
    if beside is None or not others or beside[1] == 0:
        return None
    return min(others) / beside[1]


def doubt(attribute: str, rows: int) -> str | None:
    """Why a good number is not believed where some people, who are not compared, could be of any group."""
    if not rows:
        return None
    people = "1 row has" if rows == 1 else f"{rows} rows have"
    return f"{people} no value of {attribute}, and could belong to any group"


def _bounds(
    counted: Sequence[tuple[float, float]], hits: float, misses: float, *, ratio: bool
) -> Bounds:
    """From hits and cases of the known groups, and hits and misses of the others."""
    highest = [(h + hits) / (n + hits) for h, n in counted]
    lowest = [h / (n + misses) for h, n in counted]
    places = range(len(counted))
    pairs = [(lowest[low], highest[high]) for low in places for high in places if low != high]
    if ratio:
        furthest = min(low / high if high > 0 else math.inf for low, high in pairs)
        nearest = min(highest) / max(lowest) if max(lowest) > 0 else math.inf
        return min(1.0, furthest), min(1.0, nearest)
    return max(0.0, max(lowest) - min(highest)), max(0.0, max(high - low for low, high in pairs))
