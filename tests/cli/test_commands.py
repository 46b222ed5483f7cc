"""The other commands, as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest
from conftest import RunCli
from PIL import Image

SECRET = {"ASSAYMARK_PASSPHRASE": "correct horse"}


@pytest.fixture
def keys(cli: RunCli, tmp_path: Path) -> Path:
    done = cli("keys", "new", "keys", "--organization", "Example Press", **SECRET)
    assert done.returncode == 0, done.stderr
    return tmp_path / "keys"


def picture(path: Path) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(path)


SIGN = ["--chain", "keys/chain.pem", "--key", "keys/key.pem"]


@pytest.mark.long
def test_keys_sign_and_verify(cli: RunCli, tmp_path: Path, keys: Path) -> None:
    picture(tmp_path / "photo.jpg")
    done = cli("sign", "photo.jpg", "-o", "signed.jpg", *SIGN, "--captured", **SECRET)
    assert done.returncode == 0, done.stderr
    assert "signed by Example Press" in done.stdout
    anchor = ["--trust-anchor", "keys/root.pem"]
    assert cli("verify", "signed.jpg", *anchor).returncode == 0
    stranger = cli("verify", "signed.jpg")
    assert stranger.returncode == 1
    assert "no --trust-anchor is given" in stranger.stderr
    assert cli("verify", "photo.jpg", *anchor).returncode == 1
    data = bytearray((tmp_path / "signed.jpg").read_bytes())
    data[-100] ^= 1
    (tmp_path / "tampered.jpg").write_bytes(data)
    assert "Signed by Example Press" in cli("verify", "signed.jpg", *anchor).stdout
    cut = bytes(data[:60]) + b"\x00" + bytes(data[61:])  # the manifest store cannot be parsed
    (tmp_path / "cut.jpg").write_bytes(cut)
    for flags in ([], ["--exit-zero"]):
        assert cli("verify", "cut.jpg", *anchor, *flags).returncode in (3, 4) or not flags
    broken = cli("verify", "signed.jpg", "tampered.jpg", *anchor, "-o", "v.json", "-o", "v.html")
    assert broken.returncode == 4
    assert "broken_files tampered.jpg" in broken.stdout
    assert json.loads((tmp_path / "v.json").read_text())["verdict"] == "fail"
    assert cli("verify", "tampered.jpg", *anchor, "--exit-zero").returncode == 4
    assert (
        "correct horse" not in (tmp_path / "v.json").read_text() + (tmp_path / "v.html").read_text()
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        (["sign", "photo.jpg", "-o", "s.jpg", *SIGN], {}, "is encrypted: give its passphrase"),
        (
            ["sign", "photo.jpg", "-o", "s.jpg", *SIGN],
            {"ASSAYMARK_PASSPHRASE": "wrong"},
            "the passphrase does not open keys/key.pem",
        ),
        (["sign", "photo.jpg", "-o", "photo.jpg", *SIGN], SECRET, "is the source itself"),
        (["sign", "photo.jpg", "-o", "keys/root.pem", *SIGN], SECRET, "ends in .pem"),
        (["sign", "none.jpg", "-o", "s.jpg", *SIGN], SECRET, "none.jpg does not exist"),
        (
            ["sign", "photo.jpg", "-o", "s.jpg", *SIGN, "--generated", "--captured"],
            SECRET,
            "exclude each other",
        ),
        (["keys", "new", "keys", "--organization", "X"], SECRET, "keys are never overwritten"),
        (["keys", "new", "k2", "--organization", "X"], {}, "a passphrase is needed"),
        (
            ["keys", "new", "k2", "--organization", "X", "--algorithm", "es257"],
            SECRET,
            'unknown algorithm "es257": did you mean "es256"?',
        ),
        (["verify", "none.jpg"], {}, 'no file matches "none.jpg"'),
        (
            ["verify", "photo.jpg", "--trust-anchor", "no.pem"],
            {},
            'no such trust anchor file: "no.pem"',
        ),
        (["sign", "photo.jpg", "-o", "x" * 300 + ".jpg", *SIGN], SECRET, "File name too long"),
        (
            ["sign", "photo.jpg", "-o", "s.jpg", *SIGN, "--passphrase-file", os.devnull],
            {},
            "is encrypted: give its passphrase",
        ),
        (["report", "show", "photo.jpg"], {}, "cannot read the report photo.jpg"),
        (["report", "show", "none.json"], {}, "cannot read the report none.json"),
        (["report", "convert", "none.json"], {}, "name at least one output"),
    ],
)
def test_wrong_use_is_one_sentence_and_leaves_nothing(
    quick_cli: RunCli,
    tmp_path: Path,
    keys: Path,
    arguments: list[str],
    variables: dict[str, str],
    expected: str,
) -> None:
    picture(tmp_path / "photo.jpg")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = quick_cli(*arguments, **variables)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.long
def test_attack_on_files_of_the_user(cli: RunCli, tmp_path: Path) -> None:
    """A model by module:factory and images in folders, from an otherwise empty directory."""
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))\n"
    )
    random = numpy.random.default_rng(1)
    for i in range(12):
        folder = tmp_path / "images" / f"class{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    done = cli(
        "attack", "mine:build", "images", "--eps", "8/255", "--mean", "0.5,0.5,0.5",
        "--std", "0.25,0.25,0.25", "-a", "pgd", "--option", "steps=5", "-o", "r.html", "-o", "r.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert "robust_accuracy" in done.stdout
    run = json.loads((tmp_path / "r.json").read_text())["report"]["run"]
    assert 'eps = "8/255"' in run["policy_text"]
    (tmp_path / "kept.toml").write_text(run["policy_text"].replace("[[check]]", "[[check]]"))
    gated = run["policy_text"] + 'gate = { metric = "clean_accuracy", min = 0.01 }\n'
    (tmp_path / "kept.toml").write_text(gated)
    assert cli("audit", "kept.toml").returncode == 0  # what the command stood for is a policy


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["demo:digits"], 2, "name a model and data"),
        (["demo:digits", "demo:digits", "--eps", "x"], 2, 'eps = "x"'),
        (["demo:digits", "demo:digits", "--norm", "l3"], 2, "norm = 'l3' is not known"),
        (
            ["demo:digits", "demo:digits", "-a", "pgd", "--option", "steps=0"],
            3,
            "pgd cannot run with these options: steps and restarts must be at least 1",
        ),
        (["none.onnx", "demo:digits"], 2, 'no such model: "none.onnx"'),
        (["demo:digits", "demo:digits", "-a", "pdg"], 2, 'unknown attack "pdg"'),
        pytest.param(
            ["demo:digits", "demo:digits", "--classes", "a,b"],
            3,
            "only 2 classes are named",
            marks=pytest.mark.long,
        ),
        (["demo:digits", "demo:digits", "--mean", "0.5"], 2, 'missing key "std"'),
        (
            ["demo:digits", "demo:digits", "-a", "fgsm", "--option", "steps=9"],
            2,
            'fgsm has no option "steps"',
        ),
        (["demo:digits", "demo:digits", "--device", "cpu:7"], 2, 'no device "cpu:7"'),
        (["demo:digits", "demo:digits", "--seed", "-1"], 2, "seed"),
        (["demo:digits", "demo:digits", "-a", "foolbox:SpatialAttack"], 2, "has no norm"),
        (["demo:digits", "demo:digits", "--eps", "8"], 2, 'write eps = "8/255"'),
        pytest.param(
            ["demo:digits", "demo:digits", "--target", "eleven"],
            3,
            'unknown target "eleven"',
            marks=pytest.mark.long,
        ),
        (
            ["demo:digits", "demo:digits", "--mean", "1,2,3", "--std", "1,1,1"],
            3,
            "cannot read images",
        ),
    ],
)
def test_a_wrong_attack_command(
    quick_cli: RunCli, arguments: list[str], code: int, expected: str
) -> None:
    done = quick_cli("attack", *arguments)
    assert done.returncode == code
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_attack_lists_what_it_knows(cli: RunCli) -> None:
    done = cli("attack", "--list")
    assert done.returncode == 0
    for name in (
        "fgsm",
        "pgd",
        "foolbox:LinfDeepFoolAttack",
        "cleverhans:projected_gradient_descent",
    ):
        assert name in done.stdout


@pytest.mark.long
def test_attack_with_a_minimum(cli: RunCli) -> None:
    digits = ["attack", "demo:digits", "demo:digits", "--eps", "0.1", "-a", "fgsm"]
    assert cli(*digits, "--min", "0.9").returncode == 1
    assert cli(*digits, "--min", "0.3").returncode == 0
    assert cli(*digits, "--min", "0.6").returncode == 3
    assert cli(*digits, "--min", "0.6", "--on", "estimate").returncode == 1


@pytest.mark.long
def test_bias_table(cli: RunCli, tmp_path: Path) -> None:
    pandas.DataFrame(
        {"y": [1, 0] * 20, "yhat": [1, 0, 1, 1] * 10, "sex": ["f", "f", "m", "m"] * 10, "race": "x"}
    ).to_csv(tmp_path / "t.csv", index=False)
    plain = ["bias", "table", "t.csv", "--label", "y", "--prediction", "yhat"]
    done = cli(*plain, "--sensitive", "sex", "-o", "r.html")
    assert done.returncode == 0, done.stderr
    assert "equalized_odds_difference sex" in done.stdout
    assert cli(*plain, "--sensitive", "sex", "--max-equalized-odds", "0.5").returncode == 1
    loose = (*plain, "--sensitive", "sex", "--max-demographic-parity", "0.6")
    assert cli(*loose).returncode == 3  # 20 people a group do not show that it is below 0.6
    assert cli(*loose, "--on", "estimate").returncode == 0
    crossed = cli(*plain, "--sensitive", "sex,race", "--intersections")
    assert "equalized_odds_difference sex × race" in crossed.stdout
    percent = cli(*plain, "--sensitive", "sex", "--max-demographic-parity", "60")
    assert percent.returncode == 2
    assert "did you mean 0.6?" in percent.stderr
    both = ("--max", "demographic_parity_difference=0.01", "--max-demographic-parity", "0.9")
    assert cli(*plain, "--sensitive", "sex", *both).returncode == 1  # both limits are held
    two = cli(*plain, "--sensitive", "sex", "--max", "demographic_parity_difference=0.9,0.01")
    assert two.returncode == 2
    assert "expected a number" in two.stderr
    twice = cli(*plain, "--sensitive", "race", "--bands", "race=1,2", "--bands", "race=3")
    assert twice.returncode == 2
    assert "--bands names race twice: give it once" in twice.stderr
    before = (tmp_path / "t.csv").read_bytes()
    over = cli(*plain, "--sensitive", "sex", "--rates", "./t.csv")
    assert over.returncode == 3
    assert "rates would be written over t.csv" in over.stdout
    assert (tmp_path / "t.csv").read_bytes() == before
    for alone, says in (
        (("--ll144", "sex"), "expected two columns, SEX,RACE"),
        (("--slice-loss", "false_negative"), "belongs to --slices"),
        (("--id", "race"), "belongs to --accepted-prediction"),
    ):
        done = cli(*plain, "--sensitive", "sex", *alone)
        assert done.returncode == 2
        assert says in done.stderr
    one = cli(*plain, "--sensitive", "race", "--max-equalized-odds", "0.5")
    assert one.returncode == 3  # one group: not measured is not a pass
    assert cli(*plain, "--sensitive", "sexx").returncode == 3
    assert cli("bias", "table", "none.csv", "--label", "y", "--sensitive", "s").returncode == 2


def test_a_table_is_audited_without_slow_imports(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("y,yhat,sex\n" + "1,1,f\n0,0,f\n1,0,m\n0,1,m\n" * 5)
    program = """
