"""`assaymark bias`: each task, model and option as a user types it, and the exit code it ends in."""

import json
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from conftest import RunCli
from PIL import Image

from assaymark.cli.main import main

ROWS = 600
MODEL = """
def predict(frame):
    return ((frame["income"] > 50) & (frame["sex"] == "m")).astype(int)
"""


def people() -> pandas.DataFrame:
    """Who repays depends on income; who is granted also on sex."""
    random = numpy.random.default_rng(0)
    income, sex = random.normal(50, 15, ROWS), random.choice(["f", "m"], ROWS)
    p = 1 / (1 + numpy.exp(-(income - 50) / 8))
    repaid = (random.random(ROWS) < p).astype(int)
    return pandas.DataFrame(
        {
            "id": numpy.arange(ROWS),
            "sex": sex,
            "age": random.integers(18, 80, ROWS),
            "income": income.round(2),
            "repaid": repaid,
            "granted": (income + 6 * (sex == "m") > 52).astype(int),
            "before": (income > 50).astype(int),
            "p": p.round(4),
            "w": random.integers(1, 4, ROWS),
            "amount": (100 + 2 * income + random.normal(0, 10, ROWS)).round(2),
            "offered": (100 + 2 * income - 15 * (sex == "f")).round(2),
            "one": "x",
            "kind": random.choice(["x", "y", "z"], ROWS),
            "guess": random.choice(["x", "y", "z"], ROWS),
            "list": numpy.arange(ROWS) // 20,
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    people().to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "lender.py").write_text(MODEL)
    return tmp_path


BASE = "bias table t.csv --label repaid --sensitive sex"
ASKED = f"{BASE} --model lender:predict --features income,sex"
RANKED = "bias table t.csv --task ranking --label repaid --score p --query list --sensitive sex"
CASES: dict[str, tuple[str, int, str]] = {
    "gap": (f"{BASE} --prediction granted --max demographic_parity_difference=0.1", 1, "FAIL"),
    "weights": (
        f"{BASE} --prediction granted --weight w --min accuracy=0.5",
        0,
        "accuracy sex = f",
    ),
    "bands": (
        f"{BASE},age --prediction granted --bands age=30,60 --min selection_rate=0.1",
        0,
        "age = 30 to <60",
    ),
    "quarters": (
        f"{BASE},age --prediction granted --bands age=q4 --min selection_rate=0.1",
        0,
        "selection_rate age = ",
    ),
    "reference": (
        f"{BASE} --prediction granted --reference-group sex=m --min disparate_impact_ratio=0.9",
        1,
        "over that of m:",
    ),
    "scores": (f"{BASE} --score p --max auc_difference=0.2", 0, "auc_difference sex"),
    "calibration": (
        f"{BASE} --score p --max expected_calibration_error=0.02",
        3,
        "expected_calibration_error sex = f",
    ),
    "model": (
        f"{ASKED} --max demographic_parity_difference=0.3",
        1,
        "demographic_parity_difference",
    ),
    "flips": (
        f"{ASKED} --counterfactual sex --max counterfactual_flip_rate=0.1",
        1,
        "counterfactual_flip_rate sex",
    ),
    "neighbors": (
        f"{BASE} --prediction granted --features income,age --neighbors 5 --min consistency=0.5",
        0,
        "consistency",
    ),
    "slices": (
        f"{BASE} --prediction granted --slices sex,age,income --max confirmed_slices=20",
        0,
        "confirmed_slices",
    ),
    "law": (
        f"{BASE},kind --prediction granted --ll144 sex,kind --min impact_ratio=0.1",
        0,
        "impact_ratio sex × kind",
    ),
    "grown": (
        f"{BASE} --prediction granted --accepted-prediction before --max demographic_parity_growth=0.02",
        1,
        "demographic_parity_growth",
    ),
    "classes": (
        "bias table t.csv --task multiclass --label kind --prediction guess --sensitive sex "
        "--max accuracy_difference=0.3",
        0,
        "accuracy_difference sex",
    ),
    "regression": (
        "bias table t.csv --task regression --label amount --prediction offered --sensitive sex "
        "--max mean_residual_difference=5",
        1,
        "mean_residual_difference sex",
    ),
    "ranking": (f"{RANKED} --min exposure_ratio=0.5", 0, "exposure_ratio sex"),
    "one group": (
        "bias table t.csv --label repaid --prediction granted --sensitive one "
        "--max demographic_parity_difference=0.1",
        3,
        "two are needed",
    ),
    "label as group": (
        "bias table t.csv --label repaid --prediction granted --sensitive repaid "
        "--max demographic_parity_difference=0.9",
        3,
        "both the label and a sensitive column",
    ),
    "missing column": (
        f"{BASE} --prediction grantd --max auc_difference=0.1",
        2,
        "auc_difference is",
    ),
    "spelling": (
        f"{BASE} --prediction grantd --max equalized_odds_difference=1",
        2,
        "decides nothing",
    ),
    "metric": (f"{BASE} --prediction granted --max nothing=0.1", 2, 'unknown metric "nothing"'),
    "task": (f"{BASE} --prediction granted --task sorting", 2, "task"),
    "other task": (f"{RANKED} --max accuracy=0.1", 2, "accuracy"),
    "pair": (f"{BASE} --prediction granted --max auc", 2, "--max auc: expected NAME=VALUE"),
    "pickle": (f"{BASE} --model m.pkl", 2, "m.pkl"),
    "group": (f"{BASE} --prediction granted --reference-group sex=x", 3, "is no group of sex"),
    "format": (
        f"{BASE} --prediction granted --rates r.xlsx",
        3,
        "expected .parquet, .arrow or .csv",
    ),
}


@pytest.mark.parametrize(("line", "code", "expected"), CASES.values(), ids=CASES)
def test_bias_table(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    code: int,
    expected: str,
) -> None:
    """In this process: a start of Python for each takes longer than the audit."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / ".state"))
    monkeypatch.setattr("sys.argv", ["assaymark", *line.split()])
    monkeypatch.setattr("assaymark.cli.interrupts.listen", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    said = "".join(capfd.readouterr())
    assert ended.value.code == code, said
    assert expected.lower() in said.lower()
    assert "Traceback" not in said


def test_the_accepted_run_may_be_another_table_in_another_order(cli: RunCli, folder: Path) -> None:
    people().sample(frac=1, random_state=0).to_parquet(folder / "last.parquet")
    line = f"{BASE} --prediction granted --accepted last.parquet --accepted-prediction before"
    grown = [*line.split(), "--max", "demographic_parity_growth=0.02"]
    assert cli(*grown, "--id", "id").returncode == 1
    unordered = cli(*grown)
    assert unordered.returncode == 3
    assert "name the column of ids" in unordered.stdout + unordered.stderr


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_rates_are_written_as_a_table(cli: RunCli, folder: Path, suffix: str) -> None:
    done = cli(*BASE.split(), "--prediction", "granted", "--rates", f"rates.{suffix}")
    assert done.returncode == 0, done.stderr
    read: Any = {
        "parquet": pandas.read_parquet,
        "arrow": pandas.read_feather,
        "csv": pandas.read_csv,
    }
    frame = read[suffix](folder / f"rates.{suffix}").set_index("group")
    table = people()
    truth = table.groupby("sex")["granted"].mean()
    assert frame["selection_rate"].to_dict() == pytest.approx(truth.to_dict())


@pytest.mark.long
def test_a_mitigation_is_written_and_audited_as_a_model(cli: RunCli, folder: Path) -> None:
    line = "bias mitigate t.csv --label repaid --prediction granted --score p --sensitive sex"
    few = ("--method", "reweighing", "--method", "threshold-optimizer")
    shown = cli(*line.split(), *few, "--features", "income,age,sex", "-o", "m.html", "-o", "m.json")
    assert shown.returncode == 0, shown.stderr
    stored = json.loads((folder / "m.json").read_text())["report"]["findings"]
    assert {"reweighing", "threshold-optimizer"} <= {finding["target"] for finding in stored}
    plots = [item for one in stored for item in one["evidence"] if item["type"] == "plot"]
    assert len(plots) == 1
    applied = cli(
        *line.split(), "--features", "income,age", "--method", "reweighing",
        "--apply", "fair.mitigated.json", "--max", "demographic_parity_difference=0.5",
    )  # fmt: skip
    assert applied.returncode == 0, applied.stdout + applied.stderr
    again = cli(*BASE.split(), "--model", "fair.mitigated.json", "--min", "accuracy=0.5")
    assert again.returncode == 0, again.stdout + again.stderr
    gated = cli(*line.split(), "--max", "demographic_parity_difference=0.5")
    assert gated.returncode == 2
    assert "gate the one that apply writes" in gated.stderr


@pytest.mark.long
def test_an_image_classifier_by_the_columns_of_its_table(cli: RunCli, tmp_path: Path) -> None:
    from assaymark.robustness import demo

    images, labels = demo.digits()
    rows = []
    for place in range(120):
        pixels = (images[place, 0].numpy() * 255).round().astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
        rows.append((f"{place}.png", int(labels[place]), "left" if place % 3 else "right"))
    pandas.DataFrame(rows, columns=["path", "label", "hand"]).to_csv(
        tmp_path / "digits.csv", index=False
    )
    line = "bias images demo:digits digits.csv --sensitive hand"
    every = cli(*line.split(), "--max", "accuracy_difference=0.3")
    assert every.returncode == 0, every.stdout + every.stderr
    one = cli(*line.split(), "--positive", "3", "--min", "selection_rate=0.5")
    assert one.returncode == 1
    assert "selection_rate hand = left" in one.stdout
    short = pandas.DataFrame({"hand": ["left"] * 5})
    short.to_csv(tmp_path / "few.csv", index=False)
    few = cli(*line.split(), "--metadata", "few.csv", "--max", "accuracy_difference=0.3")
    assert few.returncode == 3
    assert "expected a row for each image" in few.stdout
