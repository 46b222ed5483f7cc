"""Descriptions of mitigated models: what they decide, and every way one can be wrong."""

import json
import struct
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.bias.draws import lots
from assaymark.bias.mitigated import Mitigated, load, save
from assaymark.reports.errors import InputError

WORD = 2**64


def by_hand(values: list[Any], seed: int) -> float:
    """The lot of a row as the description says it, in plain integers."""
    word = seed
    for value in values:
        try:
            number = float(value)
            exact = abs(number) < 2**53
        except (TypeError, ValueError):
            exact = False
        if exact:
            (bits,) = struct.unpack("<Q", struct.pack("<d", number + 0.0))
        else:
            text = "(missing)" if value is None else str(value)
            bits = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
        word = (word ^ bits) + 0x9E3779B97F4A7C15
        word = ((word % WORD) ^ (word % WORD >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
        word ^= word >> 31
    return (word >> 11) / 2**53


VALUE = (
    st.none()
    | st.sampled_from(["a", "b", "", "1", "01", "-0.0", "é", "x1", "9007199254740993"])
    | st.integers(-9, 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=8), st.integers(0, 2**63 - 1))
def test_lots_are_as_described(cells: list[tuple[Any, Any]], seed: int) -> None:
    frame = pandas.DataFrame({"a": [a for a, _ in cells], "b": [b for _, b in cells]}, dtype=object)
    assert lots(frame, ["a", "b"], seed).tolist() == [by_hand(list(row), seed) for row in cells]


@pytest.mark.parametrize("values", [range(50_000), [f"id {n}" for n in range(50_000)]])
def test_lots_are_uniform_and_of_their_seed(values: Any) -> None:
    frame = pandas.DataFrame({"id": list(values)})
    one, other = lots(frame, ["id"], 0), lots(frame, ["id"], 1)
    for drawn in (one, other):
        steps = numpy.arange(1, 50_001) / 50_000
        assert numpy.abs(numpy.sort(drawn) - steps).max() < 1.95 / 50_000**0.5  # p = 0.001
    assert abs(numpy.corrcoef(one, other)[0, 1]) < 0.02


def test_a_row_draws_the_same_lot_in_any_company_and_type() -> None:
    frame = pandas.DataFrame({"id": [5, 6, 7], "name": ["x", "y", None]})
    drawn = lots(frame, ["id", "name"], 9)
    assert (lots(frame.iloc[::-1], ["id", "name"], 9) == drawn[::-1]).all()
    for other in (float, str, "Int64", "category"):
        assert (lots(frame.astype({"id": other}), ["id", "name"], 9) == drawn).all()


def description(**changes: Any) -> dict[str, Any]:
    """Thresholds 0.25 and 0.5 for group a, half of each; group b never."""
    return {
        "format": "assaymark.mitigated",
        "version": 1,
        "method": "threshold-optimizer",
        "constraint": "demographic_parity",
        "attribute": "group",
        "positive": "1",
        "columns": ["group", "p", "id"],
        "rule": {
            "kind": "thresholds",
            "group_columns": ["group"],
            "score_column": "p",
            "groups": [
                {
                    "group": "a",
                    "always": 0.0,
                    "steps": [{"above": 0.25, "adds": 0.5}, {"above": 0.5, "adds": 0.5}],
                },
                {"group": "b", "always": 0.0, "steps": []},
            ],
        },
        "draw": {"seed": 0, "columns": ["id"]},
        "made": {
            "by": "assaymark",
            "libraries": {},
            "seed": 0,
            "fitted_on": 4,
            "measured_on": 4,
            "fitted_sha256": "0" * 64,
            "note": "",
        },
        "audit": [],
    } | changes


LINEAR = {
    "kind": "linear",
    "encoders": [
        {"kind": "number", "name": "x", "fill": 2.0, "mean": 1.0, "scale": 2.0},
        {"kind": "category", "name": "c", "categories": ["(missing)", "u", "v"]},
    ],
    "members": [{"weight": 1.0, "intercept": -0.5, "coefficients": [1.0, 9.0, 0.0, 1.0]}],
}
OF_LINEAR = {"rule": LINEAR, "draw": None, "columns": ["x", "c"]}


def read(folder: Path, found: Any) -> Mitigated:
    path = folder / "x.mitigated.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    return load(path)


def test_thresholds_decide_as_described(tmp_path: Path) -> None:
    found = read(tmp_path, description())
    n = 20_000
    frame = pandas.DataFrame({"group": "a", "p": [0.2, 0.25, 0.3, 0.6] * (n // 4), "id": range(n)})
    assert found.chances(frame)[:4].tolist() == [0, 0, 0.5, 1]
    assert (found.predict_proba(frame) == found.chances(frame)).all()
    decided = found.predict(frame).reshape(-1, 4).mean(axis=0)
    assert decided[[0, 1, 3]].tolist() == [0, 0, 1]
    assert decided[2] == pytest.approx(0.5, abs=4 * 0.5 / (n / 4) ** 0.5)
    assert not found.predict(frame.assign(group="b")).any()
    assert found.alike(frame) == 0
    assert found.alike(frame.assign(id=1)) == n - 1
    assert found.predict(frame[:0]).tolist() == []


def test_a_linear_rule_decides_as_described(tmp_path: Path) -> None:
    found = read(tmp_path, description(**OF_LINEAR))
    frame = pandas.DataFrame(
        {"x": ["1", "", "3", "1", 2.1], "c": ["u", "u", "never seen", "v", None]}
    )
    sums = numpy.array([-0.5, 0, 0.5, 0.5, 9.05])
    assert found.predict_proba(frame) == pytest.approx(1 / (1 + numpy.exp(-sums)))
    assert found.predict(frame).tolist() == [False, False, True, True, True]
    assert found.alike(frame) == 0


def test_a_mixture_decides_as_described(tmp_path: Path) -> None:
    members = [
        {"weight": 0.25, "intercept": -1.0, "coefficients": [0.0] * 4},
        {"weight": 0.75, "intercept": 0.0, "coefficients": [1.0, 0, 0, 0]},
    ]
    rule = LINEAR | {"kind": "mixture", "members": members}
    draw = {"seed": 3, "columns": ["x"]}
    found = read(tmp_path, description(rule=rule, draw=draw, columns=["x", "c"]))
    frame = pandas.DataFrame({"x": numpy.linspace(-1, 1 + 1e-6, 9999), "c": "u"})
    assert found.chances(frame)[[0, -1]].tolist() == [0, 0.75]
    assert not found.predict(frame)[:-1].any()
    frame["x"] = numpy.linspace(2, 3, 9999)
    assert found.predict(frame).mean() == pytest.approx(0.75, abs=0.02)


def test_an_intersection_is_read_from_its_columns(tmp_path: Path) -> None:
    rule = description()["rule"] | {"group_columns": ["sex", "race"]}
    rule["groups"][0]["group"] = "f × x"
    found = read(tmp_path, description(rule=rule, columns=["sex", "race", "p", "id"]))
    frame = pandas.DataFrame({"sex": ["f"], "race": ["x"], "p": [0.9], "id": [1]})
    assert found.predict(frame).tolist() == [True]
    with pytest.raises(InputError, match=r"the group 'f × y' in sex × race"):
        found.predict(frame.assign(race="y"))


def test_whole_numbers_name_a_group_however_written(tmp_path: Path) -> None:
    rule = description()["rule"]
    rule["groups"][0]["group"], rule["groups"][1]["group"] = "1", "2.0"
    found = read(tmp_path, description(rule=rule))
    for values in ([1, 2], [1.0, 2.0], ["1", "2"], ["1.0", "2.0"]):
        frame = pandas.DataFrame({"group": values, "p": 0.9, "id": 0})
        assert found.predict(frame).tolist() == [True, False]


GOOD = pandas.DataFrame({"group": ["a", "b"], "p": [0.9, 0.9], "id": [1, 2]})


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (GOOD.assign(group=["a", "c"]), r"row 2 has the group 'c' in group.*known are a, b"),
        (GOOD.assign(group=pandas.Series(["a", None])), r"row 2 has the group '(None|nan)'"),
        (GOOD.drop(columns="p"), r'no column "p"'),
        (GOOD.drop(columns="id"), r'no column "id"'),
        (GOOD.assign(p=["0.9", "high"]), r"has 'high' in row 2: expected a number"),
        (GOOD.assign(p=[0.9, numpy.nan]), r'column "p" has no value in row 2'),
        (GOOD.assign(p=[0.9, numpy.inf]), r"has 'inf' in row 2"),
        (pandas.concat([GOOD, GOOD[["p"]]], axis=1), r'2 columns called "p"'),
    ],
)
def test_a_table_that_cannot_be_decided_about(
    tmp_path: Path, frame: pandas.DataFrame, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, description()).predict(frame)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for found in (description(), description(**OF_LINEAR)):
        one = read(tmp_path, found)
        save(one, tmp_path / "y.mitigated.json")
        assert load(tmp_path / "y.mitigated.json") == one
        assert json.loads((tmp_path / "y.mitigated.json").read_text()) == found


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "another format": (lambda d: d.update(format="x"), "format"),
    "another version": (lambda d: d.update(version=2), "version"),
    "no rule": (lambda d: d.pop("rule"), "rule: Field required"),
    "an unknown key": (lambda d: d.update(code="rm"), "code: Extra inputs"),
    "another kind": (lambda d: d["rule"].update(kind="pickle"), "rule"),
    "no lots": (lambda d: d.update(draw=None), "says not how lots are drawn"),
    "wrong columns": (lambda d: d.update(columns=["p"]), "columns must be those"),
    "a negative seed": (lambda d: d["draw"].update(seed=-1), "draw.seed"),
    "a seed as text": (lambda d: d["draw"].update(seed="0"), "draw.seed"),
    "a text for a number": (
        lambda d: d["rule"]["groups"][0]["steps"][0].update(above="0.2"),
        "above",
    ),
    "a truth for a number": (
        lambda d: d["rule"]["groups"][0]["steps"][0].update(above=True),
        "above",
    ),
    "a chance above 1": (lambda d: d["rule"]["groups"][0].update(always=1.5), "always"),
    "chances above 1": (lambda d: d["rule"]["groups"][0].update(always=0.5), "more than 1"),
    "a group twice": (lambda d: d["rule"]["groups"][1].update(group="a"), "named twice"),
    "no group": (lambda d: d["rule"].update(groups=[]), "groups"),
    "many steps": (
        lambda d: d["rule"]["groups"][0].update(steps=[{"above": 0, "adds": 0}] * 11),
        "steps",
    ),
    "a digest that is none": (lambda d: d["made"].update(fitted_sha256="0" * 63), "fitted_sha256"),
}
WRONG_LINEAR: dict[str, tuple[Change, str]] = {
    "few coefficients": (
        lambda d: d["rule"]["members"][0]["coefficients"].pop(),
        "3 coefficients for 4 encoded columns",
    ),
    "weights": (lambda d: d["rule"]["members"][0].update(weight=0.5), "do not add up to 1"),
    "no scale": (lambda d: d["rule"]["encoders"][0].update(scale=0), "scale"),
    "a category twice": (
        lambda d: d["rule"]["encoders"][1].update(categories=["u", "u", "v"]),
        "named twice",
    ),
    "a column twice": (lambda d: d["rule"]["encoders"][1].update(name="x"), "encoded twice"),
    "a mixture of one": (lambda d: d["rule"].update(kind="mixture"), "mixture rule of 1 members"),
    "no member": (lambda d: d["rule"].update(members=[]), "members"),
}


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [({}, *each) for each in WRONG.values()]
    + [(OF_LINEAR, *each) for each in WRONG_LINEAR.values()],
    ids=[*WRONG, *WRONG_LINEAR],
)
def test_a_description_that_is_wrong(
    tmp_path: Path, base: dict[str, Any], change: Change, words: str
) -> None:
    found = json.loads(json.dumps(description(**base)))
    change(found)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, found)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


