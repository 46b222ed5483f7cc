"""`assaymark audit` through a subprocess: exit codes, outputs, and what each stream carries."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import RunCli

CHECK = """
[[check]]
id = "digits"
kind = "robustness"
model = "demo:digits"
data = "demo:digits"
attack = "fgsm"
norm = "linf"
eps = {eps}
examples = 100
gate = {{ metric = "{metric}", min = {minimum}, on = "lower" }}
"""


def policy(
    folder: Path,
    minimum: float = 0.5,
    eps: float = 0.02,
    more: str = "",
    metric: str = "robust_accuracy",
) -> Path:
    path = folder / "assaymark.toml"
    path.write_text(CHECK.format(eps=eps, minimum=minimum, metric=metric) + more)
    return path


BROKEN_CHECK = """
[[check]]
id = "broken"
kind = "bias.table"
data = "table.csv"
label = "nothing"
prediction = "yhat"
sensitive = "g"
gate = { metric = "accuracy", min = 0.1 }
"""


def test_zero_when_every_gate_holds_and_every_output_is_written(
    cli: RunCli, tmp_path: Path
) -> None:
    policy(tmp_path)
    names = ["r.html", "deep/r.json", "r.sarif", "r.junit.xml", "r.md"]
    done = cli("audit", *[part for name in names for part in ("-o", name)])
    assert done.returncode == 0, done.stderr
    assert "Every limit holds" in done.stdout
    assert "[1/1] digits" in done.stderr
    assert "[1/1]" not in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    stored = json.loads((tmp_path / "deep" / "r.json").read_text())
    assert stored["verdict"] == "pass"
    assert stored["report"]["run"]["policy_text"] == (tmp_path / "assaymark.toml").read_text()
    assert stored["report"]["run"]["digests"]["demo:digits"]
    assert "Every limit holds" in (tmp_path / "r.html").read_text()
    assert json.loads((tmp_path / "r.sarif").read_text())["runs"][0]["results"] == []
    assert ET.parse(tmp_path / "r.junit.xml").getroot().get("failures") == "0"
    assert "✔" in (tmp_path / "r.md").read_text()
    assert not list((tmp_path / ".state").rglob("*.json"))


@pytest.mark.parametrize(
    ("minimum", "eps", "flags", "code"),
    [
        (0.9, 0.2, [], 1),
        (0.9, 0.2, ["--exit-zero"], 0),
        (0.85, 0.02, [], 3),  # 0.9 of 100: the interval straddles the limit
        (0.85, 0.02, ["--exit-zero"], 3),
    ],
)
def test_one_for_a_broken_limit_and_three_for_an_undecided_one(
    quick_cli: RunCli, tmp_path: Path, minimum: float, eps: float, flags: list[str], code: int
) -> None:
    policy(tmp_path, minimum, eps)
    assert quick_cli("audit", *flags).returncode == code


@pytest.mark.long
def test_three_for_a_check_that_cannot_run_and_the_others_still_run(
    cli: RunCli, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_text("y,yhat,g\n1,1,a\n0,0,b\n")
    policy(tmp_path, more=BROKEN_CHECK)
    done = cli("audit", "-o", "r.json", "--exit-zero")
    assert done.returncode == 3
    findings = json.loads((tmp_path / "r.json").read_text())["report"]["findings"]
    assert [finding["verdict"] for finding in findings] == ["pass", "measured", "error"]
    assert 'has no column "nothing"' in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    policy(tmp_path, 0.9, 0.2, more=BROKEN_CHECK)
    assert cli("audit").returncode == 1
    assert cli("audit", "--exit-zero").returncode == 3


def test_four_for_a_model_that_is_not_the_approved_one(quick_cli: RunCli, tmp_path: Path) -> None:
    policy(tmp_path, more=f'model_sha256 = "{"0" * 64}"\n')
    done = quick_cli("audit", "--exit-zero")
    assert done.returncode == 4
    assert "not the one that was approved" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        (["audit"], None, "no assaymark.toml and no [tool.assaymark] in"),
        (["audit", "other.toml"], None, "cannot read the policy other.toml"),
        (["audit"], "seed = ", "assaymark.toml:1:8: not valid TOML"),
        (["audit"], 'kind = "x"', 'assaymark.toml:1:1: unknown key "kind"'),
        (["audit", "-o", "r.pdf"], CHECK, "-o r.pdf: the format is taken from the name"),
        (["audit", "-o", "r.md", "-o", "r.md"], CHECK, "two outputs have the same name"),
        (["audit", "--device", "tpu"], CHECK, 'unknown device "tpu"'),
        (["audit", "--frobnicate"], CHECK, "No such option"),
        (["audti"], CHECK, "audit"),
    ],
)
def test_two_for_wrong_usage_and_nothing_is_written(
    quick_cli: RunCli, tmp_path: Path, arguments: list[str], text: str | None, expected: str
) -> None:
    if text is not None:
        text = (
            text.format(eps=0.1, minimum=0.1, metric="robust_accuracy") if text is CHECK else text
        )
        (tmp_path / "assaymark.toml").write_text(text)
    before = sorted(tmp_path.iterdir())
    done = quick_cli(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_debug_shows_the_traceback(cli: RunCli) -> None:
    done = cli("--debug", "audit", "other.toml")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_the_policy_is_found_upwards(quick_cli: RunCli, tmp_path: Path) -> None:
    text = CHECK.format(eps=0.02, minimum=0.5, metric="robust_accuracy")
    (tmp_path / "pyproject.toml").write_text(text.replace("[[check]]", "[[tool.assaymark.check]]"))
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    done = quick_cli("audit", "-o", "r.md", cwd=below)
    assert done.returncode == 0, done.stderr
    assert (below / "r.md").exists()


WAIVER = """
[[waiver]]
check = "digits"
reason = "retraining, RISK-112"
owner = "a.b@example.com"
expires = {date}
"""


@pytest.mark.parametrize(
    ("date", "code"), [pytest.param("2999-01-01", 0, marks=pytest.mark.long), ("2020-01-01", 1)]
)
def test_a_waiver_counts_until_its_date(
    quick_cli: RunCli, tmp_path: Path, date: str, code: int
) -> None:
    policy(tmp_path, 0.9, 0.2, more=WAIVER.format(date=date))
    done = quick_cli("audit")
    assert done.returncode == code
    assert ("expired on 2020-01-01" in done.stdout) is (code == 1)
    assert ("RISK-112" in done.stdout) is (code == 0)


@pytest.mark.long
def test_a_regression_against_the_accepted_report(cli: RunCli, tmp_path: Path) -> None:
    more = "baseline = { max_drop = 0.02 }\n"
    path = policy(tmp_path, 0.1, 0.05, more=more)
    path.write_text('baseline = "accepted.json"\n' + path.read_text())
    first = cli("audit", "-o", "accepted.json")
    assert first.returncode == 3  # nothing to compare with yet is not good news
    assert "keep this run as the baseline" in json.dumps(
        json.loads((tmp_path / "accepted.json").read_text())
    )
    assert cli("audit").returncode == 0
    path.write_text(path.read_text().replace("eps = 0.05", "eps = 0.15"))
    worse = cli("audit", "-o", "r.json")
    assert worse.returncode == 1
    assert "robust_accuracy_drop" in worse.stdout
    (tmp_path / "accepted.json").write_text("{}")
    broken = cli("audit")
    assert broken.returncode == 2
    assert "accepted.json" in broken.stderr


@pytest.mark.long
def test_the_same_run_gives_the_same_numbers(cli: RunCli, tmp_path: Path) -> None:
    policy(tmp_path)
    found = []
    for name in ("a.json", "b.json"):
        cli("audit", "-o", name)
        report = json.loads((tmp_path / name).read_text())["report"]
        for finding in report["findings"]:
            finding.pop("cost")
            finding["evidence"] = [e for e in finding["evidence"] if e["type"] != "table"]
        found.append(report["findings"])
    assert found[0] == found[1]


SLOW = (
    CHECK.replace('attack = "fgsm"', 'attack = [{{ name = "pgd", steps = 4000 }}]')
    .replace('"digits"', '"slow"')
    .replace("examples = 100", "examples = 500")
)


@pytest.mark.long
def test_an_interrupted_run_keeps_what_it_measured_and_resumes(cli: RunCli, tmp_path: Path) -> None:
    slow = SLOW.format(eps=0.02, minimum=0.5, metric="robust_accuracy")
    path = policy(tmp_path, more=slow)
    process = subprocess.Popen(
        [sys.executable, "-m", "assaymark.cli", "audit", "-o", "r.json"],
        cwd=tmp_path,
        env=os.environ | {"CI": "1", "XDG_STATE_HOME": str(tmp_path / ".state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    kept = tmp_path / ".state" / "assaymark"
    deadline = time.monotonic() + 120
    while not list(kept.glob("run-*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.count("interrupted") == 1
    assert "interrupted after 1 of 2 checks" in errors
    assert not (tmp_path / "r.json").exists()
    (kept_file,) = kept.glob("run-*.json")
    # shorten the slow check: another policy, so nothing of the old run may be taken up
    path.write_text(path.read_text().replace("steps = 4000", "steps = 2"))
    fresh = cli("audit", "-o", "fresh.json")
    assert "kept from the interrupted run" not in fresh.stderr
    assert kept_file.exists()
    assert fresh.returncode == 0


@pytest.mark.long
def test_a_killed_check_goes_on_with_the_next_shard(tmp_path: Path) -> None:
    """Killed without warning in the middle of its only check, and resumed by two workers."""
    policy(tmp_path)
    path = tmp_path / "assaymark.toml"
    long = CHECK.format(eps=0.1, minimum=0.1, metric="robust_accuracy").replace(
        'attack = "fgsm"', 'attack = { name = "pgd", steps = 300 }'
    )
    path.write_text(long.replace("examples = 100", "examples = 500"))
    environment = os.environ | {"CI": "1", "XDG_STATE_HOME": str(tmp_path / ".state")}
    command = [sys.executable, "-m", "assaymark.cli", "audit", "-o", "r.json"]
    killed = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    kept = tmp_path / ".state" / "assaymark"
    deadline = time.monotonic() + 120
    while len(list(kept.glob("run-*/*/*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() != 0
    assert not (tmp_path / "r.json").exists()
    subprocess.run([*command, "--workers", "2"], cwd=tmp_path, env=environment, check=True)
    assert not list(kept.glob("run-*"))
    elsewhere = environment | {"XDG_STATE_HOME": str(tmp_path / ".other")}
    subprocess.run([*command[:-1], "whole.json"], cwd=tmp_path, env=elsewhere, check=True)
    resumed, whole = (
        json.loads((tmp_path / name).read_text())["report"] for name in ("r.json", "whole.json")
    )
    (warning,) = resumed["warnings"]
    assert re.match(r"[2-8] of the shards of digits were measured by an earlier", warning)
    assert not whole["warnings"]
    for one, other in zip(resumed["findings"], whole["findings"], strict=True):
        for key in ("measure", "value", "interval", "n"):
            assert one[key] == other[key]
        for mine, theirs in zip(one["evidence"], other["evidence"], strict=True):
            if mine["title"] == "Attacks":  # the last column is seconds
                assert [row[:-1] for row in mine["rows"]] == [row[:-1] for row in theirs["rows"]]
            else:
                assert mine == theirs


def test_a_resumed_run_says_the_same_as_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop after the first check by raising Ctrl-C from inside, then run again."""
    from assaymark.cli import run as runner
    from assaymark.cli.exit import Interrupted
    from assaymark.reports.policy_file import parse

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    path = policy(
        tmp_path,
        more=CHECK.format(eps=0.1, minimum=0.1, metric="clean_accuracy").replace(
            '"digits"', '"second"', 1
        ),
    )
    text = path.read_text()
    job = runner.Job(
        policy=parse(text), text=text, name="assaymark.toml", folder=tmp_path, command="test"
    )
    whole = runner.run(job)
    runner.forget(job)
    real = runner._guarded

    def stop(check: object, *rest: object) -> object:
        if getattr(check, "id", "") == "second":
            raise KeyboardInterrupt
        return real(check, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_guarded", stop)
        with pytest.raises(Interrupted, match="after 1 of 2"):
            runner.run(job)
        patch.setattr(
            runner,
            "_guarded",
            lambda check, *rest: (
                real(check, *rest) if check.id == "second" else pytest.fail("ran again")
            ),
        )
        resumed = runner.run(job)
    assert [(f.check, f.measure, f.value) for f in resumed.findings] == [
        (f.check, f.measure, f.value) for f in whole.findings
    ]
    assert resumed.run is not None
    assert whole.run is not None
    assert resumed.run.digests == whole.run.digests
    assert resumed.warnings == (
        "digits was measured by an earlier, interrupted run of the same command",
    )
    assert list((tmp_path / ".state").rglob("*.json"))  # until the outputs are written
    runner.forget(job)
    assert not list((tmp_path / ".state").rglob("*.json"))


def test_nothing_beside_the_policy_is_taken_for_a_result(quick_cli: RunCli, tmp_path: Path) -> None:
    """A planted run folder must not decide; provenance is never resumed at all."""
    from assaymark.cli.resume import resumable
    from assaymark.reports.policy_provenance import ProvenanceCheck

    assert not resumable(ProvenanceCheck(id="a", kind="provenance", files=("x.jpg",)))
    policy(tmp_path, 0.9, 0.2)
    planted = tmp_path / ".assaymark"
    planted.mkdir()
    (planted / "run-0000000000000000.json").write_text("{}")
    assert quick_cli("audit").returncode == 1


def test_a_place_that_cannot_be_written_is_found_before_the_run(
    cli: RunCli, tmp_path: Path
) -> None:
    policy(tmp_path)
    (tmp_path / "file").write_text("x")
    done = cli("audit", "-o", "ok.html", "-o", "file/r.html")
    assert done.returncode == 2
    assert "cannot write file/r.html" in done.stderr
    assert "[1/1]" not in done.stderr
    assert not (tmp_path / "ok.html").exists()


@pytest.mark.long
def test_a_failing_run_does_not_become_its_own_baseline(cli: RunCli, tmp_path: Path) -> None:
    path = policy(tmp_path, 0.1, 0.05, more="baseline = { max_drop = 0.02 }\n")
    path.write_text('baseline = "accepted.json"\n' + path.read_text())
    cli("audit", "-o", "accepted.json")
    before = (tmp_path / "accepted.json").read_text()
    path.write_text(path.read_text().replace("eps = 0.05", "eps = 0.15"))
    done = cli("audit", "-o", "accepted.json", "-o", "r.md")
    assert done.returncode == 1
    assert "it was not replaced" in done.stderr
    assert (tmp_path / "accepted.json").read_text() == before
    assert (tmp_path / "r.md").exists()


@pytest.mark.long
def test_a_broken_pyproject_is_not_passed_over(cli: RunCli, tmp_path: Path) -> None:
    policy(tmp_path)
    below = tmp_path / "sub"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.assaymark]\nseed = = 1\n")
    done = cli("audit", cwd=below)
    assert done.returncode == 2
    assert "pyproject.toml:2:8: not valid TOML" in done.stderr
    (below / "pyproject.toml").write_text("[tool.other]\nseed = = 1\n")
    assert cli("audit", cwd=below).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_reader_who_leaves_does_not_change_the_verdict(tmp_path: Path) -> None:
    policy(tmp_path)
    command = f"{sys.executable} -m assaymark.cli audit | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_policy_with_bom_and_crlf(cli: RunCli, tmp_path: Path) -> None:
    import hashlib

    path = policy(tmp_path)
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode())
    assert cli("audit", "-o", "r.json").returncode == 0
    run = json.loads((tmp_path / "r.json").read_text())["report"]["run"]
    assert run["policy_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert cli("audit").returncode == 0


def test_ctrl_c_that_is_swallowed_is_no_broken_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the import of an extension module does: it turns KeyboardInterrupt into an error of its own."""
    from assaymark.cli import interrupts
    from assaymark.cli import run as runner
    from assaymark.cli.exit import Interrupted
    from assaymark.reports.policy_file import parse

    def swallow(*_: object) -> object:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RecursionError("maximum recursion depth exceeded") from None
        pytest.fail("Ctrl-C was not raised")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    text = policy(tmp_path).read_text()
    parsed = parse(text)
    monkeypatch.setattr(runner, "RUNNERS", {type(parsed.check[0]): swallow})
    job = runner.Job(policy=parsed, text=text, name="p.toml", folder=tmp_path, command="test")
    before = signal.getsignal(signal.SIGINT)
    interrupts.listen()
    try:
        with pytest.raises(Interrupted, match="after 0 of 1"):
            runner.run(job)
        assert interrupts.heard()
        interrupts.listen()
        assert not interrupts.heard()
    finally:
        signal.signal(signal.SIGINT, before)
