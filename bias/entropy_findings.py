"""Inequality of benefits as findings."""

from collections.abc import Sequence

from assaymark.bias import entropy
from assaymark.bias.entropy import Benefits
from assaymark.bias.findings import Measured, findings
from assaymark.bias.rows import Predictions
from assaymark.reports.model import Cell, Finding, Gate, Table

INDICES = {"generalized_entropy_index": 2.0, "theil_index": 1.0}
"""Each index with its alpha."""
SOURCES = (
    "Speicher et al. 2018, arXiv 1807.00787",
    "Venzon and Moolgavkar 1988, Applied Statistics 37",
)


def entropy_findings(
    check: str, data: Predictions, *, gates: Sequence[Gate] = (), tags: tuple[str, ...] = ()
) -> list[Finding]:
    """The generalized entropy index (alpha 2) and Theil's of all rows, divided by every attribute."""
    everybody = entropy.benefits(data)
    by_attribute = {name: entropy.benefits_by_group(data, name) for name in data.groups}
    found: list[Finding] = []
    for measure, alpha in INDICES.items():
        measured = _inequality(data.name, measure, alpha, everybody, by_attribute)
        found += findings(check, measured, gates, tags)
    return found


def _inequality(
    target: str,
    measure: str,
    alpha: float,
    everybody: Benefits,
    by_attribute: dict[str, list[Benefits]],
) -> Measured:
    value = entropy.index(everybody, alpha)
    title = measure.replace("_", " ").capitalize()
    summary = (
        "Not measured: every decision is a false negative, so that nobody has a benefit."
        if value is None
        else f"{title} of benefits (decision − label + 1, a positive decision taken as the good one): "
        f"{value:.3f}. It is 0 where all are treated alike, be it well or badly."
    )
    return Measured(
        target=target,
        measure=measure,
        value=value,
        summary=summary,
        n=everybody.n,
        interval_at=lambda confidence: entropy.interval(everybody, alpha, confidence),
        evidence=tuple(
            _benefits_table(name, groups, alpha, title) for name, groups in by_attribute.items()
        )
        if value is not None
        else (),
    )


def _benefits_table(attribute: str, groups: list[Benefits], alpha: float, title: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for group in groups:
        total = sum(group.weights)
        shares = [weight / total if total else None for weight in group.weights]
        rows.append(
            (group.name, group.n, group.mean, shares[0], shares[2], entropy.index(group, alpha))
        )
    both = entropy.parts(groups, alpha)
    note = ""
    if both is not None:
        whole = both.between + both.within
        share = f" ({100 * both.between / whole:.1f} % of the whole)" if whole else ""
        note = (
            f"Between the groups lies {both.between:.4f}{share}, within them {both.within:.4f}. A benefit of "
            "1 is a right decision."
        )
    return Table(
        title=f"{title} by {attribute}",
        columns=(
            attribute,
            "rows",
            "mean benefit",
            "benefit 0 (false negatives)",
            "benefit 2 (false positives)",
            "index in the group",
        ),
        rows=tuple(rows),
        note=note,
    )
