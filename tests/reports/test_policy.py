"""Every mistake in a policy is found, placed and explained."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assaymark.reports.errors import InputError, PolicyError
from assaymark.reports.policy import KINDS, METRICS, Policy, json_schema, policy_files
from assaymark.reports.policy_file import parse
from assaymark.reports.positions import positions

GOOD = """\
seed = 3

[[check]]
id = "digits"
kind = "robustness"
model = "demo:digits"
data = "demo:digits"
attack = ["fgsm", { name = "pgd", steps = 10 }]
norm = "linf"
eps = "8/255"
gate = { metric = "robust_accuracy", min = 0.4, on = "lower" }
tags = ["ML01"]

[[check]]
id = "groups"
kind = "bias.table"
data = "demo:diabetes"
label = "progressed"
prediction = "predicted"
sensitive = "sex"
gate = [{ metric = "accuracy", min = 0.5 }, { metric = "equalized_odds_difference", max = 0.3 }]

[[check]]
id = "media"
kind = "provenance"
files = ["*.jpg"]

[[waiver]]
check = "digits"
reason = "retraining"
owner = "a@example.com"
expires = 2027-01-31
"""


def test_a_good_policy() -> None:
    policy = parse(GOOD)
    digits, groups, _media = policy.check
    assert digits.kind == "robustness"
    assert digits.eps == 8 / 255
    assert [(attack.name, attack.options) for attack in digits.attack] == [
        ("fgsm", {}),
        ("pgd", {"steps": 10}),
    ]
    assert groups.kind == "bias.table"
    assert groups.sensitive == ("sex",)
    assert [gate.metric for gate in groups.gates] == ["accuracy", "equalized_odds_difference"]
    assert policy.seed == 3


# what is changed in the good policy -> where the error stands and what it says
MISTAKES = [
    ('eps = "8/255"', 'epss = "8/255"', '10:1: unknown key "epss": did you mean "eps"?'),
    ('eps = "8/255"', "", '3:1: missing key "eps"'),
    ('eps = "8/255"', 'eps = "8/0"', '10:7: expected a number or a fraction such as "8/255"'),
    ('eps = "8/255"', "eps = true", "10:7: expected a number or a fraction"),
    ('eps = "8/255"', "eps = -1", "10:7: eps = -1: input should be greater than 0"),
    ('eps = "8/255"', "eps = 8", 'write eps = "8/255" for 8-bit units'),
    ('eps = "8/255"', "eps = nan", "10:7: eps"),
    ('eps = "8/255"', 'eps = "1e999999999"', "expected a number or a fraction"),
    ('eps = "8/255"', f"eps = {10**400}", "expected a number or a fraction"),
    (
        "max = 0.3",
        "max = 30",
        "lies between 0 and 1, so max = 30 decides nothing: did you mean 0.3?",
    ),
    ("min = 0.4", "min = 0.0", "so min = 0 decides nothing"),
    (
        'min = 0.4, on = "lower"',
        "max = 0.4",
        "robust_accuracy is good when high: write min",
    ),
    ("max = 0.3", "min = 0.3", "equalized_odds_difference is good when low: write max"),
    ("[[waiver]]", "[[waivers]]", '28:1: unknown key "waivers": did you mean "waiver"?'),
    ("[[waiver]]", "[waiver]", "28:1: waiver = {'check': 'digits'"),
    ('tags = ["ML01"]', 'tags = "ML01"', "12:8: tags = 'ML01': expected a list"),
    (
        'prediction = "predicted"',
        'prediction = "p"\npositive = [1]',
        "expected one value such as 1",
    ),
    (
        'norm = "linf"',
        'norm = "linf"\nclasses = ["a", "b", "a"]',
        "classes names 'a' twice",
    ),
    ('norm = "linf"', 'norm = "lint"', "9:8: norm = 'lint' is not known: did you mean \"linf\"?"),
    ('norm = "linf"', "norm = 2", "9:8: norm = 2 is not known"),
    ('kind = "robustness"', 'kind = "robust"', '5:8: unknown kind "robust": did you mean'),
    ('kind = "robustness"', "", '3:1: missing key "kind"'),
    (
        "robust_accuracy",
        "robust_acuracy",
        '11:19: unknown metric "robust_acuracy" of a robustness check: did you mean "robust_accuracy"?',
    ),
    ("min = 0.4, ", "", "11:8: a gate has either min or max"),
    ("min = 0.4", "min = 0.4, max = 0.5", "11:8: a gate has either min or max"),
    ('on = "lower"', 'on = "upper"', "would pass by luck on few samples"),
    ('on = "lower"', 'on = "low"', "11:54: on = 'low' is not known: did you mean \"lower\"?"),
    ('sensitive = "sex"', 'sensitive = "sex"\nintersections = true', "there is only sex"),
    (
        'files = ["*.jpg"]',
        'files = ["*.jpg"]\ngate = { metric = "intact_files", min = 1, on = "lower" }',
        "intact_files comes without an interval",
    ),
    ("min = 0.4", "min = 0.4, confidence = 95", "11:62: confidence = 95"),
    ("seed = 3", "seed = 3.5", "1:8: seed = 3.5: input should be a valid integer"),
    ("seed = 3", "sed = 3", '1:1: unknown key "sed": did you mean "seed"?'),
    ("seed = 3", "schema = 2", "1:10: schema = 2 is not known"),
    ('id = "groups"', 'id = "digits"', '15:6: id "digits" is taken by check 1'),
    ('id = "groups"', 'id = "a b"', "15:6: id = 'a b' must match"),
    ('prediction = "predicted"', "", "name the column of predictions, or of scores"),
    ('sensitive = "sex"', "sensitive = []", "sensitive = []"),
    (
        '"accuracy", min = 0.5',
        '"accuracy", min = 0.5, attribute = "race"',
        'gate.attribute = "race" is not in sensitive',
    ),
    *(
        (
            'sensitive = "sex"',
            f'sensitive = "sex"\ntask = "{task}"\n{key}',
            f'{key.split()[0]} belongs to task = {tasks}, this is task = "{task}"',
        )
        for task, key, tasks in (
            ("multiclass", 'score = "s"', '"binary", "ranking"'),
            ("multiclass", 'rates = "r.csv"', '"binary"'),
            ("multiclass", "threshold = 0.7", '"binary"'),
            ("regression", 'missing = "apart"', '"binary"'),
        )
    ),
    (
        'sensitive = "sex"',
        'sensitive = "sex"\nneighbors = 5\nfeatures = ["age", "progressed"]',
        'features names the label "progressed"',
    ),
    *(
        (
            'sensitive = "sex"',
            f'sensitive = "sex"\nbands = {{ sex = {bands} }}',
            "expected 1 to 49 edges such as [30, 45, 60], or how many bands, 2 to 50",
        )
        for bands in ("1", "51", "[]", "[nan]", '["a"]', "true", '"q4"', "2.5")
    ),
    (
        'prediction = "predicted"\nsensitive = "sex"\ngate = [{ metric = "accuracy", min = 0.5 }',
        'model = "a:b"\nsensitive = ["sex", "age"]\ncounterfactual = "sex"\n'
        'gate = [{ metric = "counterfactual_flip_rate", max = 0.5, attribute = "age" }',
        'counterfactual_flip_rate is measured of sex, and gate.attribute = "age"',
    ),
    ('files = ["*.jpg"]', "files = [1]", "26:10: "),
    ('check = "digits"', 'check = "digit"', '29:9: no check has the id "digit": did you mean'),
    ('owner = "a@example.com"', "", '28:1: missing key "owner"'),
    ('owner = "a@example.com"', 'owner = ""', "31:9: owner = ''"),
    ("expires = 2027-01-31", "", '28:1: missing key "expires"'),
    ("expires = 2027-01-31", 'expires = "soon"', "32:11: expires = 'soon'"),
    ('check = "digits"', 'check = "digits"\nmetric = "accuracy"', 'has no gate on "accuracy"'),
    ('tags = ["ML01"]', "baseline = { max_drop = 0.02 }", "no accepted report is named"),
    ('attack = ["fgsm"', 'attack = [{ steps = 3 }, "fgsm"', '8:11: missing key "name"'),
    ('attack = ["fgsm", { name = "pgd", steps = 10 }]', "attack = []", "8:10: attack = []"),
    ("seed = 3", "seed = ", "1:8: not valid TOML: Invalid value"),
    ("seed = 3", "seed = 3\nseed = 4", "not valid TOML: Cannot overwrite a value"),
]


@pytest.mark.parametrize(
    ("good", "bad", "expected"), MISTAKES, ids=[f"{good} -> {bad}" for good, bad, _ in MISTAKES]
)
def test_a_mistake_is_placed_and_explained(good: str, bad: str, expected: str) -> None:
    assert good in GOOD
    with pytest.raises(PolicyError) as caught:
        parse(GOOD.replace(good, bad, 1))
    message = str(caught.value)
    assert expected in message
    place, excerpt, caret = message.splitlines()[:3]
    line = int(re.match(r"assaymark.toml:(\d+):\d+: ", place)[1])  # type: ignore[index]
    source = GOOD.replace(good, bad, 1).splitlines()
    assert excerpt == f"  {line} | {source[line - 1]}"
    assert set(caret.split("|")[1].strip()) == {"^"}


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        parse(GOOD.replace('norm = "linf"', 'norm = "x"').replace('owner = "a@example.com"', ""))
    assert len(caught.value.mistakes) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no [[check]]: an empty policy never passes"),
        ("seed = 1\n", "no [[check]]"),
        ('[[check]]\nid = "a"\nkind = "provenance"\nfiles = "x"\n', "no check has a gate"),
    ],
)
def test_a_policy_that_could_not_fail_is_refused(text: str, expected: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(expected)):
        parse(text)


def test_a_bottomless_policy_is_refused() -> None:
    with pytest.raises(PolicyError, match="not valid TOML"):
        parse("seed = " + "[" * 5000)


def test_missing_files_are_named_with_their_place(tmp_path: Path) -> None:
    text = GOOD.replace('"demo:digits"', '"models/a.onnx"', 1)
    with pytest.raises(PolicyError, match=r'6:9: no such model: "models/a.onnx"'):
        parse(text, folder=tmp_path)
    text = GOOD.replace('files = ["*.jpg"]', 'files = "*.jpg"\ntrust_anchors = "root.pem"')
    with pytest.raises(PolicyError, match=r'27:17: no such trust anchor file: "root.pem"'):
        parse(text, folder=tmp_path)


def test_a_policy_in_pyproject(tmp_path: Path) -> None:
    inner = GOOD.replace("[[check]]", "[[tool.assaymark.check]]")
    inner = inner.replace("[[waiver]]", "[[tool.assaymark.waiver]]")
    text = f'[project]\nname = "x"\n\n[tool.assaymark]\n{inner}'
    assert len(parse(text, "pyproject.toml").check) == 3
    with pytest.raises(PolicyError, match=r"pyproject.toml:13:8: norm = 'l7' is not known"):
        parse(text.replace('"linf"', '"l7"'), "pyproject.toml")
    with pytest.raises(InputError, match=r"no \[tool.assaymark\]"):
        parse('[project]\nname = "x"\n', "pyproject.toml")
    assert policy_files(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text(text)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert policy_files(below) == tmp_path / "pyproject.toml"
    (tmp_path / "a" / "assaymark.toml").write_text(GOOD)
    assert policy_files(below) == tmp_path / "a" / "assaymark.toml"


def test_an_expired_waiver_does_not_count() -> None:
    policy = parse(GOOD)
    assert policy.waiver_for("digits", "robust_accuracy", date(2027, 1, 31)) is not None
    assert policy.waiver_for("digits", "robust_accuracy", date(2027, 2, 1)) is None
    assert policy.waiver_for("groups", "accuracy", date(2026, 1, 1)) is None


def test_the_schema_for_editors_knows_every_key() -> None:
    import jsonschema

    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = tomllib.loads(GOOD)
    document["waiver"][0]["expires"] = "2027-01-31"  # JSON has no dates
    jsonschema.validate(document, schema)
    document["check"][0]["epss"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
    assert set(Policy.model_fields) >= {"check", "waiver", "seed"}
    assert set(METRICS) == set(KINDS)


keys = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


scalars = st.one_of(
    texts.map(quoted),
    st.from_regex(r"[a-z #\[\]{},=.\"]{0,8}", fullmatch=True).map(lambda text: f"'{text}'"),
    st.just('"""a\n# "no" [comment] = 1\nb"""'),
    st.integers(-999, 999).map(str),
    st.sampled_from(["true", "1.5e3", "2027-01-31", "2027-01-31 07:32:00", "0x1F", "inf"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[ {' , '.join(items)} ]"),
        st.lists(inner, max_size=3).map(
            lambda items: "[\n" + "".join(f"  {item}, # x ] }}\n" for item in items) + "]"
        ),
        st.dictionaries(keys, inner, max_size=3).map(
            lambda items: "{ " + ", ".join(f"{k} = {v}" for k, v in items.items()) + " }"
        ),
    ),
    max_leaves=6,
)
tables = st.dictionaries(keys, values, max_size=4)


