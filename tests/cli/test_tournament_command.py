"""`assaymark tournament` as a user runs it."""

import json
from pathlib import Path

import pytest
from conftest import RunCli

from assaymark.cli import resume
from assaymark.reports.policy_file import parse
from assaymark.robustness import demo

USUAL = ("tournament", "demo:digits", "--eps", "0.1", "--examples", "30", "--device", "cpu")
BOTH = ("--defense", "demo:digits", "-d", "demo:digits-hardened")


@pytest.mark.long
def test_attacks_meet_defenses_of_every_kind(cli: RunCli, tmp_path: Path) -> None:
    """A described defense among them; the report, the matrices, and the policy it stood for."""
    made = cli(
        "defend", "demo:digits", "demo:digits", "--method", "bit-depth", "--examples", "10",
        "-o", "bits.defended.json", "--device", "cpu",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    done = cli(
        *USUAL, *BOTH, "-d", "bits.defended.json", "-a", "fgsm", "-a", "pgd",
        "--targeted-attack", "mi-fgsm", "--target", "least-likely", "--matrices", "csv",
        "--min", "0.5", "-o", "t.html", "-o", "t.json", "-o", "t.md", "-o", "t.sarif",
    )  # fmt: skip
    assert done.returncode in (1, 3), done.stderr
    report = json.loads((tmp_path / "t.json").read_text())["report"]
    values = {(f["target"], f["measure"]): f["value"] for f in report["findings"]}
    hardened = values["demo:digits-hardened", "worst_case_accuracy"]
    assert hardened > values["demo:digits", "worst_case_accuracy"]
    assert hardened <= values["demo:digits-hardened", "mean_accuracy"]
    assert {target for target, _ in values} == {
        "demo:digits", "demo:digits-hardened", "bits.defended.json",
    }  # fmt: skip
    page = (tmp_path / "t.html").read_text()
    assert page.count('<table class="heat">') == 3
    assert "Protocol white-box" in page
    assert "worst case: all attacks at once" in (tmp_path / "t.md").read_text()
    lines = (tmp_path / "csv" / "accuracy_on_attacks.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["", "fgsm", "pgd"]
    (tmp_path / "kept.toml").write_text(report["run"]["policy_text"])
    again = cli("audit", "kept.toml", "--device", "cpu", "-o", "again.json")
    assert again.returncode == done.returncode
    findings = json.loads((tmp_path / "again.json").read_text())["report"]["findings"]
    assert {(f["target"], f["measure"]): f["value"] for f in findings} == values


@pytest.mark.long
def test_the_competition_is_played_on_surrogates(cli: RunCli, tmp_path: Path) -> None:
    arguments = (*USUAL, *BOTH, "-a", "mi-fgsm", "--scoring", "nips17")
    alone = cli(*arguments, "--surrogate", "demo:digits", "-o", "one.html")
    assert alone.returncode == 0, alone.stderr
    assert "attackers who see the defense they attack" in (tmp_path / "one.html").read_text()
    both = ("--surrogate", "demo:digits", "--surrogate", "demo:digits-hardened")
    for flags, names in (((), 2), (("--ensemble",), 1)):
        done = cli(*arguments, *both, *flags, "--matrices", "csv")
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "csv" / "accuracy_on_attacks.csv").read_text().splitlines()
        assert len(lines) == 1 + names


def test_weights_take_part_with_their_architecture(cli: RunCli, tmp_path: Path) -> None:
    """The demo's weights as a file: the same network as demo:digits, so the same numbers."""
    (tmp_path / "ours.safetensors").write_bytes(demo.weights("digits").read_bytes())
    done = cli(
        *USUAL, "-d", "ours.safetensors", "-d", "demo:digits", "-a", "fgsm",
        "--arch", "assaymark.robustness.demo:network", "-o", "t.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads((tmp_path / "t.json").read_text())["report"]["findings"]
    ours, theirs = (
        [f["value"] for f in findings if f["target"] == name]
        for name in ("ours.safetensors", "demo:digits")
    )
    assert len(ours) == 3
    assert ours == theirs


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("tournament", "demo:digits"), 2, "name data and defenses"),
        ((*USUAL, "-d", "demo:digits", "-d", "demo:digits"), 2, "takes part twice"),
        (
            (*USUAL, *BOTH, "--arch", "a:b", "--arch", "a:c", "--arch", "a:d"),
            2,
            "3 times for 2 models",
        ),
        ((*USUAL, "-d", "none.onnx"), 2, 'no such defense: "none.onnx"'),
        ((*USUAL, "-d", "demo:digits", "--protocol", "nips71"), 2, 'did you mean "nips17"?'),
        ((*USUAL, "-d", "demo:digits", "--scoring", "nips17"), 2, "with surrogates"),
        (
            (*USUAL, "-d", "demo:digits", "-a", "pgdd"),
            2,
            'did you mean "pgd"? Known are the suites',
        ),
    ],
)
def test_wrong_use_is_one_sentence(
    quick_cli: RunCli, tmp_path: Path, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    done = quick_cli(*arguments, "-o", "r.html") if code == 2 else quick_cli(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('defenses = ["demo:digits", "x.pt2"]', True),
        ('defenses = ["demo:digits", "mine:build"]', False),  # code may change unseen
        ('defenses = ["demo:digits", "x.onnx"]', False),
        ('defenses = [{ model = "x.safetensors", arch = "mine:build" }]', False),
        ('defenses = "demo:digits"\nmatrices = "csv"', False),  # files have to be written
        ('defenses = "x.pt2"\nprotocol = "nips17"\nsurrogates = "mine:build"', False),
    ],
)
def test_what_only_reads_data_is_kept_when_interrupted(keys: str, expected: bool) -> None:
    text = (
        '[[check]]\nid = "t"\nkind = "tournament"\ndata = "demo:digits"\neps = 0.1\n'
        f'attack = "fgsm"\n{keys}\n'
    )
    (check,) = parse(text, needs_gate=False).check
    assert resume.resumable(check) is expected
