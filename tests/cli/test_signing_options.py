"""Options of `assaymark sign` that belong together, and what its templates are relative to."""

import os
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assaymark.cli.exit import Interrupted
from assaymark.cli.main import app
from assaymark.cli.sign import _interruptible, _training
from assaymark.provenance.claims import OPT_OUT
from assaymark.provenance.keys import new_chain, write_chain
from assaymark.provenance.plan import Plan, Task
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import examine
from assaymark.reports.errors import InputError

WORDS = "A caption of a red fox.\n" * 8


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "keys"
    write_chain(new_chain("Example Press", algorithm="ed25519"), folder, b"pw")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Path):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAYMARK_PASSPHRASE", "pw")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return lambda *words: CliRunner().invoke(app, ["sign", *words, "--keys", str(keys)])


def test_an_opt_out_is_narrowed_or_widened_but_not_contradicted() -> None:
    assert _training(True, []) == dict(OPT_OUT)
    assert _training(True, ["ai_inference=notAllowed"]) == {
        **OPT_OUT,
        "ai_inference": "notAllowed",
    }
    same = _training(True, ["ai_training=notAllowed"])
    assert sorted(use.removeprefix("cawg.") for use in same) == sorted(
        use.removeprefix("cawg.") for use in OPT_OUT
    )
    with pytest.raises(InputError, match="--no-training and --training ai_training=allowed"):
        _training(True, ["ai_training=allowed"])


@pytest.mark.parametrize("place", ["a", "./a", "a/b", "absolute"])
def test_an_index_names_files_below_the_signed_folder(run, tmp_path: Path, place: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "a" / "b" if place == "absolute" else Path(place)
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.txt").write_text(WORDS)
    Path("i.csv").write_text("path,author,source_type\nsub/x.txt,Jo,generated\n")
    found = run(str(folder), "--index", "i.csv", "-o", "out")
    assert found.exit_code == 0, found.output
    assert examine(Path("out/sub/x.txt")).authors == ("Jo",)


def test_an_index_names_the_one_file(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    Path("a").mkdir()
    Path("a/x.txt").write_text(WORDS)
    Path("i.csv").write_text("path,author\nx.txt,Jo\n")
    found = run("a/x.txt", "--index", "i.csv", "-o", "y.txt")
    assert found.exit_code == 0, found.output


def test_a_role_needs_an_actor(run) -> None:  # type: ignore[no-untyped-def]
    Path("x.txt").write_text(WORDS)
    found = run("x.txt", "--role", "creator")
    assert isinstance(found.exception, InputError)
    assert "--identity" in str(found.exception)
    assert os.listdir() == ["x.txt"]


def test_a_damaged_log_is_found_before_anything_is_signed(run) -> None:  # type: ignore[no-untyped-def]
    Path("x.txt").write_text(WORDS)
    Path("log").write_text("this is no log\n")
    found = run("x.txt", "--log", "log", "-o", "y.txt")
    assert "is damaged" in str(found.exception)
    assert sorted(os.listdir()) == ["log", "x.txt"]


def test_what_fails_for_one_reason_is_said_once(run) -> None:  # type: ignore[no-untyped-def]
    Path("in").mkdir()
    for number in range(9):
        Path(f"in/{number}.jpg").touch()
    Path("in/x.txt").write_text(WORDS)
    found = run("in", "-o", "out")
    assert found.exit_code == 3
    assert "9 files: it is empty" in found.stderr
    assert "in/4.jpg and 4 more" in found.stderr
    assert "signed 1 of 10 files" in found.stdout


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("generated = true", 'source_type = "generated"'),
        ("no-training = true", 'training = {ai_training = "notAllowed"'),
        ('prompt_file = "p.txt"', "prompt_sha256"),
    ],
)
def test_a_template_that_uses_the_options_is_told_the_key(run, line: str, hint: str) -> None:  # type: ignore[no-untyped-def]
    Path("x.txt").write_text(WORDS)
    Path("t.toml").write_text(line + "\n")
    found = run("x.txt", "--template", "t.toml")
    assert hint in str(found.exception)


def test_an_output_that_is_the_input_is_called_so(run) -> None:  # type: ignore[no-untyped-def]
    Path("in").mkdir()
    Path("in/x.txt").write_text(WORDS)
    found = run("in", "-o", "in")
    assert "in is what is signed" in str(found.exception)


def test_an_authority_that_does_not_answer_is_named(run) -> None:  # type: ignore[no-untyped-def]
    Path("x.txt").write_text(WORDS)
    found = run("x.txt", "--tsa", "http://127.0.0.1:9/", "-o", "y.txt")
    assert "authority http://127.0.0.1:9/ gave no time stamp" in str(found.exception)
    assert os.listdir() == ["x.txt"]


def test_packed_packages_take_an_identity(run, keys: Path) -> None:  # type: ignore[no-untyped-def]
    with zipfile.ZipFile("x.zip", "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("a.txt", WORDS)
    found = run("x.zip", "--identity", str(keys), "-o", "y.zip")
    assert found.exit_code == 0, found.output
    anchor = (keys / "root.pem").read_text()
    assert examine(Path("y.zip"), Trust(signers=anchor, identities=anchor)).identity == "trusted"


def test_an_interrupted_folder_says_how_it_goes_on() -> None:
    planned = Plan(tasks=(Task(source=Path("a"), destination=Path("b")),), folder=Path("out"))
    told = pytest.raises(Interrupted, match="after 0 of 1 files; the same command goes on")
    with told, _interruptible(planned, []):
        raise KeyboardInterrupt
