"""Two engines judge the same files by the same anchors, and neither says a word to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from authorities import EMAIL, authority, pem
from media import media
from raw_signing import signed

from assaymark.provenance import second_opinion as module
from assaymark.provenance.formats import FORMATS
from assaymark.provenance.second_opinion import KNOWN, Opinion, available, second_opinion, verdicts
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verify import State, examine

pytestmark = pytest.mark.skipif(not available(), reason="encypher-c2pa is not installed")
ROOT = authority("a root", ca=True)
LEAF = authority("a signer", ROOT, purposes=EMAIL, critical=False)
TRUST = Trust(signers=pem(ROOT))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP", "GIF", "TIFF", "WAV", "MP4", "SVG", "MP3"])
def test_both_engines_trust_what_was_signed_and_neither_what_was_changed(
    tmp_path: Path, name: str
) -> None:
    kind = next(kind for kind in FORMATS if kind.name == name)
    path = tmp_path / f"a{kind.endings[0]}"
    data = signed(media(name), LEAF, media_type=kind.media_type)
    path.write_bytes(data)
    for trust, state in ((TRUST, State.TRUSTED), (NOBODY, State.UNTRUSTED)):
        opinion = second_opinion(examine(path, trust), trust)
        assert (opinion.state, opinion.agrees) == (state, True), opinion
    at = data.index(b"trainedAlgorithmicMedia") if name != "SVG" else data.index(b"fill")
    path.write_bytes(data[:at] + b"T" + data[at + 1 :])
    opinion = second_opinion(examine(path, TRUST), TRUST)
    assert (opinion.state, opinion.agrees) == (State.INVALID, True)
    assert "the engines agree" in verdicts(path, opinion)


DIFFERENT = {
    "adobe-20220124-E-uri-CIE-sig-CA.jpg": (State.INVALID, State.UNTRUSTED, "ingredients again"),
    "nikon-20221019-building.jpeg": (State.INVALID, State.UNTRUSTED, "expired"),
}


def test_the_engines_differ_on_two_official_files_and_the_table_says_why(shared: Path) -> None:
    folder, trust_list = (
        shared / "data" / "c2pa" / name for name in ("public-testfiles", "trust-list")
    )
    trust = Trust(
        signers=(trust_list / "C2PA-TRUST-LIST.pem").read_text(),
        time_stamps=(trust_list / "C2PA-TSA-TRUST-LIST.pem").read_text(),
    )
    files = [path for path in sorted(folder.rglob("*.jp*g")) if "manifests" not in path.parts]
    assert len(files) == 26
    found = {}
    for path in files:
        ours = examine(path, trust)
        opinion = second_opinion(ours, trust)
        assert opinion.agrees is not None
        if not opinion.agrees:
            found[path.name] = (ours.state, opinion.state)
            assert DIFFERENT[path.name][2] in opinion.known
    assert found == {name: states[:2] for name, states in DIFFERENT.items()}


def test_an_anchor_that_is_the_signer_is_a_known_difference(tmp_path: Path) -> None:
    lonely = authority("on my own", purposes=EMAIL, critical=False)
    path = tmp_path / "a.jpg"
    path.write_bytes(signed(media("JPEG"), lonely))
    trust = Trust(signers=pem(lonely))
    opinion = second_opinion(examine(path, trust), trust)
    assert opinion.agrees or "the signing certificate itself" in opinion.known


def test_nothing_is_written_to_a_home_and_nothing_is_sent(tmp_path: Path) -> None:
    """In a process of its own: its home stays empty, and no socket but those of the system's is made."""
    path = tmp_path / "a.jpg"
    path.write_bytes(signed(media("JPEG"), LEAF)[:-20])
    (tmp_path / "root.pem").write_text(pem(ROOT))
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys, socket\nfrom pathlib import Path\n"
        "from assaymark.provenance.second_opinion import second_opinion\n"
        "from assaymark.provenance.verify import examine\n"
        "from assaymark.provenance.trust import Trust\n"
        "trust = Trust(signers=Path(sys.argv[2]).read_text())\n"
        "print(second_opinion(examine(Path(sys.argv[1]), trust), trust).state)\n"
        "links = [str(item.readlink()) for item in Path('/proc/self/fd').iterdir() if item.is_symlink()]\n"
        "print(any(link.startswith('socket') for link in links))\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "root.pem")],
        capture_output=True, text=True, env=environment, timeout=120, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.split() == ["invalid", "False"]
    assert done.stderr == ""
    assert list(home.rglob("*")) == []


def test_the_environment_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCYPHER_C2PA_TELEMETRY", "on")
    monkeypatch.delenv("ENCYPHER_C2PA_ONLINE", raising=False)
    path = tmp_path / "a.jpg"
    path.write_bytes(signed(media("JPEG"), LEAF))
    assert second_opinion(examine(path, TRUST), TRUST).agrees
    assert os.environ["ENCYPHER_C2PA_TELEMETRY"] == "on"
    assert "ENCYPHER_C2PA_ONLINE" not in os.environ


@pytest.mark.long
def test_a_file_larger_than_the_engine_opens_itself_is_judged(tmp_path: Path) -> None:
    """Its limit for paths is 128 MiB; a map of the file has none."""
    path = tmp_path / "large.wav"
    size = 130 << 20
    head = b"RIFF" + (size + 36).to_bytes(4, "little") + b"WAVEfmt " + media("WAV")[16:36]
    with path.open("wb") as stream:
        stream.write(head + b"data" + size.to_bytes(4, "little"))
        stream.truncate(size + 44)
    opinion = second_opinion(examine(path, TRUST), TRUST)
    assert (opinion.state, opinion.agrees) == (State.NO_MANIFEST, True)


def test_without_the_engine_there_is_no_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available", lambda: False)
    path = tmp_path / "a.jpg"
    path.write_bytes(media("JPEG"))
    opinion = second_opinion(examine(path), NOBODY)
    assert (opinion.state, opinion.agrees) == (None, None)
    assert "pip install 'assaymark[encypher]'" in opinion.why


def test_an_engine_that_refuses_gives_no_opinion(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    for data in (b"", b"no kind that is known"):
        path.write_bytes(data)
        opinion = second_opinion(examine(path), NOBODY)
        assert (opinion.state, opinion.agrees) == (None, None)
        assert opinion.why.startswith("not given")
    with pytest.raises(ValueError, match="agrees or not"):
        Opinion(state=None, why="", agrees=True)


def test_the_table_of_differences_is_of_different_verdicts() -> None:
    assert all(item.ours is not item.theirs and item.codes and item.why for item in KNOWN)