import runpy, sys
sys.argv = "assaymark bias table t.csv --label y --prediction yhat --sensitive sex".split()
try:
    runpy.run_module("assaymark.cli", run_name="__main__")
except SystemExit as end:
    assert not end.code
slow = {"torch", "pandas", "scipy.stats", "sklearn", "fairlearn"} & set(sys.modules)
assert not slow, slow
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_init_writes_a_policy_that_runs(cli: RunCli, tmp_path: Path) -> None:
    assert cli("init").returncode == 0
    schema = json.loads((tmp_path / "assaymark.schema.json").read_text())
    assert "check" in schema["properties"]
    assert (tmp_path / "assaymark.toml").read_text().startswith("#:schema ./assaymark.schema.json")
    done = cli("audit", "-o", "r.html")
    assert done.returncode == 0, done.stdout + done.stderr
    again = cli("init")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_doctor_says_what_works(cli: RunCli) -> None:
    done = cli("doctor")
    assert done.returncode == 0, done.stdout
    for name in ("torch", "c2pa", "fairlearn", "onnx", "cuda"):
        assert name in done.stdout
    for line in done.stdout.splitlines():
        assert line.startswith("✔") or "mend it with:" in line


def test_report_convert_renders_the_same_page(quick_cli: RunCli, tmp_path: Path) -> None:
    quick_cli("bias", "table", "demo:diabetes", "--label", "progressed", "--prediction", "predicted",
        "--sensitive", "sex", "-o", "r.json", "-o", "r.html")  # fmt: skip
    done = quick_cli("report", "convert", "r.json", "-o", "again.html", "-o", "again.sarif")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.html").read_text() == (tmp_path / "r.html").read_text()
    import jsonschema

    schema = json.loads(quick_cli("report", "schema").stdout)
    jsonschema.validate(json.loads((tmp_path / "r.json").read_text()), schema)
    assert "Measured without limits" in quick_cli("report", "show", "r.json").stdout


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.long)])
def test_demo_catches_the_tampered_copy_and_runs_again(
    cli: RunCli, tmp_path: Path, times: int
) -> None:
    for _ in range(times):
        done = cli("demo")
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith(str(tmp_path / "assaymark-demo" / "report.html"))
    folder = tmp_path / "assaymark-demo"
    stored = json.loads((folder / "report.json").read_text())["report"]["findings"]
    verdicts = {(finding["check"], finding["measure"]): finding["verdict"] for finding in stored}
    assert verdicts["photographs", "trusted_files"] == "pass"
    assert verdicts["tampered-copy", "broken_files"] == "fail"
    assert verdicts["detection", "manipulated_files"] == "fail"
    assert verdicts["detection", "generated_unmarked_files"] == "pass"
    assert verdicts["digits", "robust_accuracy"] == "fail"
    assert verdicts["digits-hardened", "robust_accuracy"] == "pass"
    planted = [
        one for one in stored if one["check"] == "language-model" and one["verdict"] == "fail"
    ]
    assert {(one["measure"], one["target"].split(": ")[1]) for one in planted} == {
        ("decision_discrimination", "gender = female"),
        ("refusal_rate_difference", "en gender"),
        ("stereotypical_association", "occupation"),
    }
    assert not list(folder.rglob("*key*"))
    page = (folder / "report.html").read_text()
    assert page.count("difference ×") >= 12
    assert len(page.encode()) <= 600_000
    assert cli("audit", "assaymark-demo/assaymark.toml").returncode == 4


