"""Keys, signing, verifying, recovering: as a user types it, in one process so that it is quick."""

import io
import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
from PIL import Image

from assaymark.provenance.keys import new_chain, write_chain

ROOT = Path(__file__).parent.parent.parent
ANCHOR = ("--trust-anchor", "keys/root.pem")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "keys"
    write_chain(new_chain("Example Press"), folder, b"correct horse")
    return folder


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key_folder: Path,
) -> Iterator[Run]:
    """`assaymark …` in a folder with keys and a picture."""
    import shutil

    from assaymark.cli.main import main

    shutil.copytree(key_folder, tmp_path / "keys")
    picture(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAYMARK_PASSPHRASE", "correct horse")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def go(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["assaymark", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    yield go
    for number, handler in handlers.items():
        signal.signal(number, handler)


def picture(path: Path, seed: int = 0) -> None:
    small = numpy.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=numpy.uint8)
    Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=92)


def good(done: Done) -> str:
    assert done.code == 0, done.out + done.err
    return done.out


def test_one_command_makes_keys_and_a_trusted_file(run: Run) -> None:
    out = good(run("keys", "new", "fresh", "--organization", "Example Press", "--try", "photo.jpg"))
    assert "photo.signed.jpg: trusted" in out
    good(run("verify", "photo.signed.jpg", "--trust-anchor", "fresh/root.pem"))


def test_what_is_said_is_read_back_by_rules_and_inspect(run: Run) -> None:
    Path("prompt.txt").write_text("a red fox")
    good(run(
        "sign", "photo.jpg", "-o", "s.jpg", "--keys", "keys", "--generated", "--author", "Ann Example",
        "--organization", "Example Press", "--generator", "Example Diffusion", "--generator-version",
        "3", "--prompt-file", "prompt.txt", "--no-training", "--tsa", "keys",
    ))  # fmt: skip
    rules = ["require-ai-disclosure", "require-author", "require-training-opt-out", "max-age-days=2",
             "require-time-stamp", "allowed-signers=Example Press", "no-lost-history", "no-sidecar",
             "allowed-source-types=trainedAlgorithmicMedia", "min-claim-version=2",
             "required-assertions=cawg.metadata", "allowed-algorithms=es256"]  # fmt: skip
    asked = [word for rule in rules for word in ("--rule", rule)]
    stamps = ("--tsa-anchor", "keys/root.pem")
    good(run("verify", "s.jpg", *ANCHOR, *stamps, *asked, "--records", "r.jsonl", "-o", "v.json"))
    record = json.loads(Path("r.jsonl").read_text())
    assert record["authors"] == ["Ann Example"]
    assert record["time_stamp"] == "trusted"
    assert record["broken_rules"] == []
    assert "a red fox" not in Path("s.jpg").read_text("latin-1")
    text = good(run("inspect", "s.jpg", *ANCHOR, *stamps))
    assert "s.jpg: trusted" in text
    assert "Ann Example" in text
    document = json.loads(good(run("inspect", "s.jpg", *ANCHOR, "--json")))
    assert document["state"] == "trusted"
    good(run("inspect", "s.jpg", "-o", "page.html"))
    assert "<script" not in Path("page.html").read_text()


def test_a_rule_that_is_broken_is_1_and_one_that_cannot_be_decided_is_3(run: Run) -> None:
    good(run("sign", "photo.jpg", "-o", "s.jpg", "--keys", "keys"))
    broken = run("verify", "s.jpg", *ANCHOR, "--rule", "require-author")
    assert broken.code == 1
    assert "no author is named" in broken.out
    undecided = run("verify", "s.jpg", *ANCHOR, "--rule", "max-age-days=3")
    assert undecided.code == 3
    assert "no trusted time of signing" in undecided.out
    assert run("verify", "s.jpg", "photo.jpg", *ANCHOR, "--rule", "must-be-trusted").code == 1
    good(run("verify", "s.jpg", "--rule", "must-be-intact"))
    data = bytearray(Path("s.jpg").read_bytes())
    data[-50] ^= 1
    Path("t.jpg").write_bytes(data)
    assert run("verify", "t.jpg", *ANCHOR, "--rule", "require-author", "--exit-zero").code == 4


