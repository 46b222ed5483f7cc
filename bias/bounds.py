"""What a gap could be, were the groups of people known whose sensitive value is missing.

Each of them belongs to one of the known groups; which one is not known, so the gap lies between what
the kindest and the unkindest assignment would give (worst-case bounds, Manski 2003, Partial
Identification of Probability Distributions, chapter 1).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from assaymark.bias.groups import GAPS, Grouped
from assaymark.reports.model import Finding, Verdict

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


def doubted(finding: Finding, worst: float, attribute: str) -> Finding:
    """A finding whose limit would not be kept in the worst case is not believed."""
    if finding.limit is None:
        return finding
    held = replace(finding.limit, on="estimate")
    if held.judge(worst, None) is not Verdict.FAIL:
        return finding
    why = f"people without a value of {attribute} could bring it to {worst:.3f}"
    return replace(finding, unreliable=why)


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
