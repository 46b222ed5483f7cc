"""The mitigation that was chosen, written as a file, and the audit of what stands in that file."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy
import pandas

from assaymark.bias.findings import Measured, findings, unanswered
from assaymark.bias.mitigated import Audited, Draw, Made, Mitigated, load, needed, save
from assaymark.bias.mitigation_fits import Fitted
from assaymark.bias.mitigations import chosen
from assaymark.bias.rows import Predictions
from assaymark.bias.samples import Sample, halves, sample_of
from assaymark.bias.tradeoffs import Estimated
from assaymark.bias.whatif import check_constraint, fitted_by, measures
from assaymark.reports.errors import InputError, InternalContradiction
from assaymark.reports.model import Finding, Gate

_CONFIDENCE = 0.95
_LIBRARIES = ("assaymark", "fairlearn", "scikit-learn", "torch", "numpy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied:
    """What was written. audit: of the file read back, by the decisions it makes on the other half.

    sha256: of the file. alike: rows of that half whose lot is that of another row, since they have the same
    content.
    """

    path: Path
    sha256: str
    mitigated: Mitigated
    audit: Mapping[str, Estimated]
    n: int
    alike: int
    doubt: str | None


def apply(
    method: str,
    data: Predictions,
    features: pandas.DataFrame | None,
    *,
    attribute: str,
    path: Path,
    constraint: str = "demographic_parity",
    score_column: str = "score",
    positive: str = "1",
    keys: pandas.DataFrame | None = None,
    seed: int = 0,
    min_group_size: int = 1,
) -> Applied:
    """Fit a mitigation as `what_if` does, write it to path, read it back and audit its decisions.

    method: a name of MITIGATIONS, not a family of several. score_column, positive: what the score and a
    positive decision are called in the table that decisions are made about. keys: columns that tell
    people apart, such as an identifier, from whose content lots are drawn; without them, from the
    columns that the rule reads. The audit is of decisions, not of chances, so it differs from the what-if by
    the luck of the lots. Raises InputError when the method cannot be fitted or the file not be written.
    """
    mitigations = chosen([method])
    if method not in mitigations:
        raise InputError(
            f'"{method}" stands for several: name one of {", ".join(mitigations)} to write'
        )
    check_constraint(constraint)
    sample, _ = sample_of(
        data,
        features,
        attribute=attribute,
        score_column=score_column,
        min_group_size=min_group_size,
        keys=keys,
    )
    fitting, measuring = (sample.take(half) for half in halves(sample, seed))
    fitted = fitted_by(mitigations[method], fitting, constraint)
    rule = fitted.rule
    columns = rule.columns if keys is None else tuple(map(str, keys.columns))
    draw = Draw(seed=seed, columns=columns) if rule.draws else None
    mitigated = Mitigated(
        method=method,
        constraint=constraint,
        attribute=attribute,
        positive=positive,
        columns=needed(rule, draw),
        rule=rule,
        draw=draw,
        made=_made(fitted, fitting, measuring, seed),
    )
    written, audit = _written(mitigated, measuring, path)
    return Applied(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        mitigated=written,
        audit=audit,
        n=measuring.n,
        alike=written.alike(measuring.table),
        doubt=fitted.doubt,
    )


def _written(
    mitigated: Mitigated, measuring: Sample, path: Path
) -> tuple[Mitigated, dict[str, Estimated]]:
    """The file read back, and its audit. Raises when it decides otherwise than what was written."""
    before = _stored(_audit(mitigated, measuring), measuring.n)
    save(mitigated.model_copy(update={"audit": before}), path)
    written = load(path)
    audit = _audit(written, measuring)
    if _stored(audit, measuring.n) != written.audit:
        path.unlink()
        raise InternalContradiction(f"{path} decides otherwise than the model it was written from")
    return written, audit


def findings_of(
    check: str, applied: Applied, gates: Sequence[Gate] = (), tags: tuple[str, ...] = ()
) -> list[Finding]:
    """The audit as findings, of all MEASURES; the target is the name of the file.

    A gate on another attribute than the one that was mitigated is not measured.
    """
    mine = [gate for gate in gates if gate.attribute in (None, applied.mitigated.attribute)]
    results: list[Finding] = []
    for measure, estimated in applied.audit.items():
        measured = Measured(
            target=applied.path.name,
            measure=measure,
            value=estimated.value,
            summary=_summary(applied, measure, estimated),
            n=applied.n,
            interval_at=estimated.interval_at,
        )
        results += [
            finding if estimated.value is None else replace(finding, unreliable=applied.doubt)
            for finding in findings(check, measured, mine, tags)
        ]
    about_all = [replace(gate, attribute=None) for gate in mine]
    others = [gate for gate in gates if gate not in mine]
    return results + unanswered(check, results, [*about_all, *others], tags)


def _summary(applied: Applied, measure: str, estimated: Estimated) -> str:
    if estimated.value is None:
        return f"Not measured: {estimated.why}."
    alike = (
        f" {applied.alike} rows draw the lot of another row, as their content is the same: name columns that "
        "tell people apart."
        if applied.alike
        else ""
    )
    return (
        f"{measure.replace('_', ' ').capitalize()} of what {applied.path.name} decides, read back, on "
        f"{applied.n} rows that it was not fitted on: {estimated.value:.3f}.{alike}"
    )


def _audit(mitigated: Mitigated, sample: Sample) -> dict[str, Estimated]:
    return measures(sample, mitigated.predict(sample.table).astype(numpy.float64))


def _stored(audit: Mapping[str, Estimated], n: int) -> tuple[Audited, ...]:
    return tuple(_stored_one(measure, found, n) for measure, found in audit.items())


def _stored_one(measure: str, found: Estimated, n: int) -> Audited:
    interval = None if found.value is None else found.interval_at(_CONFIDENCE)
    return Audited(
        measure=measure,
        value=found.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        confidence=_CONFIDENCE if interval else None,
        n=n,
        why=found.why,
    )


def _made(fitted: Fitted, fitting: Sample, measuring: Sample, seed: int) -> Made:
    return Made(
        by=f"assaymark {version('assaymark')}",
        libraries={name: version(name) for name in _LIBRARIES[1:]},
        seed=seed,
        fitted_on=fitting.n,
        measured_on=measuring.n,
        fitted_sha256=digest(fitting),
        note="; ".join(filter(None, (fitted.note, fitted.doubt))),
    )


def digest(sample: Sample) -> str:
    """SHA-256 over labels, weights and the columns of the table, in their order."""
    found = hashlib.sha256(sample.label.tobytes())
    found.update(sample.mass.tobytes())
    for name in sample.table.columns:
        found.update(str(name).encode())
        values = sample.table[name]
        texts = values.astype(object).map(str)
        found.update("\0".join(texts).encode(errors="replace"))
    return found.hexdigest()
