"""The tournament check: what its findings say, what gates make of missing games, and its files."""

from pathlib import Path
from typing import Any

import linear
import pytest
from test_tournament import Fragile, linears, loaded
from torch import Tensor, nn

from assaymark.reports.errors import InputError, PolicyError
from assaymark.reports.model import (
    CheckResult,
    Estimates,
    Finding,
    Gate,
    HeatMap,
    ImageTrio,
    Limit,
    Table,
    Verdict,
)
from assaymark.reports.policy_file import parse
from assaymark.robustness.images import ImageData
from assaymark.robustness.tournament import Named, Rules
from assaymark.robustness.tournament_check import check_tournament

EPS = 0.003
ATTACKS: tuple[Named, ...] = (("fgsm", {}), ("square", {"queries": 20}))


def data(n: int = 40) -> ImageData:
    x, y = linear.points(n)
    return ImageData(name="points", images=x, labels=y, classes=None)


def checked(defenses: list[Any] | None = None, **more: Any) -> CheckResult:
    rules = Rules(eps=more.pop("eps", EPS), attacks=ATTACKS, targeted=more.pop("targeted", ()))
    given = linears(4)[:1] if defenses is None else defenses
    return check_tournament("t", given, more.pop("data", data()), rules, **more)


def found(result: CheckResult, measure: str, target: str = "linear 0") -> Finding:
    (finding,) = [f for f in result.findings if (f.measure, f.target) == (measure, target)]
    return finding


def gate(metric: str = "worst_case_accuracy", **more: Any) -> Gate:
    on = more.pop("on", "estimate")
    return Gate(metric=metric, limit=Limit(minimum=more.pop("minimum", 0.1), on=on), **more)


def test_findings_say_what_closed_forms_say() -> None:
    x, y = linear.points(40)
    result = checked()
    distance = linear.distances(x, y, "linf").amin(1)
    worst, mean = found(result, "worst_case_accuracy"), found(result, "mean_accuracy")
    exact = int((distance > EPS).sum())
    heat = result.findings[0].evidence[0]
    assert isinstance(heat, HeatMap)
    cells = [round(40 * (row.cells[0].value or 0)) for row in heat.rows[1:3]]
    assert worst.value is not None
    assert mean.value is not None
    assert exact <= round(worst.value * 40) <= min(cells)
    assert mean.value == pytest.approx(sum(cells) / 80)
    assert mean.value > worst.value
    assert found(result, "clean_accuracy").value == 1.0
    assert worst.interval is not None
    assert worst.interval.method == "Clopper–Pearson"
    assert result.method.title == "Tournament, attacks × defenses: 2 × 1"


def test_evidence_has_the_matrices_the_rankings_and_pictures() -> None:
    defenses = linears(4)
    result = checked(defenses, targeted=(("fgsm", {}),))
    evidence = result.findings[0].evidence
    maps = [item for item in evidence if isinstance(item, HeatMap)]
    assert [item.title for item in maps] == [
        "Accuracy under attacks",
        "Accuracy under targeted attacks",
        "Taken to the target class",
    ]
    assert [row.label for row in maps[0].rows] == [
        "no attack", "fgsm", "square", "mean of all attacks", "worst case: all attacks at once",
    ]  # fmt: skip
    for measure, row in zip(
        ("mean_accuracy", "worst_case_accuracy"), maps[0].rows[3:], strict=True
    ):
        for cell in row.cells:
            finding = found(result, measure, cell.label)
            assert finding.value == pytest.approx(cell.value)
            assert finding.interval is not None
            assert (cell.low, cell.high) == (finding.interval.low, finding.interval.high)
    (chart,) = [item for item in evidence if isinstance(item, Estimates)]
    assert len(chart.estimates) == 6
    titles = [item.title for item in evidence if isinstance(item, Table)]
    assert titles == [
        "Defenses by their worst case",
        "Defenses by their score",
        "Attacks by their score",
        "Targeted attacks by their score",
        "Signs of a hidden gradient",
    ]
    assert sum(isinstance(item, ImageTrio) for item in evidence) >= 3
    assert all(not finding.evidence for finding in result.findings[1:])