def test_a_folder_is_signed_resumed_and_verified_by_a_policy(run: Run) -> None:
    from media import write

    media = Path("media")
    (media / "deep").mkdir(parents=True)
    for name in ("PNG", "WAV", "MP4", "DOCX", "Markdown", "JSON", "PDF"):
        write(media, name)
    picture(media / "deep" / "x.jpg")
    (media / ".hidden").write_text("x")
    done = run("sign", "media", "--keys", "keys", "--generated", "--log", "log.jsonl")
    assert "signed 8 of 8 files into media.signed" in good(done)
    assert "begin with a dot were left out" in done.err
    again = run("sign", "media", "--keys", "keys", "--generated", "--log", "log.jsonl")
    assert "8 were signed before" in good(again)
    other = run("sign", "media", "--keys", "keys", "--captured")
    assert "signed 8 of 8" in good(other)  # something else is said, and what lay there was ours
    Path("assaymark.toml").write_text(
        '[[check]]\nid = "media"\nkind = "provenance"\nfiles = ["media.signed"]\n'
        'trust_anchors = ["keys/root.pem"]\nrules = { require_ai_disclosure = true }\n'
        'gate = [{ metric = "compliant_files", min = 1.0 }, { metric = "trusted_files", min = 1.0 }]\n'
    )
    good(run("audit", "-o", "r.html", "-o", "r.json"))
    report = json.loads(Path("r.json").read_text())
    assert {item["measure"] for item in report["report"]["findings"]} == {
        "compliant_files", "trusted_files", "require_ai_disclosure",
    }  # fmt: skip
    (media / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    failed = run("sign", "media", "--keys", "keys", "--captured")
    assert failed.code == 3
    assert "signed 0 of 9" in failed.out
    assert "bad.png cannot be decoded" in failed.err
    assert not Path("media.signed/bad.png").exists()


def test_templates_and_an_index_say_what_each_file_is(run: Run) -> None:
    (toml,) = re.findall(
        r"```toml\n(author.*?)```", (ROOT / "docs" / "provenance.md").read_text("utf-8"), re.DOTALL
    )
    Path("t.toml").write_text(toml)
    media = Path("media")
    (media / "photos").mkdir(parents=True)
    for i, name in enumerate(("a.jpg", "photos/b.jpg")):
        picture(media / name, i)
    Path("works.csv").write_text("path,title\na.jpg,First\nphotos/b.jpg,Second\n")
    options = ("--keys", "keys", "--template", "t.toml")
    good(run("sign", "media", "-o", "out", *options))
    good(run("verify", "out", *ANCHOR, "--records", "r.jsonl"))
    records = map(json.loads, Path("r.jsonl").read_text().splitlines())
    found = {Path(item["path"]).name: item for item in records}
    assert found["a.jpg"]["source_types"] == ["trainedAlgorithmicMedia"]
    assert found["b.jpg"]["source_types"] == ["digitalCapture"]
    assert found["a.jpg"]["title"].startswith("a, made on 20")
    assert "com.example.job" in found["b.jpg"]["assertions"]
    good(run("sign", "media", "-o", "out2", *options, "--index", "works.csv"))
    titles = json.loads(good(run("inspect", "out2/photos/b.jpg", "--json")))
    assert titles["title"] == "Second"
    Path("works.csv").write_text("path,title\na.jpg,First\n")
    missing = run("sign", "media", "-o", "out3", *options, "--index", "works.csv")
    assert missing.code == 3
    assert "photos/b.jpg" in missing.err


def test_history_identity_and_ingredients(run: Run) -> None:
    good(run("sign", "photo.jpg", "-o", "a.jpg", "--keys", "keys", "--captured"))
    good(run("sign", "a.jpg", "-o", "b.jpg", "--keys", "keys", "--edited-with-ai"))
    picture(Path("c.jpg"), 3)
    good(run("sign", "c.jpg", "-o", "d.jpg", "--keys", "keys", "--generated", "--ingredient",
             "inputTo:b.jpg", "--identity", "keys", "--role", "creator"))  # fmt: skip
    good(run("verify", "a.jpg", "b.jpg", "d.jpg", *ANCHOR, "--rule", "no-lost-history"))
    actor = ("--rule", "require-identity", "--identity-anchor")
    good(run("verify", "d.jpg", *ANCHOR, *actor, "keys/root.pem"))
    good(run("keys", "new", "others", "--organization", "Others"))
    stranger = run("verify", "d.jpg", *ANCHOR, *actor, "others/root.pem")
    assert stranger.code == 1
    assert "no trusted identity" in stranger.out
    assert "digitalCapture" in good(run("inspect", "d.jpg", *ANCHOR))
    two = run("sign", "b.jpg", "-o", "e.jpg", "--keys", "keys", "--generated")
    assert two.code == 2
    assert "edited-with-ai" in two.err
    assert not Path("e.jpg").exists()


def test_revoked_keys_are_refused_and_found_by_a_list(run: Run) -> None:
    good(run("sign", "photo.jpg", "-o", "s.jpg", "--keys", "keys"))
    required = ("--rule", "revocation=required")
    assert run("verify", "s.jpg", *ANCHOR, *required).code == 3  # nobody says that it is good
    assert "current" in good(run("keys", "show", "keys"))
    serial = json.loads(good(run("keys", "show", "keys", "--json")))[0]["serial"]
    good(run("keys", "rotate", "keys"))
    good(run("keys", "revoke", "keys", serial, "--reason", "keyCompromise"))
    listed = run("verify", "s.jpg", *ANCHOR, *required, "--crl", "keys/crl.pem")
    assert listed.code == 1
    assert "revoked" in listed.out
    good(run("sign", "photo.jpg", "-o", "new.jpg", "--keys", "keys"))
    good(run("verify", "new.jpg", *ANCHOR, *required, "--crl", "keys/crl.pem"))
    good(run("keys", "revoke", "keys"))
    refused = run("sign", "photo.jpg", "-o", "x.jpg", "--keys", "keys")
    assert refused.code == 2
    assert "was revoked" in refused.err


def test_a_stripped_copy_is_led_back_to_its_manifest(run: Run) -> None:
    Path("mark.key").write_text("0123456789abcdef0123456789abcdef")
    store = ("--store", "works.db", "--watermark-key", "mark.key")
    good(run("sign", "photo.jpg", "-o", "s.jpg", "--keys", "keys", "--captured", *store))
    with Image.open("s.jpg") as signed:
        signed.convert("RGB").save("stripped.jpg", quality=80)
    assert run("verify", "stripped.jpg", *ANCHOR).code == 1
    out = good(run("recover", "stripped.jpg", *store, *ANCHOR, "-o", "found.c2pa"))
    assert "by watermark and fingerprint" in out
    assert Path("found.c2pa").read_bytes()[4:8] == b"jumb"
    found = json.loads(good(run("recover", "stripped.jpg", *store, *ANCHOR, "--json")))
    assert found["candidates"][0]["trusted"] is True
    picture(Path("other.jpg"), 7)
    none = run("recover", "other.jpg", *store)
    assert none.code == 1
    assert "nothing in the store leads to other.jpg" in none.out
    assert run("recover", "other.jpg", "--store", "gone.db").code == 2
    good(
        run("watermark", "add", "photo.jpg", "-o", "m.jpg", "--payload", "77", "--key", "mark.key")
    )
    assert "marked with 77" in good(run("watermark", "detect", "m.jpg", "--key", "mark.key"))
    assert run("watermark", "detect", "photo.jpg", "--key", "mark.key").code == 1


def test_the_log_proves_what_was_signed_and_shows_what_was_changed(run: Run) -> None:
    for name in ("a.jpg", "b.jpg"):
        good(run("sign", "photo.jpg", "-o", name, "--keys", "keys", "--log", "log.jsonl"))
    assert "2 entries" in good(run("log", "check", "log.jsonl"))
    good(run("log", "checkpoint", "log.jsonl", "-o", "head", "--keys", "keys"))
    good(run("log", "prove", "log.jsonl", "a.jpg", "-o", "p.json", "--checkpoint", "head"))
    chain = ("--signed-by", "keys/chain.pem")
    good(run("log", "verify", "p.json", "a.jpg", *chain, *ANCHOR))
    assert run("log", "verify", "p.json", "a.jpg", *chain).code == 1
    assert run("log", "verify", "p.json", "b.jpg", *chain, *ANCHOR).code == 4
    lines = Path("log.jsonl").read_text().splitlines(keepends=True)
    Path("log.jsonl").write_text(lines[0].replace("a.jpg", "z.jpg") + lines[1])
    assert run("log", "check", "log.jsonl").code == 4
    Path("log.jsonl").write_text(lines[0])
    good(run("log", "check", "log.jsonl"))  # an end that is cut off is seen by the head only
    cut = run("log", "check", "log.jsonl", "--checkpoint", "head", *chain)
    assert cut.code == 4


def test_a_folder_of_weights_beside_its_signature(run: Run) -> None:
    weights = Path("weights")
    weights.mkdir()
    (weights / "a.safetensors").write_bytes(bytes(1000))
    (weights / "config.json").write_text("{}")
    good(run("model", "sign", "weights", "-o", "w.sig", "--keys", "keys"))
    good(run("model", "verify", "weights", "w.sig", *ANCHOR, "-o", "r.html"))
    assert run("model", "verify", "weights", "w.sig").code == 1
    (weights / "config.json").write_text("{ }")
    changed = run("model", "verify", "weights", "w.sig", *ANCHOR, "--exit-zero")
    assert changed.code == 4
    assert "config.json" in changed.out
    assert run("model", "verify", "weights", "gone.sig", *ANCHOR).code == 3
    assert run("model", "verify", "gone", "w.sig", *ANCHOR).code in (3, 4)
    Path("p.toml").write_text(
        '[[check]]\nid = "w"\nkind = "provenance.folder"\nfolder = "weights"\nsignature = "w.sig"\n'
        'trust_anchors = ["keys/root.pem"]\ngate = { metric = "matching_files", min = 0.4 }\n'
    )
    assert run("audit", "p.toml").code == 4  # a gate on half the files does not hide the rest


@pytest.mark.long  # torch is loaded; what README shows of it runs in every test
def test_a_report_is_bound_to_its_model(run: Run) -> None:
    good(run("attack", "demo:digits", "demo:digits", "-a", "fgsm", "--eps", "0.01", "--examples", "20",
             "-o", "r.json"))  # fmt: skip
    good(run("attest", "make", "r.json", "-o", "att.json", "--keys", "keys"))
    good(run("attest", "verify", "att.json", "--report", "r.json", *ANCHOR))
    assert run("attest", "verify", "att.json", "--report", "r.json").code == 1
    text = Path("r.json").read_text()
    Path("edited.json").write_text(text.replace('"demo:digits"', '"demo:digitz"', 1))
    assert run("attest", "verify", "att.json", "--report", "edited.json", *ANCHOR).code == 4
    assert run("attest", "verify", "att.json", "--subject", "photo.jpg", *ANCHOR).code == 4
    assert run("attest", "verify", "gone.json", *ANCHOR).code == 3


WRONG = [
    ("sign photo.jpg", "name a folder with --keys"),
    ("sign photo.jpg --keys gone", "gone is no folder of keys"),
    ("sign photo.jpg --keys keys --chain keys/chain.pem", "exclude each other"),
    ("sign gone.jpg --keys keys", "gone.jpg does not exist"),
    ("sign photo.jpg --keys keys -o photo.png", "ends in .png"),
    ("sign photo.jpg --keys keys -o photo.jpg", "is the source itself"),
    ("sign photo.jpg --keys keys --generated --captured", "exclude each other"),
    ("sign photo.jpg --keys keys --source-type aiGenerated", "aiGenerated"),
    ("sign photo.jpg --keys keys --training ai_training", "expected USE=PERMISSION"),
    ("sign photo.jpg --keys keys --training ai_training=maybe", "maybe"),
    ("sign photo.jpg --keys keys --generator X", "say how"),
    ("sign photo.jpg --keys keys --prompt-sha256 12 --generated", "64 hexadecimal digits"),
    ("sign photo.jpg --keys keys --ingredient gone.jpg --generated", "gone.jpg"),
    ("sign photo.jpg --keys keys --template gone.toml", "gone.toml"),
    ("sign photo.jpg --keys keys --title X --template gone.toml", "exclude each other"),
    ("sign photo.jpg --keys keys --tsa gone", "holds no time-stamping authority"),
    ("sign photo.jpg --keys keys --tsa ftp://x", "holds no time-stamping authority"),
    ("sign photo.jpg --keys keys --watermark-key photo.jpg", "--store"),
    ("verify", "nothing to verify"),
    ("verify photo.jpg --rule unheard-of", "there is no such rule"),
    ("verify photo.jpg --rule require-author=yes", "takes no value"),
    ("verify photo.jpg --rule max-age-days", "expected max-age-days=VALUE"),
    ("verify photo.jpg --rule max-age-days=soon", "max_age_days"),
    ("verify photo.jpg --rule require-identity", "needs identity_anchors"),
    ("verify photo.jpg --crl gone.pem --rule revocation=required", "gone.pem"),
    ("inspect gone.jpg", "is no file"),
    ("inspect photo.jpg -o page.pdf", "expected .html, .json, .txt"),
    ("keys show gone", "gone"),
    ("keys revoke keys 00", "00"),
    ("keys rotate keys --algorithm rsa", "rsa"),
    ("keys install keys photo.jpg", "no request waits"),
    ("model sign gone -o g.sig --keys keys", "gone"),
    ("model sign keys -o g.sig --keys keys --links maybe", "maybe"),
    ("attest make photo.jpg -o a.json --keys keys", "photo.jpg"),
    ("log check gone.jsonl", "gone.jsonl"),
    ("log prove gone.jsonl photo.jpg -o p.json", "gone.jsonl"),
    ("recover photo.jpg --store gone.db", "there is no store at gone.db"),
    ("recover photo.jpg --store gone.db --false-match 2", "expected a probability"),
    ("watermark add photo.jpg -o m.jpg --payload 1 --key keys/root.key.pem.gone", "cannot read"),
]


@pytest.mark.parametrize(("line", "expected"), WRONG, ids=lambda text: text[:60])
def test_wrong_use_is_one_sentence_and_leaves_nothing(run: Run, line: str, expected: str) -> None:
    before = sorted(Path().rglob("*"))
    done = run(*shlex.split(line))
    assert done.code == 2, done
    told = [text for text in done.err.splitlines() if not text.startswith("no --trust-anchor")]
    assert expected in done.err
    assert "Traceback" not in done.err
    assert len(told) <= 4
    after = [path for path in sorted(Path().rglob("*")) if ".state" not in path.parts]
    assert after == [path for path in before if ".state" not in path.parts]


def test_rules_of_policy_and_command_line_are_those_there_are() -> None:
    from assaymark.provenance.rules import RULES
    from assaymark.reports.policy_provenance import RuleTable

    assert list(RuleTable.model_fields) == list(RULES)


def test_the_list_of_rules_names_all(run: Run) -> None:
    from assaymark.provenance.rules import RULES

    out = good(run("verify", "--list-rules"))
    assert all(rule.name in out for rule in RULES.values())
