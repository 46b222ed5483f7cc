"""Every limit of a policy is held against a number, or said not to be measured, whatever the table.

A gate that no finding answers would pass unseen. So each metric that a policy may name, with and without
an attribute, goes through the policy and the runner, on tables that lack whatever can be lacking.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.bias import paired
from assaymark.bias.audit import audit
from assaymark.bias.codes import Column
from assaymark.bias.rows import Predictions
from assaymark.cli.checks import RUNNERS
from assaymark.cli.opening import Context
from assaymark.reports.bias_metrics import BINARY, MITIGATION, TASKS
from assaymark.reports.errors import AssaymarkError, PolicyError
from assaymark.reports.model import Finding, Gate, Limit, Verdict
from assaymark.reports.policy import Policy
from assaymark.reports.policy_file import parse
from assaymark.reports.policy_types import Metric

Asked = dict[str, Any]
ATTRIBUTES: tuple[str, ...] = ("sex", "race", "intersections")
ONE_NUMBER = ("impact_ratio", "counterfactual_flip_rate")
"""Metrics of columns that the check names otherwise, and not of every sensitive one."""
TABLE: dict[str, Any] = {
    "kind": "bias.table",
    "data": "t.csv",
    "label": "y",
    "sensitive": ["sex", "race"],
    "intersections": True,
}
DECISIONS = {
    "prediction": "p",
    "score": "s",
    "features": ["x", "age"],
    "neighbors": 2,
    "slices": {"columns": ["sex", "race"], "min_size": 4},
    "impact_ratios": {"sex": "sex", "race": "race", "exclude_below": 0.02},
    "accepted": {"prediction": "old"},
}
CHECKS: dict[str, tuple[dict[str, Any], dict[str, Metric]]] = {
    "columns": (TABLE | DECISIONS, BINARY),
    "apart": (TABLE | DECISIONS | {"missing": "apart", "min_group_size": 3, "weight": "w"}, BINARY),
    "model": (
        TABLE
        | {"model": "every_gate_model:decide", "features": ["sex", "x"], "counterfactual": ["sex"]},
        BINARY,
    ),
    "multiclass": (TABLE | {"task": "multiclass", "prediction": "p"}, TASKS["multiclass"]),
    "regression": (TABLE | {"task": "regression", "prediction": "s"}, TASKS["regression"]),
    "ranking": (TABLE | {"task": "ranking", "score": "s", "query": "q"}, TASKS["ranking"]),
    "mitigation": (
        {
            "kind": "bias.mitigation",
            "data": "t.csv",
            "label": "y",
            "score": "s",
            "sensitive": ["sex"],
            "methods": ["group-thresholds-0.05"],
            "apply": "out.mitigated.json",
        },
        MITIGATION,
    ),
}
MODEL = """
def decide(frame):
    return (frame["x"] > 0).astype(int)
"""


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def policy(keys: Asked, gates: list[Asked]) -> Policy:
    lines = [f"{key} = {toml(value)}" for key, value in {"id": "c", **keys, "gate": gates}.items()]
    return parse("\n".join(["[[check]]", *lines]), needs_gate=False)


def gates_of(keys: Asked, metrics: dict[str, Metric]) -> list[Asked]:
    """A gate of each metric, of all attributes and of each, with a bound of its own."""
    found: list[Asked] = []
    for name, metric in metrics.items():
        side = "max" if metric.good == "low" else "min"
        for attribute in (None, *ATTRIBUTES):
            gate: Asked = {"metric": name, side: round(0.2 + len(found) / 1000, 3)}
            if metric.interval:
                gate["on"] = "upper" if side == "max" else "lower"
            found.append(gate if attribute is None else gate | {"attribute": attribute})
    return [gate for gate in found if accepted(keys, gate)]


def accepted(keys: Asked, gate: Asked) -> bool:
    try:
        policy(keys, [gate])
    except PolicyError:
        return False
    return True


def rows(n: int = 60, seed: int = 0) -> pandas.DataFrame:
    random = numpy.random.default_rng(seed)
    table = pandas.DataFrame(
        {
            "y": random.integers(0, 2, n),
            "p": random.integers(0, 2, n),
            "old": random.integers(0, 2, n),
            "s": random.random(n).round(2),
            "w": random.integers(0, 3, n),
            "x": random.normal(size=n),
            "age": random.integers(18, 80, n),
            "q": numpy.arange(n) // 5,
            "sex": random.choice(["f", "m"], n),
            "race": random.choice(["a", "b", ""], n),
        }
    )
    table.loc[0, ["y", "w"]] = 1  # else the policy has no positive class, or no weight
    return table


def edited(**columns: Any) -> Callable[[], pandas.DataFrame]:
    return lambda: rows().assign(**columns)


TABLES: dict[str, Callable[[], pandas.DataFrame]] = {
    "plain": rows,
    "one row": lambda: rows(1),
    "two rows": lambda: rows(2),
    "one group": edited(sex="f"),
    "one intersection": edited(sex="f", race="a"),
    "nobody has a value": edited(sex="", race=""),
    "everybody alone": lambda: rows(20).assign(sex=[f"g{i}" for i in range(20)]),
    "all positive": edited(y=1, p=1, old=1),
    "nobody selected": edited(p=0, old=0, s=0.1),
    "one score": edited(s=0.5),
    "no probabilities": edited(s=lambda t: t.s * 100 - 20),
    "one group weighs nothing": edited(w=lambda t: (t.sex == "f").astype(int)),
    "one query": edited(q=0),
    "each row a query": edited(q=lambda t: range(len(t))),
    "nothing is relevant but one": lambda: rows().assign(y=[1] + [0] * 59),
    "always right": edited(p=lambda t: t.y, old=lambda t: t.y, s=lambda t: t.y),
}
OF_RANKINGS = ("one query", "each row a query", "nothing is relevant but one")


def run(keys: Asked, gates: list[Asked], table: pandas.DataFrame, folder: Path) -> list[Finding]:
    table.to_csv(folder / "t.csv", index=False)
    (folder / "every_gate_model.py").write_text(MODEL)
    (check,) = policy(keys, gates).check
    context = Context(folder=folder, seed=0, device="cpu", progress=lambda done, whole: None)
    return list(RUNNERS[type(check)](check, context).findings)


def is_about(finding: Finding, attribute: str) -> bool:
    of = finding.target.split(" = ")[0]
    crossed = attribute == "intersections" and " × " in of
    return crossed or attribute in (of, finding.target)


def lost(gates: list[Asked], found: list[Finding], keys: Asked) -> list[Asked]:
    """The gates that, of some attribute that they are about, no finding holds."""
    of_groups = {gate["metric"] for gate in gates if "attribute" in gate} - {*ONE_NUMBER}
    missed = []
    for gate in gates:
        bound = gate.get("min", gate.get("max"))
        mine = [
            one
            for one in found
            if one.limit is not None
            and one.measure == gate["metric"]
            and bound in (one.limit.minimum, one.limit.maximum)
        ]
        about = ATTRIBUTES if gate["metric"] in of_groups else ()
        if "attribute" in gate:
            about = (gate["attribute"],)
        if keys["kind"] == "bias.mitigation":
            about = ()  # the target is the file
        if not mine or not all(any(is_about(one, name) for one in mine) for name in about):
            missed.append(gate)
    return missed


@pytest.fixture(scope="module", autouse=True)
def _few_draws() -> Iterator[None]:
    """Intervals of growth are simulated, and here their ends are of no interest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired, "_DRAWS", 100)
        yield