def test_demo_does_not_write_into_a_folder_of_the_user(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    done = cli("demo", "mine")
    assert done.returncode == 2
    assert "is not an earlier demo" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.skipif(os.name == "nt", reason="file names with control characters")
def test_a_hostile_file_name_cannot_forge_a_line(cli: RunCli, tmp_path: Path) -> None:
    picture(tmp_path / "u\n✔ verify  all trusted.jpg")
    (tmp_path / os.fsdecode(b"a\xff.jpg")).write_bytes(b"")
    done = cli("verify", ".", "-o", "out/r.json", "-o", "out/r.html", "-o", "out/r.md")
    assert done.returncode == 1
    assert not any(line.startswith("✔") for line in done.stdout.splitlines())
    assert "a\\udcff.jpg" in (tmp_path / "out" / "r.html").read_text()


@pytest.mark.skipif(os.name == "nt", reason="file names with control characters")
def test_a_hostile_file_name_cannot_move_the_cursor(cli: RunCli, tmp_path: Path) -> None:
    picture(tmp_path / "a\x1b[2Jb.jpg")
    done = cli("verify", ".")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "a\\x1b[2Jb.jpg" in done.stdout


@pytest.mark.long
def test_a_plain_locale_is_no_reason_to_fail(cli: RunCli) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
    done = cli("attack", "demo:digits", "demo:digits", "-a", "fgsm", "--min", "0.99", **plain)
    assert done.returncode == 1
    assert "robust_accuracy" in done.stdout


COMMANDS = [
    "",
    "audit",
    "attack",
    "bias",
    "bias table",
    "demo",
    "doctor",
    "init",
    "keys",
    "keys new",
]
COMMANDS += ["report", "report show", "report convert", "report schema", "sign", "verify"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "assaymark")
def test_every_command_has_help(cli: RunCli, command: str) -> None:
    done = cli(*command.split(), "--help", COLUMNS="80")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert done.stderr == ""


def test_version_is_the_installed_one(cli: RunCli) -> None:
    from importlib.metadata import version

    assert cli("--version").stdout.strip() == f"assaymark {version('assaymark')}"
