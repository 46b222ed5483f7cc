"""The check of mitigations on real studies, and the file that --apply writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from sklearn.linear_model import LogisticRegression
from whatif_rows import adult, column, compas, diabetes

from assaymark.bias import mitigation_apply, mitigation_fits
from assaymark.bias.mitigated import load
from assaymark.bias.mitigation_apply import apply, findings_of
from assaymark.bias.mitigation_check import check_mitigations
from assaymark.bias.mitigations import CONSTRAINTS, MITIGATIONS
from assaymark.bias.rows import Predictions
from assaymark.bias.samples import halves, sample_of
from assaymark.bias.tradeoffs import MEASURES
from assaymark.bias.whatif import AS_IS, BASE, measures, what_if
from assaymark.reports.errors import InputError, InternalContradiction
from assaymark.reports.model import CheckResult, Gate, Limit, Plot, Table

STUDY = diabetes()


def studied(**options: Any) -> CheckResult:
    return check_mitigations("c", *STUDY, **{"attribute": "sex"} | options)


def texts(data: Predictions, name: str) -> list[str]:
    group = data.groups[name]
    return [group.names[code] for code in group.codes]


def shown(result: CheckResult) -> tuple[Plot, list[Table]]:
    plot, *others = result.findings[0].evidence
    assert isinstance(plot, Plot)
    tables = [table for table in others if isinstance(table, Table)]
    assert len(tables) == len(others) == 3
    return plot, tables


QUICK = ["threshold-optimizer", "group-thresholds-0.02", "reweighing"]


@pytest.mark.parametrize(
    ("constraint", "methods"),
    [
        ("demographic_parity", [*MITIGATIONS]),
        ("equalized_odds", QUICK),
        ("equal_opportunity", QUICK),
    ],
)
def test_every_method_has_a_finding_a_row_and_a_point(constraint: str, methods: list[str]) -> None:
    result = studied(constraint=constraint, methods=[] if len(methods) > 3 else methods)
    names = [AS_IS, BASE, *methods]
    found = {(one.target, one.measure): one for one in result.findings}
    gap = CONSTRAINTS[constraint]
    assert list(found) == [(name, measure) for name in names for measure in ("accuracy", gap)]
    plot, (table, changes, gaps) = shown(result)
    assert [series.label for series in plot.series] == [*names, "Pareto front"]
    assert table.columns == (
        *("method", "Pareto front", "accuracy", "from", "to"),
        *(gap.replace("_", " "), "from", "to", "n", "note"),
    )
    for series, row in zip(plot.series, table.rows, strict=False):
        accuracy, difference = found[series.label, "accuracy"], found[series.label, gap]
        (point,) = series.points
        assert (point.x, point.y, point.n) == (difference.value, accuracy.value, accuracy.n)
        assert accuracy.interval is not None
        assert (point.low, point.high) == (accuracy.interval.low, accuracy.interval.high)
        assert row[2:5] == (point.y, point.low, point.high)
        assert difference.interval is not None
        assert row[5:8] == (point.x, difference.interval.low, difference.interval.high)
    for row in (*changes.rows, *gaps.rows):
        assert None not in row
        assert row[-1] == ""
    assert changes.rows[0][2:5] == (0, 0, 0)
    front = {(point.x, point.y) for point in plot.series[-1].points}
    assert front == {(row[5], row[2]) for row in table.rows if row[1] == "yes"}
    assert front


def test_all_are_measured_on_the_rows_that_none_was_fitted_on() -> None:
    data, features = STUDY
    result = studied(methods=["reweighing"], seed=4)
    ours, _ = sample_of(data, features, attribute="sex")
    first, second = halves(ours, 4)
    as_is, reweighed = result.findings[0], result.findings[4]
    assert as_is.value == pytest.approx((data.label == data.prediction)[second].mean())
    assert {one.n for one in result.findings} == {len(second)}
    fitted = mitigation_fits.reweighing(ours.take(first), "demographic_parity")
    decided = fitted.rule.chances(features.iloc[second]) > 0.5
    assert reweighed.value == pytest.approx((decided == data.label[second]).mean())
    change = (decided == data.label[second]).mean() - (as_is.value or 0)
    text = f"{change:+.3f} against the decisions as they are"
    assert text in reweighed.summary


def test_methods_do_what_they_are_for_on_adult(shared: Path) -> None:
    data, features = adult(shared, 8000)
    methods = [*QUICK, "exponentiated-gradient-0.02", "exponentiated-gradient-0.1"]
    result = check_mitigations("c", data, features, attribute="sex", methods=methods)
    gap = {one.target: one.value for one in result.findings if one.measure.startswith("demo")}
    assert all(value is not None for value in gap.values())
    values: dict[str, float] = {name: value or 0.0 for name, value in gap.items()}
    assert values[BASE] > 0.15
    for name in ("threshold-optimizer", "group-thresholds-0.02", "exponentiated-gradient-0.02"):
        assert values[name] < 0.06
    assert values["reweighing"] < values[BASE]
    assert values["exponentiated-gradient-0.1"] > values["exponentiated-gradient-0.02"]


def test_equalized_odds_on_compas_by_race(shared: Path) -> None:
    data, features = compas(shared, 7214)
    result = check_mitigations(
        "c",
        data,
        features.drop(columns="id"),
        attribute="race",
        constraint="equalized_odds",
        methods=["threshold-optimizer", "reweighing"],
        min_group_size=100,
    )
    gap = {one.target: one.value for one in result.findings if one.measure.startswith("equal")}
    assert (gap["threshold-optimizer"] or 1) < (gap[AS_IS] or 0) / 2
    assert any("Asian, Native American" in item for item in result.method.not_tested)
    assert any("unlawful" in item for item in result.method.not_tested)


def test_what_cannot_be_measured_is_in_the_table_and_off_the_front() -> None:
    data, _ = STUDY
    result = check_mitigations(
        "c",
        replace(data, score=None),
        None,
        attribute="sex",
        methods=["threshold-optimizer", "reweighing"],
    )
    plot, (table, *_) = shown(result)
    assert [series.label for series in plot.series] == [AS_IS, "Pareto front"]
    assert "threshold-optimizer, reweighing" in plot.note
    for row, words in zip(table.rows[1:], ("needs a score", "needs features"), strict=True):
        assert row[1:8] == ("no", *[None] * 6)
        assert words in str(row[-1])
    for finding in result.findings[2:]:
        assert finding.verdict == "not-measured"
        assert finding.summary.startswith("Not measured: it ")


def test_gates() -> None:
    gates = (
        Gate(metric="demographic_parity_difference", limit=Limit(maximum=0.9)),
        Gate(metric="balanced_accuracy", limit=Limit(minimum=0.99)),
    )
    found = studied(methods=["reweighing"], gates=gates).findings
    assert {(one.measure, one.verdict.value) for one in found} == {
        ("accuracy", "measured"),
        ("balanced_accuracy", "fail"),
        ("demographic_parity_difference", "pass"),
    }


def test_a_gate_is_undecided_where_a_fit_did_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = LogisticRegression(max_iter=1)
    monkeypatch.setattr(mitigation_fits, "LogisticRegression", lambda max_iter: hasty)
    gate = Gate(metric="accuracy", limit=Limit(minimum=0.1))
    found = studied(methods=["reweighing"], gates=[gate])
    verdicts = {one.target: one.verdict for one in found.findings if one.limit}
    assert verdicts == {AS_IS: "pass", BASE: "inconclusive", "reweighing": "inconclusive"}
    assert "did not converge" in str(shown(found)[1][0].rows[2][-1])


def test_without_decisions_the_base_estimator_is_compared_with() -> None:
    data, features = STUDY
    found = what_if(data, features, attribute="sex", methods=["reweighing"], decided=False)
    assert [each.name for each in found.tried] == [BASE, "reweighing"]
    assert found.tried[0].change.value == 0
    result = studied(methods=["reweighing"], decided=False)
    assert "against the model fitted without mitigation" in result.findings[2].summary
    broken = pandas.DataFrame({"x": [None] * data.n})
    tried = what_if(data, broken, attribute="sex", methods=["threshold-optimizer"], decided=False)
    assert tried.tried[0].why
    assert "could not be fitted" in tried.tried[1].change.why


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attribute": "race"}, 'no sensitive column "race"'),
        ({"methods": ["reweigh"]}, 'did you mean "reweighing"'),
        ({"constraint": "parity"}, 'no constraint "parity"'),
        ({"features": pandas.DataFrame({"x": [1]})}, "have 1 rows, diabetes has 442"),
        ({"features": pandas.DataFrame({"score": range(442)})}, "has the name of the score"),
        ({"min_group_size": 1000}, "no group of sex has 1000 rows"),
        ({"features": None, "data": replace(STUDY[0], score=None)}, "nothing to try"),
        ({"features": None, "decided": False}, "nothing to try"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"data": STUDY[0], "features": STUDY[1], "attribute": "sex"} | options
    with pytest.raises(InputError, match=words):
        what_if(**given)


WRITTEN = (
    "threshold-optimizer",
    "group-thresholds-0.05",
    "reweighing",
    "resampling",
    "exponentiated-gradient-0.05",
    "adversarial-3",
)


@pytest.mark.parametrize(
    ("method", "constraint"),
    [(method, "demographic_parity") for method in WRITTEN]
    + [(method, "equalized_odds") for method in WRITTEN[:2]],
)
def test_what_is_written_decides_as_what_was_fitted(
    tmp_path: Path, shared: Path, method: str, constraint: str
) -> None:
    data, features = compas(shared, 1500)
    path = tmp_path / "x.mitigated.json"
    keys, features = features[["id"]], features.drop(columns="id")
    applied = apply(
        method,
        data,
        features,
        attribute="sex",
        path=path,
        constraint=constraint,
        score_column="decile_score",
        keys=keys,
        seed=2,
    )
    found = what_if(
        data, features, attribute="sex", methods=[method], constraint=constraint, seed=2
    ).tried[-1]
    # of a table as somebody else reads it
    table = features.assign(id=keys["id"], sex=texts(data, "sex"), decile_score=data.score)
    table.to_csv(tmp_path / "t.csv", index=False)
    table = pandas.read_csv(tmp_path / "t.csv")
    ours, _ = sample_of(data, features, attribute="sex")
    second = halves(ours, 2)[1]
    written = load(path)
    chances = written.chances(table)
    for name, expected in measures(ours.take(second), chances[second]).items():
        assert expected.value == pytest.approx(found.measures[name].value, abs=1e-12)
    decided = written.predict(table)
    assert (decided[second] == written.predict(table.iloc[second])).all()
    for audited in written.audit:
        truth = measures(ours.take(second), decided[second].astype(float))[audited.measure]
        assert audited.value == pytest.approx(truth.value, abs=1e-12)
        assert audited.value == applied.audit[audited.measure].value
        # lots change little
        assert audited.value == pytest.approx(found.measures[audited.measure].value, abs=0.1)
    assert {audited.measure for audited in written.audit} == {*MEASURES}
    assert applied.alike == 0
    assert written.made.fitted_on + written.made.measured_on == data.n


def test_people_of_the_same_content_draw_the_same_lot_and_that_is_counted(
    tmp_path: Path, shared: Path
) -> None:
    data, _ = compas(shared)
    applied = apply(
        "threshold-optimizer", data, None, attribute="sex", path=tmp_path / "x.mitigated.json"
    )
    assert applied.mitigated.draw is not None
    assert applied.mitigated.draw.columns == ("sex", "score")
    assert applied.alike == applied.n - 20  # two sexes, ten deciles
    gate = Gate(metric="accuracy", limit=Limit(minimum=0.5))
    found = {one.measure: one for one in findings_of("c", applied, [gate])}
    assert list(found) == list(MEASURES)
    assert {one.target for one in found.values()} == {"x.mitigated.json"}
    assert found["accuracy"].value == applied.audit["accuracy"].value
    assert found["accuracy"].verdict == "pass"
    assert "draw the lot of another row" in found["accuracy"].summary


def test_bands_of_a_feature_are_a_column_of_their_own(tmp_path: Path) -> None:
    data, features = STUDY
    ages = features.assign(age_band=numpy.arange(data.n))
    applied = apply(
        "group-thresholds-0.1", data, ages, attribute="age_band", path=tmp_path / "x.json"
    )
    assert applied.mitigated.columns == ("age_band (group)", "score")


def test_an_intersection_is_decided_from_its_columns(tmp_path: Path) -> None:
    data, _ = STUDY
    both = map(" × ".join, zip(texts(data, "sex"), texts(data, "age_band"), strict=True))
    title = "sex × age_band"
    crossed: Predictions = replace(
        data, groups=data.groups | {title: column(title, both)}, crossed=title
    )
    applied = apply(
        "group-thresholds-0.1", crossed, None, attribute=title, path=tmp_path / "x.json"
    )
    assert applied.mitigated.columns == ("sex", "age_band", "score")
    assert applied.audit["accuracy"].value is not None


def test_a_family_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name one of group-thresholds-0\.02"):
        apply("group-thresholds", *STUDY, attribute="sex", path=tmp_path / "x.json")
    with pytest.raises(InputError, match="needs features"):
        apply("reweighing", STUDY[0], None, attribute="sex", path=tmp_path / "x.json")
    assert not list(tmp_path.iterdir())


def test_a_file_that_decides_otherwise_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"

    def changed(where: Path) -> Any:
        found = json.loads(where.read_text())
        found["rule"]["members"][0]["intercept"] += 1
        where.write_text(json.dumps(found))
        return load(where)

    monkeypatch.setattr(mitigation_apply, "load", changed)
    with pytest.raises(InternalContradiction):
        apply("reweighing", *STUDY, attribute="sex", path=path)
    assert not path.exists()


def test_weights_count(shared: Path) -> None:
    data, features = adult(shared, 1500)
    weight = numpy.random.default_rng(0).integers(1, 4, data.n).astype(float)
    found = what_if(replace(data, weight=weight), features, attribute="sex", methods=QUICK)
    ours, _ = sample_of(data, features, attribute="sex")
    second = halves(ours, 0)[1]
    right = data.label[second] == data.prediction[second]
    assert found.tried[0].measures["accuracy"].value == pytest.approx(
        numpy.average(right, weights=weight[second])
    )
    notes = {each.name: each.note for each in found.tried}
    assert "without the weights" in notes["threshold-optimizer"]
    assert notes["reweighing"] == ""


def test_the_fit_is_the_same_each_time() -> None:
    methods = ["exponentiated-gradient-0.1", "threshold-optimizer"]
    again = [studied(methods=methods).findings for _ in range(2)]
    assert again[0] == again[1]