@pytest.fixture(scope="module")
def asked() -> dict[str, list[Asked]]:
    return {name: gates_of(keys, metrics) for name, (keys, metrics) in CHECKS.items()}


def test_together_the_checks_ask_for_every_metric(asked: dict[str, list[Asked]]) -> None:
    for task, metrics in TASKS.items():
        names = ("columns", "apart", "model") if task == "binary" else (task,)
        assert {gate["metric"] for name in names for gate in asked[name]} == {*metrics}
    assert {gate["metric"] for gate in asked["mitigation"]} == {*MITIGATION}


@pytest.mark.parametrize(
    ("name", "table"),
    [(n, t) for n in CHECKS for t in TABLES if n == "ranking" or t not in OF_RANKINGS],
)
def test_every_gate_is_answered(
    name: str, table: str, asked: dict[str, list[Asked]], tmp_path: Path
) -> None:
    keys, _ = CHECKS[name]
    try:
        found = run(keys, asked[name], TABLES[table](), tmp_path)
    except AssaymarkError:  # one sentence, and exit 2
        assert table != "plain"
        return
    assert lost(asked[name], found, keys) == []


@given(
    n=st.integers(1, 12),
    seed=st.integers(0, 2**16),
    constant=st.sets(st.sampled_from(["y", "p", "s", "w", "x", "q", "sex", "race", "old"])),
    name=st.sampled_from(["columns", "apart", "multiclass", "regression", "ranking"]),
)
@settings(max_examples=25, derandomize=True)
def test_every_gate_is_answered_of_any_small_table(
    n: int,
    seed: int,
    constant: set[str],
    name: str,
    asked: dict[str, list[Asked]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    table = rows(n, seed)
    table = table.assign(**{column: table[column][0] for column in constant})
    keys, _ = CHECKS[name]
    try:
        found = run(keys, asked[name], table, tmp_path_factory.mktemp("t"))
    except AssaymarkError:
        return
    assert lost(asked[name], found, keys) == []
    assert not any(one.verdict is Verdict.PASS and one.value is None for one in found)


@pytest.mark.parametrize("metric", BINARY)
def test_what_is_not_wanted_is_not_measured(metric: str) -> None:
    """As of an image classifier, which has no features, no accepted run, and here no score."""
    n = 40
    random = numpy.random.default_rng(0)
    codes = random.integers(0, 2, n).astype(numpy.int32)
    data = Predictions(
        name="t",
        groups={"sex": Column(name="sex", names=("f", "m"), codes=codes)},
        note="by hand",
        label=random.random(n) < 0.5,
        prediction=random.random(n) < 0.5,
        score=None,
    )
    limit = Limit(maximum=0.9)
    for attribute in (None, "sex", "race"):
        gate = Gate(metric=metric, limit=limit, attribute=attribute)
        held = [one for one in audit("c", data, gates=(gate,)).findings if one.limit == limit]
        assert held
        if attribute == "race":  # of which the table has no column
            assert {one.verdict for one in held} == {Verdict.NOT_MEASURED}