@given(tables, st.lists(tables, max_size=3))
def test_positions_agree_with_tomllib(top: dict[str, str], items: list[dict[str, str]]) -> None:
    top.pop("item", None)
    lines = [f"{key}  =  {value}  # note" for key, value in top.items()]
    for item in items:
        lines += ["", "[[ item ]] # note", *(f"{key} = {value}" for key, value in item.items())]
    text = "\n".join(lines)
    document = tomllib.loads(text)
    spans = positions(text)
    rows = text.split("\n")

    def check(node: object, path: tuple[str | int, ...]) -> None:
        if path:
            (line, column, length), _ = spans[path]
            shown = rows[line - 1][column - 1 : column - 1 + length]
            if isinstance(path[-1], str):
                assert shown.strip("\"'") == path[-1]
        if isinstance(node, dict):
            for key, value in node.items():
                check(value, (*path, key))
        elif isinstance(node, list):
            for i, value in enumerate(node):
                check(value, (*path, i))

    check({key: value for key, value in document.items() if key != "item"}, ())
    for i, item in enumerate(document.get("item", [])):
        check(item, ("item", i))


def test_an_item_of_a_list_is_named_by_its_key() -> None:
    text = """
[[check]]
id = "c"
kind = "corruption"
model = "demo:digits"
data = "demo:digits"
severities = [1, 9]
gate = { metric = "corruption_accuracy", min = 0.5 }
"""
    with pytest.raises(PolicyError, match=r"severities\[1\] = 9: input should be less"):
        parse(text)
