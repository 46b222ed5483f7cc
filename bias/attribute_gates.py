"""What the checks of several sensitive attributes share: whose gate it is, and where evidence stands."""

from collections.abc import Sequence
from dataclasses import replace

from assaymark.bias.rows import Rows
from assaymark.reports.model import Evidence, Finding, Gate, by_urgency


def gates_of(gates: Sequence[Gate], attribute: str, data: Rows) -> list[Gate]:
    """The gates that hold for an attribute: its own, those of all, and "intersections" of the crossed."""
    known = (None, "intersections" if attribute == data.crossed else attribute)
    return [gate for gate in gates if gate.attribute in known]


def with_evidence(found: Sequence[Finding], evidence: tuple[Evidence, ...]) -> list[Finding]:
    """The findings of an attribute, with its tables beside the one that a reader looks at first."""
    if not found:
        return []
    worst = by_urgency(found)[0]
    place = next(i for i, finding in enumerate(found) if finding is worst)
    return [
        replace(finding, evidence=finding.evidence + evidence) if i == place else finding
        for i, finding in enumerate(found)
    ]


def too_small(attribute: str, names: Sequence[str], min_group_size: int) -> list[str]:
    """What the method says of groups that were not compared."""
    if not names:
        return []
    return [
        f"groups of {attribute} with fewer than {min_group_size} rows, which were not compared: "
        f"{', '.join(names)}"
    ]
