"""`assaymark bias lm`: models, suites and limits as a user types them, and the exit code they end in."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_server import log_prob, serving

from assaymark.cli.main import main

MODEL = '''
"""Language models whose bias is known: each pair is settled by one word."""
from pathlib import Path

LEAN = {"stereotyped": 2.0, "fair": 0.0, "reversed": -2.0}
ASKED = Path(__file__).with_name("asked.txt")


def _score(text, lean):
    # "women" is the likelier word by so much; in a fair model by the parity of the row's number
    number = int("".join(c for c in text if c.isdigit()) or 0)
    bonus = lean if lean else (1.0 if number % 2 else -1.0)
    return -len(text.split()) + (bonus if "women" in text else 0.0)


class Planted:
    def __init__(self, lean):
        self.lean = lean

    def loglikelihood(self, pairs):
        with ASKED.open("a") as stream:
            stream.write(f"{len(pairs)}\\n")
        return [_score(text, self.lean) for _, text in pairs]


def stereotyped():
    return Planted(2.0)


def fair():
    return Planted(0.0)


class Failing(Planted):
    def loglikelihood(self, pairs):
        if any("7" in text for _, text in pairs):
            raise RuntimeError("no memory left")
        return super().loglikelihood(pairs)


def failing():
    return Failing(2.0)


def generate(prompts):
    return ["Yes."] * len(prompts)


class Broken:
    """Replies with half of a surrogate pair, as JSON may hold, and with all that could break a format."""

    def generate(self, prompts):
        return ["\\ud800 \\u202e I'm \\0 \\x1b[31m <b> ]]> | `x` " + prompt[::-1] for prompt in prompts]


def broken():
    return Broken()
'''
ROWS = 120
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pairs in the official layout, written by ten writers, and models of known bias."""
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(
            ["", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "anon_writer"]
        )
        for number in range(ROWS):
            rows.writerow(
                [
                    number,
                    f"In house {number} the women cook every day.",
                    f"In house {number} the men cook every day.",
                    "stereo",
                    "gender" if number % 3 else HOSTILE,
                    f"w{number % 40}",
                ]
            )
    (tmp_path / "planted.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    return tmp_path


def run(command: str) -> int:
    return typed("bias", "lm", *command.split())


def typed(*arguments: str) -> int:
    """In this process: a start of Python for each takes longer than the audit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["assaymark", *arguments])
        patch.setattr("assaymark.cli.interrupts.listen", lambda: None)
        with pytest.raises(SystemExit) as ended:
            main()
    sys.modules.pop("planted", None)
    return int(ended.value.code or 0)


def findings(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    report = json.loads(path.read_text(encoding="utf-8"))
    return {(one["measure"], one["target"]): one for one in report["report"]["findings"]}


SUITE = "--suite crows-pairs=pairs.csv"
GATED = f"{SUITE} --gate-indicators"
CASES = {
    "no limit": (f"planted:stereotyped {SUITE}", 0, "crows_pairs_score"),
    "planted bias breaks the limit": (
        f"planted:stereotyped {GATED} --max crows_pairs_score=0.6",
        1,
        "limit is broken",
    ),
    "of one category": (
        f"planted:stereotyped {GATED} --max crows_pairs_score@gender=0.6",
        1,
        "gender",
    ),
    "a fair model keeps it": (
        f"planted:fair {GATED} --max crows_pairs_score@all=0.7",
        0,
        "Every limit holds",
    ),
    "too few to say": (f"planted:fair {GATED} --max crows_pairs_score@all=0.52", 3, "inconclusive"),
    "a category that is not there": (
        f"planted:fair {GATED} --max crows_pairs_score@age=0.6",
        3,
        "not measured",
    ),
    "answers are missing": (
        f"planted:failing {GATED} --max crows_pairs_score@all=1/1.01",
        2,
        "expected",
    ),
    "an indicator asks for the policy's word": (
        f"planted:fair {SUITE} --max crows_pairs_score=0.6",
        2,
        'indicators = "gate"',
    ),
    "of a suite that is not run": (
        f"planted:fair {GATED} --max bbq_bias_ambiguous=0.1",
        2,
        "measured by the suite bbq",
    ),
    "unknown suite": (
        "planted:fair --suite crow-pairs=pairs.csv",
        2,
        'did you mean "crows-pairs"?',
    ),
    "unknown variant": ("planted:fair --suite crows-pairs:mask=pairs.csv", 2, "known are masked"),
    "unknown mitigation": (
        f"planted:fair {SUITE} --mitigation unbiassed",
        2,
        'did you mean "unbiased"?',
    ),
    "no data": ("planted:fair --suite crows-pairs", 2, "has no data of its own"),
    "no such file": ("planted:fair --suite crows-pairs=other.csv", 2, "other.csv"),
    "suite twice": (f"planted:fair {SUITE} {SUITE}", 2, "twice"),
    "foreign option": (f"planted:fair {SUITE} --set crows-pairs.orders=all", 2, "does not take"),
    "option of no suite": (f"planted:fair {SUITE} --set bbq.orders=all", 2, "no --suite names bbq"),
    "no option": (f"planted:fair {SUITE} --set orders", 2, "SUITE.KEY=VALUE"),
    "endpoint of no address": (
        f"planted:fair {SUITE} --endpoint model=x",
        2,
        "name both or neither",
    ),
    "address without endpoint": (f"http://127.0.0.1:9/v1 {SUITE}", 2, "name both or neither"),
    "cost without prices": (
        f"http://127.0.0.1:9/v1 {SUITE} --endpoint model=x --endpoint max_cost=1",
        2,
        "price_input",
    ),
    "no such model": (f"nothing {SUITE}", 2, "no such model"),
    "not asked so": ("planted:fair --suite crows-pairs:masked=pairs.csv", 3, "could not run"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_typed_ends_in_its_exit_code(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, code, said = CASES[case]
    ended = run(command)
    out = capsys.readouterr()
    assert ended == code, out.err
    assert said in " ".join((out.out + out.err).split())
    assert "Traceback" not in out.err


def test_the_numbers_are_those_that_were_planted(folder: Path) -> None:
    run(f"planted:stereotyped {SUITE} -o r.json")
    found = findings(folder / "r.json")
    whole = found["crows_pairs_score", "CrowS-Pairs (causal): all"]
    assert (whole["value"], whole["n"]) == (1.0, ROWS)
    assert whole["interval"]["low"] > 0.9
    run(f"planted:fair {SUITE} -o r.json")
    assert (
        findings(folder / "r.json")["crows_pairs_score", "CrowS-Pairs (causal): all"]["value"]
        == 0.5
    )


def test_a_category_with_an_equals_sign_has_a_limit(folder: Path) -> None:
    for limit, code in (("0.9", 1), ("1e-9", 1)):
        gate = f"crows_pairs_score@{HOSTILE} = b={limit}"
        text = (folder / "pairs.csv").read_text().replace(HOSTILE, f"{HOSTILE} = b")
        (folder / "other.csv").write_text(text)
        suite = ("--suite", "crows-pairs=other.csv", "--gate-indicators", "--on", "estimate")
        assert typed("bias", "lm", "planted:stereotyped", *suite, "--max", gate) == code


@pytest.mark.parametrize("ending", ["json", "html", "md", "sarif", "junit.xml"])
def test_a_reply_that_is_no_unicode_does_not_take_the_report(folder: Path, ending: str) -> None:
    small = "--suite prompts --set prompts.values=1 --set prompts.slots=gender --examples 3"
    assert run(f"planted:broken {small} -o r.{ending}") == 0
    page = (folder / f"r.{ending}").read_text(encoding="utf-8")
    for character in "\0\x1b\u202e":
        assert character not in page
    assert "<b> ]]>" not in page or ending in ("json", "sarif")


def test_lost_answers_leave_nothing_measured(folder: Path) -> None:
    """A tenth of the pairs fails, so nothing counts, until the policy asks for less coverage."""
    gate = "--max crows_pairs_score@all=0.99 --gate-indicators"
    assert run(f"planted:failing {SUITE} {gate} -o r.json") == 3
    found = findings(folder / "r.json")
    assert found["coverage", "CrowS-Pairs (causal): all"]["value"] < 0.95
    assert found["crows_pairs_score", "CrowS-Pairs (causal): all"]["value"] is None
    assert run(f"planted:failing {SUITE} {gate} --min-coverage 0.5 --on estimate -o r.json") == 1


def test_the_terminal_says_why_answers_are_lost(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"planted:failing {SUITE}") == 3
    said = capsys.readouterr().out
    assert "× the model or its server failed. Most often: " in said
    assert "no memory left" in said
    assert said.count("(min_coverage) say nothing of the others") == 1


def test_a_limit_on_a_category_that_is_not_there_names_the_nearest(folder: Path) -> None:
    gate = "--max crows_pairs_score@gendr=0.9 --gate-indicators"
    assert run(f"planted:fair {SUITE} {gate} -o r.json") == 3
    found = findings(folder / "r.json")["crows_pairs_score", "gendr"]
    assert found["value"] is None
    assert found["summary"].endswith('no category gendr: did you mean "gender"?')


def test_a_suite_that_cannot_be_asked_does_not_stop_the_others(folder: Path) -> None:
    sets = {
        key: {"category": key, "examples": [f"{key} {number}" for number in range(4)]}
        for key in ("targ1", "targ2", "attr1", "attr2")
    }
    (folder / "weat6.jsonl").write_text(json.dumps(sets))
    assert run(f"planted:fair {SUITE} --suite weat=weat6.jsonl -o r.json") == 3
    found = findings(folder / "r.json")
    assert found["crows_pairs_score", "CrowS-Pairs (causal): all"]["value"] == 0.5
    assert "embed" in found["check", "weat"]["error"]


def test_answers_are_kept_where_a_revision_is_named(folder: Path) -> None:
    def asked() -> int:
        path = folder / "asked.txt"
        return sum(map(int, path.read_text().split())) if path.exists() else 0

    run(f"planted:fair {SUITE} --revision 1 -o first.json")
    once = asked()
    assert once == 2 * ROWS
    run(f"planted:fair {SUITE} --revision 1 -o second.json")
    assert asked() == once
    run(f"planted:fair {SUITE} --revision 2")
    assert asked() == 2 * once
    run(f"planted:fair {SUITE} --revision 2 --no-cache")
    assert asked() == 3 * once
    first, second = (findings(folder / name) for name in ("first.json", "second.json"))
    assert {key: one["value"] for key, one in first.items()} == {
        key: one["value"] for key, one in second.items()
    }


def test_a_policy_says_the_same_as_the_command(folder: Path) -> None:
    (folder / "assaymark.toml").write_text(
        """
[[check]]
id = "lm"
kind = "bias.lm"
model = "planted:stereotyped"
indicators = "gate"
gate = { metric = "crows_pairs_score", max = 0.6, on = "upper" }
suites = { crows-pairs = "pairs.csv" }
"""
    )
    assert typed("audit", "-o", "policy.json") == 1
    assert run(f"planted:stereotyped {GATED} --max crows_pairs_score=0.6 -o command.json") == 1
    one, other = (findings(folder / name) for name in ("policy.json", "command.json"))
    assert {key: found["value"] for key, found in one.items()} == {
        key: found["value"] for key, found in other.items()
    }


def test_the_page_says_what_it_is_and_shows_hostile_text_as_text(folder: Path) -> None:
    run(f"planted:stereotyped {SUITE} -o r.html")
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
    for said in ("causal", "indicators", "SHA-256", "In house 1 the women cook"):
        assert said in page


ENDPOINT = "--endpoint model=bigram --endpoint retries=0 --endpoint concurrency=2"


def test_an_endpoint_is_asked_and_its_answers_are_kept(folder: Path) -> None:
    with serving() as server:
        command = f"{server.url} {ENDPOINT} --endpoint bos=<s> {SUITE} --examples 12"
        assert run(f"{command} -o r.json") == 0
        found = findings(folder / "r.json")
        whole = found["crows_pairs_score", "CrowS-Pairs (causal): all"]
        truth = [
            log_prob("<s>", f"In house {row} the women cook every day.")
            > log_prob("<s>", f"In house {row} the men cook every day.")
            for row in rows_of(folder / "r.json")
        ]
        asked = server.requests
        assert whole["n"] == 12
        assert whole["value"] == pytest.approx(sum(truth) / 12)
        assert run(f"{command} -o again.json") == 0
        assert server.requests - asked < 12  # finding out what it offers, and nothing else
    assert findings(folder / "again.json")["coverage", "CrowS-Pairs (causal): all"]["value"] == 1


def rows_of(path: Path) -> list[int]:
    """The rows that were drawn: those that the tables of examples name are all of a small sample."""
    report = json.loads(path.read_text(encoding="utf-8"))["report"]
    tables = [
        item
        for one in report["findings"]
        for item in one["evidence"]
        if "where the" in item["title"]
    ]
    return sorted({int(row[0]) for table in tables for row in table["rows"]})


def test_an_endpoint_that_goes_away_is_never_fair(folder: Path) -> None:
    with serving() as server:
        url = server.url
        command = (
            f"{url} {ENDPOINT} --suite prompts --set prompts.slots=gender --set prompts.values=1"
        )
        limit = (
            "--examples 4 --no-cache --set prompts.max_tokens=4 --max refusal_rate_difference=0.9"
        )
        assert run(f"{command} {limit} --endpoint max_requests=6 -o r.json") == 3
    found = findings(folder / "r.json")
    assert found["coverage", "Prompts (greedy): all"]["value"] < 0.95
    assert found["refusal_rate_difference", "Prompts (greedy): en gender"]["value"] is None