def test_gates_apply_to_every_defense_or_to_the_one_they_name() -> None:
    defenses = linears(4)[:2]
    first, second = gate(minimum=0.01), gate(minimum=0.99, defense="linear 3")
    result = checked(defenses, gates=(first, second, gate("mean_accuracy", minimum=0.01)))
    gated = [(f.target, f.measure, str(f.limit)) for f in result.findings if f.limit]
    assert sorted(gated) == [
        ("linear 0", "mean_accuracy", "≥ 0.01"),
        ("linear 0", "worst_case_accuracy", "≥ 0.01"),
        ("linear 3", "mean_accuracy", "≥ 0.01"),
        ("linear 3", "worst_case_accuracy", "≥ 0.01"),
        ("linear 3", "worst_case_accuracy", "≥ 0.99"),
    ]
    (worst,) = [f for f in result.findings if str(f.limit) == "≥ 0.99"]
    assert worst.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("eps", "limit", "verdict"),
    [
        (EPS, {"minimum": 0.01}, Verdict.NOT_MEASURED),
        (EPS, {"minimum": 0.01, "on": "lower"}, Verdict.NOT_MEASURED),
        # what was measured breaks the limit already
        (0.02, {"minimum": 0.9}, Verdict.FAIL),
        (0.02, {"minimum": 0.9, "on": "lower"}, Verdict.FAIL),
    ],
)
def test_a_missing_game_never_lets_a_gate_hold(
    eps: float, limit: dict[str, Any], verdict: Verdict
) -> None:
    fragile = loaded("fragile", Fragile())
    result = checked([*linears(4)[:1], fragile], eps=eps, gates=(gate(**limit),))
    finding = found(result, "worst_case_accuracy", "fragile")
    assert finding.verdict is verdict
    assert finding.summary.startswith("Between 0 and ")
    assert (finding.value is None) == (verdict is Verdict.NOT_MEASURED)
    assert found(result, "mean_accuracy", "fragile").value is None
    assert any("fgsm against fragile: RuntimeError" in item for item in result.method.not_tested)
    (missing,) = [
        item
        for item in result.findings[0].evidence
        if isinstance(item, Table) and item.title == "Not measured"
    ]
    assert missing.rows == (("fgsm", "fragile", 40, "RuntimeError: no gradient for you"),)
    heat = result.findings[0].evidence[0]
    assert isinstance(heat, HeatMap)
    assert [row.cells[1].value is None for row in heat.rows] == [False, True, False, True, True]