WHOLE = json.dumps(description())
TEXTS = {
    "nothing": "",
    "not JSON": "PK\x03\x04",
    "a list": "[]",
    "half": WHOLE[: len(WHOLE) // 2],
    "NaN": WHOLE.replace("0.25", "NaN"),
    "infinite": WHOLE.replace("0.25", "1e999"),
    "-Infinity": WHOLE.replace("0.25", "-Infinity"),
    "deep": "[" * 100_000,
    "a huge number": WHOLE.replace('"fitted_on": 4', '"fitted_on": ' + "9" * 5000),
    "too large": " " * (32 * 2**20) + WHOLE,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert len(str(caught.value)) < 900


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="cannot read"):
            load(path)


def test_numbers_too_large_to_add_are_no_decision(tmp_path: Path) -> None:
    found = json.loads(json.dumps(description(**OF_LINEAR)))
    found["rule"]["members"][0]["coefficients"] = [1e308] * 4
    one = read(tmp_path, found)
    with pytest.raises(InputError, match="too large"):
        one.predict(pandas.DataFrame({"x": [1e10], "c": ["u"]}))


@settings(max_examples=60)
@given(st.integers(0, len(WHOLE) - 1), st.sampled_from('{}[]",:0x-9eN \u0000'))
def test_one_wrong_letter_is_read_whole_or_refused(place: int, letter: str) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        try:
            found = read(Path(folder), WHOLE[:place] + letter + WHOLE[place + 1 :])
            chances = found.chances(GOOD.rename(columns={"p": found.rule.columns[-1]}))
        except InputError:
            return
    assert ((chances >= 0) & (chances <= 1)).all()