class Softmax(nn.Module):
    """Probabilities in the place of logits, which flattens the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear.model()

    def forward(self, x: Tensor) -> Tensor:
        probabilities: Tensor = (1000 * self.network(x)).softmax(1)
        return probabilities


def test_a_hidden_gradient_makes_a_good_number_inconclusive_for_that_defense_only() -> None:
    defenses = [*linears(4)[:1], loaded("softmax", Softmax())]
    result = checked(defenses, eps=0.0015, gates=(gate(minimum=0.01),))
    assert found(result, "worst_case_accuracy").verdict is Verdict.PASS
    doubtful = found(result, "worst_case_accuracy", "softmax")
    assert doubtful.verdict is Verdict.INCONCLUSIVE
    assert "hidden gradient" in doubtful.summary
    assert found(result, "clean_accuracy", "softmax").unreliable is None
    # the logarithm of the probabilities was attacked, so that some fell all the same
    assert doubtful.value is not None
    assert doubtful.value < 0.9


def test_what_could_not_be_examined_is_not_taken_for_sound() -> None:
    rules = Rules(eps=EPS, attacks=ATTACKS[1:])
    fragile = [loaded("fragile", Fragile())]
    result = check_tournament("t", fragile, data(), rules, gates=(gate(minimum=0.01),))
    finding = found(result, "worst_case_accuracy", "fragile")
    assert (finding.value or 0) > 0.01
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "could not be examined" in finding.summary


def test_the_matrices_are_written_as_the_toolkit_writes_them(tmp_path: Path) -> None:
    fragile = loaded("fragile", Fragile())
    checked(
        [*linears(4)[:1], fragile],
        targeted=(("square", {"queries": 20}),),
        matrices=tmp_path / "csv",
    )
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "csv").iterdir()}
    assert sorted(files) == [
        "accuracy_on_attacks.csv",
        "accuracy_on_targeted_attacks.csv",
        "attack_ranking.csv",
        "defense_ranking.csv",
        "hit_target_class.csv",
        "targeted_attack_ranking.csv",
        "worst_case_ranking.csv",
    ]
    head, fgsm, square = (line.split(",") for line in files["accuracy_on_attacks.csv"])
    assert head == ["", "linear 0", "fragile"]
    assert (fgsm[0], fgsm[2]) == ("fgsm", "")
    assert int(fgsm[1]) < 40
    assert (square[0], square[1]) == ("square", square[2])
    assert files["attack_ranking.csv"][0] == "AttackName,Score"
    assert files["attack_ranking.csv"][-1] == "fgsm,"
    assert files["defense_ranking.csv"][-1] == "fragile,"


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    seen: list[int] = []
    with pytest.raises(InputError, match="cannot write"):
        checked(matrices=tmp_path / "file", progress=lambda done, total: seen.append(done))
    assert not seen


@pytest.mark.parametrize("protocol", ["white-box", "nips17"])
def test_the_method_says_which_protocol_was_played_and_what_was_not(protocol: Any) -> None:
    defenses = linears(4)[:2]
    rules = Rules(eps=2.5 / 255, attacks=(("fgsm", {}),), protocol=protocol)
    surrogates = defenses[:1] if protocol == "nips17" else ()
    result = check_tournament("t", defenses, data(), rules, surrogates=surrogates, examples=10)
    steps, untested = " ".join(result.method.steps), " ".join(result.method.not_tested)
    assert f"Protocol {protocol}" in steps
    assert ("L∞ ≤ 2/255" if protocol == "nips17" else "L∞ ≤ 0.0098") in steps
    assert ("attackers who see the defense" in untested) == (protocol == "nips17")
    assert ("linear 0 is a surrogate and a defense itself" in steps) == (protocol == "nips17")
    for part in ("black-box", "targeted attacks", "30 of 40 images"):
        assert part in untested


def test_models_and_data_have_to_fit() -> None:
    x, y = linear.points(4)
    five = ImageData(name="points", images=x, labels=y, classes=tuple("abcde"))
    with pytest.raises(InputError, match="answers 4 classes, points has 5"):
        checked(data=five)


POLICY = """
[[check]]
id = "t"
kind = "tournament"
data = "demo:digits"
eps = 0.1
"""


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('defenses = []\nattack = "fgsm"', "defenses"),
        ('attack = "fgsm"', 'missing key "defenses"'),
        ('defenses = "demo:digits"', "needs attack, targeted, or both"),
        ('defenses = ["demo:digits", "demo:digits"]\nattack = "fgsm"', "takes part twice"),
        (
            'defenses = ["demo:digits", { name = "b", model = "demo:digits" }]\nattack = "fgsm"',
            '"demo:digits" and "b" are one defense',
        ),
        ('defenses = { modle = "x" }\nattack = "fgsm"', 'did you mean "model"?'),
        ('defenses = "none.onnx"\nattack = "fgsm"', 'no such defense: "none.onnx"'),
        ('defenses = "demo:digits"\nattack = "fgsm"\nsurrogates = "demo:digits"', "nips17"),
        ('defenses = "demo:digits"\nattack = "fgsm"\nprotocol = "nips17"', "with surrogates"),
        (
            'defenses = "demo:digits"\nattack = "fgsm"\nprotocol = "nips17"\nnorm = "l2"\n'
            'surrogates = "demo:digits"',
            "counts whole 8-bit steps",
        ),
        (
            'defenses = "demo:digits"\nattack = "fgsm"\nprotocol = "nips17"\nensemble = true\n'
            'surrogates = "demo:digits"',
            "several surrogates, and one is named",
        ),
        (
            'defenses = "demo:digits"\nattack = "fgsm"\n'
            'gate = { metric = "mean_accuracy", min = 0.5, defense = "other" }',
            "is not one of",
        ),
        (
            'defenses = "demo:digits"\nattack = "fgsm"\n'
            'gate = { metric = "robust_accuracy", min = 0.5 }',
            'unknown metric "robust_accuracy" of a tournament check',
        ),
    ],
)
def test_a_wrong_policy_is_explained(tmp_path: Path, keys: str, expected: str) -> None:
    with pytest.raises(PolicyError, match=r"assaymark\.toml:\d+:\d+") as caught:
        parse(f"{POLICY}{keys}\n", folder=tmp_path, needs_gate=False)
    assert expected in str(caught.value)


def test_only_a_tournament_has_gates_for_one_defense() -> None:
    text = POLICY.replace('"tournament"', '"corruption"') + 'model = "demo:digits"\n'
    gated = 'gate = { metric = "clean_accuracy", min = 0.5, defense = "demo:digits" }\n'
    with pytest.raises(PolicyError, match="belongs to a tournament"):
        parse(text.replace("eps = 0.1\n", "") + gated)


def test_a_name_in_a_matrix_is_no_formula(tmp_path: Path) -> None:
    hostile = loaded("=HYPERLINK(A1)", linear.model())
    checked([hostile], matrices=tmp_path)
    first = (tmp_path / "accuracy_on_attacks.csv").read_text().splitlines()[0]
    assert first == ",'=HYPERLINK(A1)"
